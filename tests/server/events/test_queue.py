"""Events on their way to the store and out of it: order, bounds, a store that is away, and what nobody can read."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from stores import open_store, redis_server

from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.events import queue as module
from bridge.server.events.queue import (
    DELIVERED,
    DROPS,
    ENDED,
    EVENT_MAX_BYTES,
    FAILED,
    LEASE_S,
    RETRY_MAX_S,
    STARTED,
    TYPES,
    EventQueue,
)
from bridge.server.store.breaker import OPEN_S, Breaker
from bridge.server.store.memory import MemoryStore
from bridge.server.store.store import Kept, Store, StoreError

__all__ = ["open_store", "redis_server"]

CALL, OTHER_CALL = "CA" + "1" * 32, "CA" + "2" * 32
KEEP_S = 24 * 3600.0
# As Unix times are, so that stores which forget by their own clock keep what is in here.
NOW = 2_000_000_000.0


class Process:
    """The queue of one process, at a time of the test's."""

    def __init__(self, store: Store, *secrets: str) -> None:
        self.now = NOW
        self.metrics = Metrics()
        breaker = Breaker(store, self.metrics, lambda: self.now)
        seal = Seal(secrets or ("auth",))
        self.queue = EventQueue(store, breaker, seal, self.metrics, KEEP_S, lambda: self.now)

    def put(self, type: str = STARTED, call_sid: str = CALL, **data: Any) -> None:
        self.queue.put(type, call_sid, data)

    async def take(self, most: int = 8) -> list[module.Event]:
        await self.queue.flush()
        return await self.queue.take(most)

    def results(self) -> dict[tuple[str, str], float]:
        """What was counted, by type and result."""
        counts = {
            (type, result): self.metrics.registry.get_sample_value(
                "bridge_events_total", {"type": type, "result": result}
            )
            for type, result in itertools.product(TYPES, (DELIVERED, FAILED, *DROPS))
        }
        assert None not in counts.values()
        return {labels: count for labels, count in counts.items() if count}

    def waiting(self) -> tuple[float | None, float | None]:
        value = self.metrics.registry.get_sample_value
        return value("bridge_events_queued"), value("bridge_events_oldest_seconds")


class Away(MemoryStore):
    """A store that a test takes away."""

    is_away = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("push", "take", "finish", "postpone", "length"):
            setattr(self.queue, name, self._guarded(getattr(self.queue, name)))

    def _guarded(self, ask: Any) -> Any:
        async def guarded(*arguments: Any) -> Any:
            if self.is_away:
                raise StoreError("away")
            return await ask(*arguments)

        return guarded

    async def read(self, key: str) -> Kept | None:
        if self.is_away:
            raise StoreError("away")
        return await super().read(key)


@pytest.fixture
def process() -> Process:
    return Process(MemoryStore())


def warnings(logs) -> list[str]:
    return [line for line in logs.lines if line.startswith("WARNING") and "event dropped" in line]


async def test_event_has_type_time_and_data_and_a_name_of_its_own(open_store):
    process = Process(open_store())
    process.put(customer="Zoë", values=[1, None, 0.5])
    process.put(call_sid=OTHER_CALL)
    one, other = sorted(await process.take(), key=lambda event: event.call_sid)
    assert (one.type, one.call_sid, one.tries) == (STARTED, CALL, 1)
    assert json.loads(one.body) == {
        "type": "call.started",
        "timestamp": "2033-05-18T03:33:20.000Z",
        "data": {"customer": "Zoë", "values": [1, None, 0.5]},
    }
    assert one.id != other.id
    # The parts of what is signed have dots between them.
    assert "." not in one.id


async def test_events_of_a_call_come_one_after_the_other_and_a_repeat_is_the_same(open_store):
    mine, others = Process(open_store()), Process(open_store())
    mine.put(STARTED)
    mine.put(ENDED)
    mine.put(STARTED, OTHER_CALL)
    (first,) = [event for event in await mine.take() if event.call_sid == CALL]
    assert await others.take() == []
    await mine.queue.failed(first)
    others.now += 5.0
    (again,) = await others.take()
    assert again == first._replace(tries=2, lease=again.lease)
    await others.queue.delivered(again)
    (last,) = await others.take()
    assert (last.type, last.tries) == (ENDED, 1)
    assert (mine.results(), others.results()) == ({(STARTED, FAILED): 1}, {(STARTED, DELIVERED): 1})


async def test_events_of_a_process_that_is_gone_are_taken_by_another_one(open_store):
    gone, other = Process(open_store()), Process(open_store())
    gone.put()
    (event,) = await gone.take()
    other.now += LEASE_S - 0.1
    assert await other.take() == []
    other.now += 0.1
    (again,) = await other.take()
    assert (again.id, again.body) == (event.id, event.body)
    # It was only slow: what it says now changes nothing.
    await gone.queue.failed(event)
    await gone.queue.delivered(event)
    await other.queue.delivered(again)
    assert await other.take() == []


async def test_waits_between_tries_double_up_to_the_longest(process):
    process.put()
    waits = []
    for _ in range(10):
        (event,) = await process.take()
        await process.queue.failed(event)
        began = process.now
        while (
            not (await process.queue._queue.length()).texts
            or not process.queue._queue._lanes[CALL].due <= process.now
        ):
            process.now += 0.5
        waits.append(process.now - began)
    for n, wait in enumerate(waits):
        whole = min(5.0 * 2**n, RETRY_MAX_S)
        assert 0.75 * whole <= wait <= whole + 0.5


