"""The slots of calls at agents and routes: counted once, over processes, and free again when a call is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from bridge.agents.slots import ENDED_S, ID_CHARACTERS, LOG_EVERY_S, REPORTED_S, UNREPORTED_S, Slots
from bridge.metrics import Metrics

AGENT, ROUTE, FREE = "agent:a", "route:office", "agent:free"
GOOD_S = 10.0


def sid(n: int) -> str:
    return f"CA{n:032x}"


class Process:
    """Slots of one process, whose heartbeats the others read at once."""

    def __init__(self, others: list[Process] | None = None, limit: int = 2) -> None:
        self.now = 0.0
        self.calls: set[str] = set()
        self.metrics = Metrics()
        self.slots = Slots(self.metrics, lambda: self.now, self.calls.__contains__)
        self.slots.use({AGENT: limit, ROUTE: 3})
        self.others = others if others is not None else []
        self.renewals = 0
        # What `renew` waits for.
        self.gate = asyncio.Event()
        self.gate.set()
        self.slots.renew, self.slots.renew_soon = self.renew, self.soon

    async def renew(self) -> None:
        self.renewals += 1
        await self.gate.wait()
        self.read(other.slots.mine() for other in self.others)

    def soon(self) -> None:
        self.renewals += 1

    def read(self, beats: Iterable[Any]) -> None:
        self.slots.on_others(list(beats), GOOD_S)

    async def take(self, n: int, key: str = AGENT) -> bool:
        self.calls.add(sid(n))
        return await self.slots.take(sid(n), key)

    def end(self, n: int) -> None:
        self.calls.remove(sid(n))

    def full(self, key: str = AGENT) -> float:
        [value] = [
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "bridge_full" and sample.labels == {"of": key}
        ]
        return value


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def two() -> tuple[Process, Process]:
    one = Process()
    other = Process([one])
    one.others.append(other)
    return one, other


async def test_slots_are_given_up_to_the_limit_and_come_back_with_the_end_of_a_call(process):
    assert [await process.take(n) for n in range(3)] == [True, True, False]
    assert process.full() == 1
    process.end(0)
    assert process.full() == 0
    assert [await process.take(n) for n in (2, 3)] == [True, False]


async def test_key_without_a_limit_has_a_slot_for_every_call_and_asks_nobody(process):
    assert all([await process.take(n, FREE) for n in range(50)])
    assert process.renewals == 0
    assert process.slots.mine() == {}


async def test_call_has_one_slot_of_each_kind(process):
    assert await process.take(0, ROUTE)
    assert await process.take(0)
    assert process.slots.mine()["slots"].keys() == {AGENT, ROUTE}
    # Another agent takes over.
    assert await process.take(0, FREE)
    assert process.slots.mine()["slots"].keys() == {ROUTE}


async def test_call_that_takes_its_slot_again_counts_once(process):
    for _ in range(3):
        assert await process.take(0)
    assert await process.take(1)
    assert process.slots.hold(sid(0), AGENT)
    assert not await process.take(2)


async def test_call_that_is_on_the_line_keeps_its_slot_beyond_the_limit(process):
    assert [await process.take(n) for n in range(2)] == [True, True]
    process.calls.add(sid(2))
    assert not process.slots.hold(sid(2), AGENT)
    assert process.slots.hold(sid(2), AGENT, is_checked=False)
    assert len(process.slots.mine()["slots"][AGENT]) == 3


async def test_slots_of_all_processes_count(two):
    one, other = two
    assert await one.take(0)
    assert await other.take(1)
    assert not await one.take(2)
    assert not await other.take(3)
    other.end(1)
    assert await one.take(2)
    assert other.full() == 0
    other.read([one.slots.mine()])
    assert other.full() == 1


async def test_last_slot_is_never_given_to_two_calls_at_once(two):
    one, other = two
    assert await one.take(0)
    one.gate.clear()
    other.gate.clear()
    racing = [asyncio.ensure_future(one.take(1)), asyncio.ensure_future(other.take(2))]
    await asyncio.sleep(0)
    one.gate.set()
    other.gate.set()
    assert sum(await asyncio.gather(*racing)) <= 1


async def test_call_whose_media_socket_came_to_another_process_counts_once(two):
    one, other = two
    assert await one.take(0)
    other.calls.add(sid(0))
    assert other.slots.hold(sid(0), AGENT, is_checked=False)
    assert await other.take(1)
    assert await one.take(1)


async def test_slots_of_the_others_count_until_they_are_too_old(two):
    one, other = two
    assert [await other.take(n) for n in range(2)] == [True, True]
    one.read([other.slots.mine()])
    one.others.clear()
    one.now = GOOD_S - 0.01
    assert one.full() == 1
    # The store is away: each process counts its own.
    one.now = GOOD_S
    assert one.full() == 0


@pytest.mark.parametrize(
    "beat", [{"slots": 1}, {"slots": {AGENT: 1}}, {"slots": {"x": ["y"]}}, {"ended": {}}]
)
async def test_heartbeat_of_another_version_changes_nothing(process, beat):
    process.read([beat])
    assert process.full() == 0


async def test_handed_over_call_keeps_its_slot_until_it_has_ended(process):
    assert [await process.take(n) for n in range(2)] == [True, True]
    process.slots.on_handed_over(sid(0), is_reported=True)
    process.end(0)
    assert not await process.take(2)
    process.slots.leave(sid(0))
    assert await process.take(2)


async def test_handed_over_call_whose_end_another_process_learns_gives_its_slot_back(two):
    one, other = two
    assert await one.take(0)
    one.slots.on_handed_over(sid(0), is_reported=True)
    one.end(0)
    other.slots.leave(sid(0))
    beat = other.slots.mine()
    assert beat == {"ended": [sid(0)[-ID_CHARACTERS:]]}
    one.read([beat])
    assert one.slots.mine() == {}
    other.now = ENDED_S
    assert other.slots.mine() == {}


async def test_handed_over_call_that_goes_on_with_another_agent_keeps_the_slot_there(two):
    one, other = two
    other.slots.leave(sid(0), "agent:b")
    assert await one.take(0)
    one.slots.on_handed_over(sid(0), is_reported=True)
    one.end(0)
    one.read([other.slots.mine()])
    assert one.slots.mine()["slots"] == {AGENT: [sid(0)[-ID_CHARACTERS:]]}
    other.slots.leave(sid(0), AGENT)
    one.read([other.slots.mine()])
    assert one.slots.mine() == {}


@pytest.mark.parametrize(("is_reported", "most_s"), [(True, REPORTED_S), (False, UNREPORTED_S)])
async def test_handed_over_call_of_which_nothing_is_heard_gives_its_slot_back_in_the_end(
    process, is_reported, most_s
):
    assert await process.take(0)
    process.slots.on_handed_over(sid(0), is_reported=is_reported)
    process.end(0)
    process.now = most_s - 0.01
    assert process.slots.mine()
    process.now = most_s
    assert not process.slots.mine()


async def test_changes_are_logged_once_a_minute_at_most(process, logs):
    for n in range(10):
        assert await process.take(2 * n)
        assert await process.take(2 * n + 1)
        process.end(2 * n)
        process.end(2 * n + 1)
    [line] = logs.lines
    assert line.startswith("WARNING")
    assert "limit of calls reached" in line
    assert "of='agent:a' max_calls=2" in line
    process.now = LOG_EVERY_S
    assert await process.take(100)
    assert "room for calls again" in logs.lines[-1]
    assert len(logs.lines) == 2


async def test_limits_of_a_reload_count_for_new_calls(process):
    assert [await process.take(n) for n in range(2)] == [True, True]
    process.slots.use({AGENT: 1})
    assert process.full() == 1
    assert "route:office" not in process.metrics.text().decode()
    process.end(0)
    assert not await process.take(2)
