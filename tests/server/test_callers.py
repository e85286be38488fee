"""Who may call, on fake clocks: the bounds of one caller, over processes, and the lines of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from webhook_bench import SETTINGS

from bridge.agents.agent import CallInfo
from bridge.agents.sessions import Session
from bridge.agents.slots import UNREPORTED_S
from bridge.call.ends import Outcome
from bridge.metrics import Metrics
from bridge.number_lists import NumberLists
from bridge.seal import Seal
from bridge.server.callers import GONE_S, LINE_EVERY_S, MOST_CALLERS, MOST_LINES, PLACE_S, REASONS, Callers
from bridge.server.registry import Phase, Registry
from bridge.server.store.breaker import OPEN_S, Breaker
from bridge.server.store.memory import MemoryStore
from bridge.server.store.store import Kept, StoreError
from bridge.server.store.tallies import Tallies
from bridge.settings import load_settings

START = 1_800_000_000.0
NUMBER, OTHER = "+15551234567", "+15557654321"
NO_SESSION = Session((), {})


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


def sid(n: int) -> str:
    return f"CA{n:032x}"


class Store(MemoryStore):
    is_away = False
    asked = 0
    keys: set[str]

    def __init__(self) -> None:
        super().__init__()
        self.keys = set()

    async def read(self, key: str) -> Kept | None:
        self.asked += 1
        if self.is_away:
            raise StoreError("away")
        return await super().read(key)

    async def write(self, key: str, text: str, ttl_s: float, after: int) -> bool:
        self.asked += 1
        self.keys.add(key + text)
        return await super().write(key, text, ttl_s, after)


class World:
    """The clocks and the store of all processes."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.store = Store()

    def process(self, owner: str = "a", **settings: object) -> Process:
        return Process(self, owner, {name: str(value) for name, value in settings.items()})

    async def run(self, seconds: int, *processes: Process) -> None:
        for _ in range(seconds):
            self.passed_s += 1
            for process in processes:
                await process.callers.on_round()


class Process:
    """One process without its sockets."""

    def __init__(self, world: World, owner: str, settings: Mapping[str, str]) -> None:
        self.registry = Registry(1000, 1e9)
        self.metrics = Metrics()
        self.calls = 0
        breaker = Breaker(world.store, self.metrics, lambda: world.passed_s)
        self.callers = Callers(
            load_settings({**SETTINGS, **settings}, env_file="/dev/null"),
            Tallies(world.store, breaker, Seal(["auth"])),
            owner,
            self.registry,
            self.has_call,
            self.metrics,
            lambda: world.passed_s,
            lambda: START + world.passed_s,
        )

    def has_call(self, call_sid: str) -> bool:
        entry = self.registry.find(call_sid)
        return entry is not None and entry.phase is not Phase.OVER

    async def ask(self, n: int, number: str = NUMBER) -> str:
        """Ask for a call; one that is taken is up."""
        reason = await self.callers.refusal(CallInfo(sid(n), number, "+14155550100"))
        if not reason:
            self.registry.readmit(sid(n), f"m{n}", NO_SESSION, 0, 0.0)
        return reason

    async def ask_each(self, *numbers: int, number: str = NUMBER) -> list[str]:
        return [await self.ask(n, number) for n in numbers]

    def end(self, n: int, outcome: Outcome = Outcome.ENDED) -> None:
        self.registry.finish(sid(n), outcome, 0.0)

    def refused(self, reason: str) -> float | None:
        return self.metrics.registry.get_sample_value("bridge_calls_refused_total", {"reason": reason})


@pytest.fixture
def world() -> World:
    return World()


def info(n: int, number: str = NUMBER) -> CallInfo:
    return CallInfo(sid(n), number, "+14155550100")


# One process


async def test_caller_who_calls_thirty_times_a_minute_is_refused_after_the_bound_and_nobody_else(world, logs):
    process = world.process(BRIDGE_CALLER_PER_HOUR=5)
    for n in range(30):
        world.passed_s += 2
        assert await process.ask(n) == ("" if n < 5 else "caller_per_hour")
        assert await process.ask(100 + n, f"+1555000{n:04}") == ""
    assert process.refused("caller_per_hour") == 25
    world.passed_s = 3600 + 2
    assert await process.ask(31) == ""


async def test_call_beyond_those_that_are_up_waits_for_the_end_of_one(world):
    process = world.process(BRIDGE_CALLER_CALLS_MAX=2)
    assert await process.ask_each(1, 2, 3) == ["", "", "caller_at_once"]
    assert await process.ask(4, OTHER) == ""
    process.end(1)
    # At once, before the next round.
    assert await process.ask_each(5, 6) == ["", "caller_at_once"]


async def test_calls_of_one_moment_see_each_other(world):
    process = world.process(BRIDGE_CALLER_CALLS_MAX=2)
    found = await asyncio.gather(*(process.ask(n) for n in range(10)))
    assert sorted(found) == ["", "", *8 * ["caller_at_once"]]


async def test_webhook_that_comes_again_counts_once(world):
    process = world.process(BRIDGE_CALLER_CALLS_MAX=1, BRIDGE_CALLER_PER_HOUR=1)
    assert await process.ask_each(1, 1, 1) == ["", "", ""]


