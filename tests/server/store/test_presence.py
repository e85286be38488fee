"""Processes see each other through their heartbeats: as long as they live, and whether they drain."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from live import until

from bridge.metrics import Metrics
from bridge.server.store import presence
from bridge.server.store.breaker import ASK_S, OPEN_S, Breaker
from bridge.server.store.memory import MemoryStore
from bridge.server.store.presence import ALIVE_S, BEAT_S, Presence
from bridge.server.store.store import StoreError


@dataclass
class Calls:
    live: int = 2
    admitted: int = 1
    room: int = 7
    is_draining: bool = False


class Slots:
    """Shows what it is given, and keeps what was read last."""

    def __init__(self) -> None:
        self.shown: dict[str, Any] = {}
        self.read: list[Any] = []

    def mine(self) -> dict[str, Any]:
        return self.shown

    def on_others(self, beats: Iterable[Mapping[str, Any]], good_s: float) -> None:
        assert good_s == presence.ALIVE_S
        self.read = [beat["slots"] for beat in beats if "slots" in beat]


class Failing(MemoryStore):
    """Fails as long as ``error`` is set; keeps heartbeats waiting while ``gate`` is not, and ignores the dead."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.dead: set[str] = set()

    async def beat(self, owner, text, ttl_s):
        self.asked += 1
        if ttl_s:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if owner in self.dead:
            return {}
        return await super().beat(owner, text, ttl_s)


@pytest.fixture
async def store() -> Failing:
    return Failing()


@pytest.fixture(autouse=True)
def often(monkeypatch) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 0.01)


@contextlib.asynccontextmanager
async def process(
    store: Failing, name: str, calls: Calls | None = None, slots: Slots | None = None
) -> AsyncIterator[Presence]:
    one = Presence(store, Breaker(store, Metrics()), name)
    await one.start(calls or Calls(), slots or Slots())
    try:
        yield one
    finally:
        await one.stop()


async def texts(store: Failing) -> dict[str, str]:
    return await store.beat("", "", 0)


async def test_process_alone_has_no_other(store):
    async with process(store, "a") as a:
        before = store.asked
        await until(lambda: store.asked > before + 2)
        assert not a.has_other()


async def test_process_that_has_not_started_has_no_other_and_leaves_none(store):
    one = Presence(store, Breaker(store, Metrics()), "a")
    assert not one.has_other()
    await one.stop()
    assert store.asked == 0


async def test_second_process_is_seen_until_it_stops(store):
    async with process(store, "a") as a:
        async with process(store, "b") as b:
            # It has read the store when it has started.
            assert b.has_other()
            await until(a.has_other)
            assert [a.has(name) for name in "abc"] == [True, True, False]
        await until(lambda: not a.has_other())
        assert not a.has("b")
    assert await texts(store) == {}


async def test_process_that_drains_is_no_other(store):
    calls = Calls()
    async with process(store, "a") as a, process(store, "b", calls) as b:
        await until(a.has_other)
        calls.is_draining = True
        await until(lambda: not a.has_other())
        assert b.has_other()
        async with process(store, "c"):
            await until(a.has_other)


async def test_heartbeat_of_a_dead_process_ends_with_its_time(store, monkeypatch):
    monkeypatch.setattr(presence, "ALIVE_S", 0.05)
    async with process(store, "a") as a, process(store, "b"):
        await until(a.has_other)
        store.dead.add("b")
        await until(lambda: not a.has_other())


async def test_heartbeat_has_the_load_and_nothing_else(store):
    async with process(store, "a"):
        found = await texts(store)
        assert {owner: json.loads(text) for owner, text in found.items()} == {
            "a": {"is_draining": False, "calls": 3, "limit": 10}
        }


async def test_what_was_read_counts_until_it_is_too_old_and_the_log_has_one_line(store, logs):
    now = 0.0
    a = Presence(store, Breaker(store, Metrics()), "a", lambda: now)
    async with process(store, "b"):
        await a.start(Calls(), Slots())
    assert a.has_other()
    store.error = StoreError("gone")
    before = store.asked
    await until(lambda: store.asked > before)
    now = ALIVE_S - 0.01
    assert a.has_other()
    now = ALIVE_S
    assert not a.has_other()
    await a.stop()
    [line] = logs.lines
    assert "store unavailable" in line


async def test_stop_waits_for_the_heartbeat_that_is_under_way(store):
    async with process(store, "a") as a:
        store.gate.clear()
        before = store.asked
        await until(lambda: store.asked > before)
        asyncio.get_running_loop().call_later(0.01, store.gate.set)
        await a.stop()
        asked = store.asked
        await a.stop()
        assert store.asked == asked
        await until(lambda: not any(task.get_name() == "heartbeat" for task in asyncio.all_tasks()))
    assert await texts(store) == {}


async def test_fault_does_not_end_the_heartbeats(store, logs):
    async with process(store, "a") as a:
        store.error = ValueError("a fault")
        await until(lambda: any("a fault" in line for line in logs.lines))
        store.error = None
        async with process(store, "b"):
            await until(a.has_other)
    # An ERROR fails other tests.
    logs.records.clear()


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "null", "{}", '{"added": 1}'])
async def test_heartbeat_that_another_version_writes_otherwise_is_no_other(store, text):
    await store.beat("b", text, 60)
    async with process(store, "a") as a:
        assert not a.has_other()


# The slots of calls

RARELY_S = 3600.0


async def test_slots_are_shown_and_read_at_once_where_a_process_asks(store, monkeypatch):
    monkeypatch.setattr(presence, "BEAT_S", RARELY_S)
    mine, others = Slots(), Slots()
    async with process(store, "a", slots=mine) as a, process(store, "b", slots=others) as b:
        mine.shown = {"slots": {"agent:x": ["1"]}}
        await a.renew()
        await b.renew()
        assert others.read == [{"agent:x": ["1"]}]
        assert mine.read == []
    await a.renew()
    assert await texts(store) == {}


async def test_slots_that_are_shown_soon_go_out_once_for_all_that_ask(store, monkeypatch):
    monkeypatch.setattr(presence, "BEAT_S", RARELY_S)
    mine, others = Slots(), Slots()
    async with process(store, "a", slots=mine) as a, process(store, "b", slots=others) as b:
        before = store.asked
        mine.shown = {"slots": {"agent:x": ["1"]}}
        for _ in range(100):
            a.renew_soon()
        await until(lambda: store.asked > before)
        await b.renew()
        assert others.read == [{"agent:x": ["1"]}]
        assert store.asked == before + 2
    a.renew_soon()


async def test_older_slots_never_replace_newer_ones(store, monkeypatch):
    monkeypatch.setattr(presence, "BEAT_S", RARELY_S)
    mine = Slots()
    async with process(store, "a", slots=mine) as a:
        before = store.asked
        store.gate.clear()
        first = asyncio.ensure_future(a.renew())
        await until(lambda: store.asked > before)
        mine.shown = {"slots": {"agent:x": ["1"]}}
        second = asyncio.ensure_future(a.renew())
        store.gate.set()
        await asyncio.gather(first, second)
        assert "agent:x" in (await texts(store))["a"]


def test_heartbeat_outlasts_one_failure_of_the_store():
    assert ALIVE_S > OPEN_S + 2 * (BEAT_S + ASK_S)
