"""One failed question opens the breaker: nobody waits for 5 s, and each change is logged once."""

from __future__ import annotations

import asyncio
import time

import pytest

from bridge.metrics import Metrics
from bridge.server.store import breaker as breaker_module
from bridge.server.store.breaker import OPEN_S, Breaker, StoreUnavailableError
from bridge.server.store.memory import MemoryStore
from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.store import StoreError
from bridge.server.store.version import VERSION_KEY


class Fillable(MemoryStore):
    """A store that takes nothing while it is full."""

    is_full = False

    async def write(self, key, text, ttl_s, after):
        if self.is_full:
            raise StoreError("full")
        return await super().write(key, text, ttl_s, after)


class Bench:
    """A breaker on a clock of its own, and a store that does what ``does`` says."""

    def __init__(self) -> None:
        self.now = 100.0
        self.metrics = Metrics()
        self.store = Fillable()
        self.breaker = Breaker(self.store, self.metrics, lambda: self.now)
        self.does: StoreError | asyncio.Event | None = None
        self.asked = 0

    async def question(self) -> str:
        self.asked += 1
        if isinstance(self.does, StoreError):
            raise self.does
        if self.does is not None:
            await self.does.wait()
        return "answer"

    async def ask(self) -> str | None:
        try:
            return await self.breaker.ask(self.question)
        except StoreUnavailableError:
            return None

    def metric(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_answer_comes_through(bench):
    assert await bench.ask() == "answer"
    assert not bench.breaker.is_open
    assert bench.metric("bridge_store_available") == 1


async def test_after_a_failure_nothing_is_asked_until_the_time_is_over(bench):
    bench.does = StoreError("gone")
    assert await bench.ask() is None
    bench.does = None
    bench.now += OPEN_S - 0.01
    assert bench.breaker.is_open
    assert await bench.ask() is None
    assert bench.asked == 1
    bench.now += 0.02
    assert await bench.ask() == "answer"
    assert not bench.breaker.is_open


async def test_store_that_hangs_is_not_waited_for(bench, monkeypatch):
    monkeypatch.setattr(breaker_module, "ASK_S", 0.01)
    bench.does = asyncio.Event()
    assert await asyncio.wait_for(bench.ask(), 5) is None
    assert bench.breaker.is_open


async def test_pause_of_the_process_is_no_failure_of_the_store(tmp_path):
    store = SqliteStore(tmp_path / "store.sqlite3")
    breaker = Breaker(store, Metrics())
    await breaker.ask(lambda: store.read("key"))
    asked = asyncio.ensure_future(breaker.ask(lambda: store.read("key")))
    await asyncio.sleep(0)
    # Nothing else runs on this loop, as if the machine had no time for it. The store answers meanwhile.
    time.sleep(2 * breaker_module.ASK_S)  # noqa: ASYNC251
    assert await asked is None
    assert not breaker.is_open
    await store.close()


async def test_process_with_too_much_to_do_is_no_failure_of_the_store(bench):
    loop = asyncio.get_running_loop()

    async def answer_in_five_turns() -> str:
        for _ in range(5):
            turn = loop.create_future()
            # Behind what else the loop has to do.
            loop.call_later(breaker_module.ASK_S / 100, turn.set_result, None)
            await turn
        return "answer"

    asked = asyncio.ensure_future(bench.breaker.ask(answer_in_five_turns))
    while not asked.done():
        time.sleep(breaker_module.ASK_S / 3)  # noqa: ASYNC251
        await asyncio.sleep(0)
    assert asked.result() == "answer"
    assert not bench.breaker.is_open


async def test_question_that_swallows_its_cancellation_is_not_waited_for(bench, monkeypatch):
    monkeypatch.setattr(breaker_module, "ASK_S", 0.05)
    goes_on = asyncio.Event()
    was_cancelled = False

    async def stubborn() -> None:
        nonlocal was_cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled = True
            await goes_on.wait()
            raise StoreError("too late") from None

    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(bench.breaker.ask(stubborn), 5)
    await asyncio.sleep(0)
    assert was_cancelled
    # Closing the store does not wait for it for ever either.
    await asyncio.wait_for(bench.breaker.settled(), 5)
    goes_on.set()
    await bench.breaker.settled()


async def test_question_that_is_given_up_is_cancelled(bench):
    bench.does = asyncio.Event()
    asked = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert not bench.breaker.is_open
    assert len(asyncio.all_tasks()) == 1


async def test_while_one_question_tries_the_others_do_not_wait(bench):
    bench.does = StoreError("gone")
    await bench.ask()
    bench.now += OPEN_S
    bench.does = gate = asyncio.Event()
    trial = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(0)
    assert bench.breaker.is_open
    assert await bench.ask() is None
    gate.set()
    assert await trial == "answer"
    assert await bench.ask() == "answer"


async def test_store_that_answers_and_takes_nothing_stays_unavailable(bench, logs):
    bench.does = StoreError("full")
    await bench.ask()
    bench.does = None
    bench.store.is_full = True
    for _ in range(3):
        bench.now += OPEN_S
        assert await bench.ask() is None
    assert (bench.asked, bench.metric("bridge_store_available")) == (1, 0)
    assert sum("store answers again" in line for line in logs.lines) == 0
    bench.store.is_full = False
    bench.now += OPEN_S
    assert await bench.ask() == "answer"
    assert bench.metric("bridge_store_available") == 1


async def test_store_that_comes_back_with_a_newer_version_is_not_used(bench, logs):
    bench.does = StoreError("gone")
    await bench.ask()
    bench.does = None
    await bench.store.write(VERSION_KEY, "2", 60, 0)
    for _ in range(3):
        bench.now += OPEN_S
        assert await bench.ask() is None
    assert (bench.asked, bench.metric("bridge_store_available")) == (1, 0)
    assert sum("a newer version of the bridge uses the store" in line for line in logs.lines) == 1


async def test_cancelled_trial_leaves_the_next_one_to_try(bench):
    bench.does = StoreError("gone")
    await bench.ask()
    bench.now += OPEN_S
    bench.does = asyncio.Event()
    trial = asyncio.ensure_future(bench.ask())
    await asyncio.sleep(0)
    trial.cancel()
    await asyncio.wait({trial})
    bench.does = None
    assert await bench.ask() == "answer"


async def test_changes_are_logged_once_and_failures_counted(bench, logs):
    bench.does = StoreError("gone")
    for _ in range(3):
        await bench.ask()
        bench.now += OPEN_S
    assert bench.metric("bridge_store_available") == 0
    assert bench.metric("bridge_store_failures_total") == 3
    bench.does = None
    await bench.ask()
    await bench.ask()
    assert bench.metric("bridge_store_available") == 1
    assert [line.count("store unavailable") for line in logs.lines].count(1) == 1
    assert [line.count("store answers again") for line in logs.lines].count(1) == 1


async def test_fault_of_the_program_leaves_one_question_without_an_answer(bench, logs):
    async def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(StoreUnavailableError):
        await bench.breaker.ask(broken)
    assert not bench.breaker.is_open
    assert bench.metric("bridge_store_failures_total") == 0
    assert len(logs.faults()) == 1
    # Wanted here.
    logs.records.clear()