async def test_refused_calls_do_not_count(world):
    process, other = (
        world.process(name, BRIDGE_CALLER_CALLS_MAX=1, BRIDGE_CALLER_PER_HOUR=2) for name in "ab"
    )
    assert await process.ask(1) == ""
    assert await other.ask_each(2, 3, 4) == 3 * ["caller_at_once"]
    process.end(1)
    await world.run(1, process)
    assert await other.ask(5) == ""


async def test_call_between_two_media_sockets_keeps_its_place_for_a_while(world):
    process = world.process(BRIDGE_CALLER_CALLS_MAX=1)
    assert await process.ask(1) == ""
    process.end(1, Outcome.CALLER_LOST)
    await world.run(int(GONE_S) - 1, process)
    process.registry.readmit(sid(1), "m", NO_SESSION, 1, 0.0)
    await world.run(60, process)
    assert await process.ask(2) == "caller_at_once"
    process.end(1, Outcome.AGENT_LOST)
    await world.run(int(GONE_S) + 1, process)
    assert await process.ask(2) == ""


@pytest.mark.parametrize("number", ["", "+266696687", "client:alice", "sip:me@example.com", "Anonymous"])
async def test_callers_without_a_number_have_a_bound_of_their_own_together(world, number):
    free = world.process("a", BRIDGE_CALLER_CALLS_MAX=1, BRIDGE_CALLER_PER_HOUR=1)
    assert await free.ask_each(1, 2, 3, number=number) == ["", "", ""]
    assert world.store.asked == 0
    bound = world.process("b", BRIDGE_ANONYMOUS_PER_HOUR=2)
    assert await bound.ask_each(4, 5, number=number) == ["", ""]
    assert await bound.ask(6, "") == "anonymous_per_hour"
    assert await bound.ask_each(7, 8, 9) == ["", "", ""]


async def test_lists_go_before_the_bounds(world, tmp_path: Path):
    file = tmp_path / "numbers.toml"
    file.write_text(f'refused = ["+1900*", "anonymous"]\nallowed = ["{NUMBER}"]\n')
    settings = {"BRIDGE_CALLER_PER_HOUR": 1, "BRIDGE_CALLER_CALLS_MAX": 1, "BRIDGE_DAY_MINUTES": 1}
    process = world.process(BRIDGE_NUMBERS_FILE=file, **settings)
    process.callers.on_over(info(0), 60)
    assert await process.ask_each(1, 2, 3) == ["", "", ""]
    assert await process.ask(4, "+19005550100") == "number_refused"
    assert await process.ask(5, "+266696687") == "number_refused"
    assert await process.ask(6, OTHER) == "day_minutes"
    process.callers.use(NumberLists(allowed=frozenset({"+49*"}), only_allowed=True))
    assert await process.ask(7) == "number_not_allowed"
    assert [process.refused(reason) for reason in REASONS] == [2, 1, 0, 0, 0, 1]


async def test_without_bounds_the_store_is_not_asked(world):
    process = world.process()
    assert await process.ask_each(1, 2, 3) == ["", "", ""]
    process.callers.on_start(info(1))
    process.callers.on_over(info(1))
    await world.run(100, process)
    process.callers.start()
    await process.callers.stop()
    assert world.store.asked == 0


async def test_new_call_costs_one_question_and_a_caller_who_goes_on_none(world):
    process = world.process(BRIDGE_CALLER_PER_HOUR=1)
    assert await process.ask(1) == ""
    assert world.store.asked == 2
    assert await process.ask_each(2, 3, 4) == 3 * ["caller_per_hour"]
    assert world.store.asked == 2


async def test_store_holds_no_number(world):
    process = world.process(BRIDGE_CALLER_CALLS_MAX=1, BRIDGE_CALLER_PER_HOUR=1)
    await process.ask(1)
    assert world.store.keys
    assert not [text for text in world.store.keys if NUMBER[1:] in text]


# Several processes


async def test_bounds_hold_over_processes(world):
    one, other = (world.process(name, BRIDGE_CALLER_CALLS_MAX=2, BRIDGE_CALLER_PER_HOUR=3) for name in "ab")
    assert [await one.ask(1), await other.ask(2), await one.ask(3), await other.ask(4)] == [
        *("", ""),
        *2 * ["caller_at_once"],
    ]
    other.end(2)
    await world.run(1, one, other)
    assert await one.ask(5) == ""
    one.end(5)
    assert await one.ask(6) == "caller_per_hour"


async def test_places_are_renewed_and_those_of_a_dead_process_end(world):
    dead, other = (world.process(name, BRIDGE_CALLER_CALLS_MAX=1) for name in "ab")
    assert await dead.ask(1) == ""
    await world.run(3 * int(PLACE_S), dead, other)
    assert await other.ask(2) == "caller_at_once"
    await world.run(int(PLACE_S), other)
    assert await other.ask(2) == ""