async def test_texts_and_numbers_are_readable_nowhere_in_the_store(tmp_path):
    from bridge.server.store.sqlite import SqliteStore

    store = SqliteStore(tmp_path / "store.sqlite3")
    process = Process(store)
    process.put(said="canary-text", number="+15551234567")
    await process.queue.flush()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert CALL.encode() in kept
    assert b"canary" not in kept and b"15551234567" not in kept
    await store.close()


async def test_event_that_nobody_takes_is_dropped_when_its_time_is_over_and_the_next_one_follows(
    process, logs
):
    process.put(STARTED)
    await process.queue.flush()
    process.now += 60
    process.put(ENDED)
    process.now += KEEP_S - 60
    woken = []
    process.queue.on_due = lambda: woken.append(1)
    assert await process.take() == []
    assert woken == [1]
    (event,) = await process.take()
    assert event.type == ENDED
    assert process.results() == {(STARTED, "expired"): 1}
    (line,) = warnings(logs)
    assert CALL in line and "BRIDGE_KEEP_H" in line


async def test_longest_event_is_taken_and_a_longer_one_is_dropped(process, logs):
    process.put(text="")
    (empty,) = await process.take()
    fitting = EVENT_MAX_BYTES - len(empty.body)
    process.put(call_sid=OTHER_CALL, text=fitting * "x")
    process.put(call_sid=OTHER_CALL, text=(fitting + 1) * "x")
    (longest,) = await process.take()
    assert len(longest.body) == EVENT_MAX_BYTES
    assert process.results() == {(STARTED, "too_large"): 1}
    assert len(warnings(logs)) == 1


async def test_beyond_the_bound_of_the_queue_events_are_counted_and_one_line_a_minute_says_so(
    process, monkeypatch, logs
):
    monkeypatch.setattr(module, "EVENTS_MOST", 2)
    for n in range(5):
        process.put(call_sid=f"CA{n}")
    assert len(await process.take()) == 2
    assert process.results() == {(STARTED, "queue_full"): 3}
    assert len(warnings(logs)) == 1
    process.now += module.LINE_EVERY_S
    process.put(call_sid="CA6")
    await process.queue.flush()
    assert len(warnings(logs)) == 2


async def test_events_wait_for_a_store_that_is_away_in_their_order():
    store = Away()
    process = Process(store)
    store.is_away = True
    for type in TYPES:
        process.put(type)
        assert await process.take() == []
    store.is_away = False
    process.now += OPEN_S
    seen = []
    for _ in TYPES:
        (event,) = await process.take()
        seen.append(event.type)
        await process.queue.delivered(event)
    assert seen == list(TYPES)
    assert process.results() == {(type, DELIVERED): 1 for type in TYPES}


async def test_beyond_their_bound_and_at_the_end_events_that_the_store_did_not_take_are_counted(
    monkeypatch, logs
):
    monkeypatch.setattr(module, "OUTBOX_MAX_BYTES", 1000)
    store = Away()
    process = Process(store)
    store.is_away = True
    for n in range(20):
        process.put(call_sid=f"CA{n}")
    await process.queue.flush()
    lost = process.results()[STARTED, "no_store"]
    assert 0 < lost < 20
    process.queue.close()
    assert process.results() == {(STARTED, "no_store"): 20}
    assert len(warnings(logs)) == 1


async def test_bytes_that_the_store_has_taken_make_room(process, monkeypatch):
    monkeypatch.setattr(module, "OUTBOX_MAX_BYTES", 200)
    for n in range(20):
        process.put(call_sid=f"CA{n}")
        await process.queue.flush()
    assert process.results() == {}


async def test_event_that_was_delivered_while_the_store_was_away_is_not_delivered_again():
    store = Away()
    process = Process(store)
    process.put(STARTED)
    process.put(ENDED)
    (event,) = await process.take()
    store.is_away = True
    await process.queue.delivered(event)
    store.is_away = False
    # The lease is over, and the store has not been asked since.
    process.now += LEASE_S
    assert [event.type for event in await process.queue.take(8)] == []
    (last,) = await process.take()
    assert last.type == ENDED


async def test_push_whose_answer_was_lost_is_no_second_event(monkeypatch):
    store = MemoryStore()
    process = Process(store)
    push = store.queue.push

    async def lossy(*arguments: Any) -> bool:
        await push(*arguments)
        monkeypatch.setattr(store.queue, "push", push)
        raise StoreError("lost")

    monkeypatch.setattr(store.queue, "push", lossy)
    process.put(STARTED)
    await process.queue.flush()
    process.now += OPEN_S
    (event,) = await process.take()
    await process.queue.delivered(event)
    assert await process.take() == []


async def test_event_of_a_former_auth_token_is_dropped_and_during_a_rotation_read(logs):
    store = MemoryStore()
    old = Process(store, "old")
    old.put(STARTED)
    old.put(ENDED)
    await old.queue.flush()
    (event,) = await Process(store, "new", "old").take()
    await old.queue.delivered(event)
    new = Process(store, "new")
    assert await new.take() == []
    assert new.results() == {(ENDED, "unreadable"): 1}
    assert len(warnings(logs)) == 1


async def test_what_json_cannot_hold_is_counted_and_harms_nobody(process):
    process.put(text="\ud800")
    assert process.results() == {(STARTED, "fault"): 1}
    assert await process.take() == []


async def test_length_and_age_are_measured(open_store):
    process = Process(open_store())
    await process.queue.measure()
    assert process.waiting() == (0, 0)
    process.put(STARTED)
    process.put(ENDED)
    await process.queue.flush()
    process.now += 90
    await process.queue.measure()
    assert process.waiting() == (2, pytest.approx(90))