async def test_call_whose_media_socket_is_at_another_process_counts_once(world):
    one, other = (world.process(name, BRIDGE_CALLER_CALLS_MAX=2) for name in "ab")
    assert await one.ask(1) == ""
    other.registry.readmit(sid(1), "m", NO_SESSION, 0, 0.0)
    other.callers.on_start(info(1))
    one.registry.release(sid(1))
    # The first process gives its own place back, and the other one has not renewed its place yet.
    await world.run(int(GONE_S) + 2, one, other)
    assert await one.ask_each(2, 3) == ["", "caller_at_once"]
    await world.run(2 * int(PLACE_S), one, other)
    assert await one.ask(3) == "caller_at_once"
    other.end(1)
    await world.run(1, other)
    assert await one.ask(3) == ""


async def test_handed_over_call_has_its_place_until_any_process_hears_of_its_end(world):
    one, other = (world.process(name, BRIDGE_CALLER_CALLS_MAX=1) for name in "ab")
    assert await one.ask(1) == ""
    one.callers.on_handed_over(sid(1), is_reported=False)
    one.end(1, Outcome.DIALLED)
    await world.run(2 * int(PLACE_S), one, other)
    assert [await one.ask(2), await other.ask(3)] == 2 * ["caller_at_once"]
    other.callers.on_over(info(1))
    await world.run(1, other)
    assert await other.ask(3) == ""


async def test_end_of_a_handed_over_call_that_nobody_reports_is_assumed(world):
    process = world.process(BRIDGE_CALLER_CALLS_MAX=1)
    assert await process.ask(1) == ""
    process.callers.on_handed_over(sid(1), is_reported=False)
    await world.run(int(UNREPORTED_S) - 1, process)
    assert await process.ask(2) == "caller_at_once"
    await world.run(1, process)
    assert await process.ask(2) == ""


async def test_while_the_store_is_away_each_process_counts_for_itself(world):
    one, other = (world.process(name, BRIDGE_CALLER_CALLS_MAX=1, BRIDGE_CALLER_PER_HOUR=2) for name in "ab")
    world.store.is_away = True
    assert [await one.ask(1), await one.ask(2)] == ["", "caller_at_once"]
    assert [await other.ask(3), await other.ask(4)] == ["", "caller_at_once"]
    one.end(1)
    assert await one.ask(5) == ""
    world.store.is_away = False
    await world.run(int(OPEN_S + PLACE_S), one, other)
    # Places that the store did not know are there with their renewal.
    third = world.process("c", BRIDGE_CALLER_CALLS_MAX=2)
    assert await third.ask(6) == "caller_at_once"


async def test_process_that_stops_shares_what_is_left(world):
    one, other = (world.process(name, BRIDGE_CALLER_CALLS_MAX=1) for name in "ab")
    assert await one.ask(1) == ""
    one.callers.start()
    one.end(1)
    await one.callers.stop()
    assert await other.ask(2) == ""


async def test_fault_in_a_round_does_not_end_the_rounds(world, logs, monkeypatch):
    process = world.process(BRIDGE_CALLER_CALLS_MAX=1)
    monkeypatch.setattr("bridge.server.callers.ROUND_S", 0.001)
    rounds = asyncio.Event()
    faults = iter([RuntimeError("wrong")])

    async def on_round() -> None:
        for fault in faults:
            raise fault
        rounds.set()

    monkeypatch.setattr(process.callers, "on_round", on_round)
    process.callers.start()
    await asyncio.wait_for(rounds.wait(), 5)
    await process.callers.stop()
    assert "fault while calls were counted" in logs.faults()[0]
    logs.records.clear()


# The log


async def test_refusals_of_one_caller_are_summed_up_and_the_number_is_masked(world, logs):
    process = world.process(BRIDGE_CALLER_PER_HOUR=1)
    for n in range(31):
        await process.ask(n)
        world.passed_s += 2
    lines = [line for line in logs.lines if "call refused" in line]
    assert len(lines) == 1
    assert "reason='caller_per_hour' setting='BRIDGE_CALLER_PER_HOUR'" in lines[0]
    assert "others=0" in lines[0]
    assert NUMBER not in lines[0]
    world.passed_s += LINE_EVERY_S
    await process.ask(99)
    last = [line for line in logs.lines if "call refused" in line][-1]
    assert "others=29" in last


async def test_whole_numbers_are_logged_if_the_operator_wants_that(world, logs):
    process = world.process(BRIDGE_CALLER_PER_HOUR=1, BRIDGE_LOG_NUMBERS=1)
    await process.ask_each(1, 2)
    assert [line for line in logs.lines if f"from_number='{NUMBER}'" in line]


async def test_what_is_remembered_of_callers_is_bounded(world):
    process = world.process(BRIDGE_CALLER_PER_HOUR=1, BRIDGE_CALLER_CALLS_MAX=1)
    for n in range(MOST_CALLERS + 5):
        process.callers._keep(f"k{n}", process.callers._ledger(f"k{n}"))
    for n in range(MOST_LINES + 5):
        process.callers._log("caller_per_hour", info(n), f"+1{n:010}")
    assert len(process.callers._ledgers) == MOST_CALLERS
    assert len(process.callers._lines) == MOST_LINES
