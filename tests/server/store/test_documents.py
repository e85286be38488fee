"""Documents of calls: sealed in every store, their texts for ten minutes, and a failure costs nothing else."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from stores import open_store, redis_server

from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.store import documents
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.documents import Bounds, Documents
from bridge.server.store.memory import MemoryStore
from bridge.server.store.store import Kept, StoreError

__all__ = ["open_store", "redis_server"]

SID, OTHER = "CA" + "1" * 32, "CA" + "2" * 32
TEXTS = [{"at_s": 1.5, "speaker": "caller", "text": "Grüezi @canary"}]
BOUNDS = Bounds(100, 3600.0)


def process(store, secret="auth", **options):
    return Documents(store, Breaker(store, Metrics()), Seal([secret]), **options)


def keep(one, call_sid=SID, attempt=0, texts=(), bounds=BOUNDS, **fields):
    one.keep(call_sid, attempt, {"call_sid": call_sid, "attempt": attempt, **fields}, list(texts), bounds)


async def test_another_process_finds_all_documents_of_a_call(open_store):
    a, b = process(open_store()), process(open_store())
    keep(a, attempt=0, texts=TEXTS, route="x")
    keep(a, OTHER)
    await a.settled()
    keep(a, attempt=1)
    await a.settled()
    first, second = {"call_sid": SID, "attempt": 0, "route": "x"}, {"call_sid": SID, "attempt": 1}
    assert await b.find(SID) == [(first, TEXTS), (second, [])]
    assert await b.newest(10) == [second, first, {"call_sid": OTHER, "attempt": 0}]
    assert await b.newest(1) == [second]


async def test_call_that_is_removed_is_gone_with_its_texts(open_store):
    store = open_store()
    one = process(store)
    keep(one, texts=TEXTS)
    keep(one, attempt=1, texts=TEXTS)
    keep(one, OTHER, texts=TEXTS)
    await one.settled()
    assert await one.forget(SID)
    assert not await one.forget(SID)
    assert await one.find(SID) == []
    assert [await store.read(f"texts:{SID}:{attempt}") for attempt in (0, 1)] == [None, None]
    assert await one.find(OTHER) == [({"call_sid": OTHER, "attempt": 0}, TEXTS)]


async def test_calls_beyond_the_bound_and_the_time_are_forgotten(open_store):
    times = count(documents.time.time())
    one = process(open_store(), clock=lambda: next(times))
    for n in range(5):
        keep(one, f"CA{n}", bounds=Bounds(3, 3600.0))
    await one.settled()
    assert [fields["call_sid"] for fields in await one.newest(10)] == ["CA4", "CA3", "CA2"]


async def test_texts_leave_before_the_document(monkeypatch):
    store = MemoryStore()
    ttls_s = []
    write = store.write

    async def recording(key, text, ttl_s, after):
        ttls_s.append(ttl_s)
        return await write(key, text, ttl_s, after)

    monkeypatch.setattr(store, "write", recording)
    one = process(store)
    keep(one, texts=TEXTS)
    await one.settled()
    keep(one, OTHER, texts=TEXTS, bounds=Bounds(10, 60.0))
    await one.settled()
    assert ttls_s == [600.0, 60.0]


async def test_texts_and_documents_are_sealed():
    store = MemoryStore()
    one = process(store)
    keep(one, texts=TEXTS, route="canary")
    await one.settled()
    kept = await store.read(f"texts:{SID}:0")
    [text] = await store.shelf.find(SID, 0.0)
    # "@" is in no sealed text.
    assert "@canary" not in kept.text
    assert "canary" not in text
    await store.shelf.put(OTHER, 0, text, 0.0, 1e12, 10)
    assert await one.find(OTHER) == []
    assert await process(store, "another token").find(SID) == []
    assert await process(store, "another token").newest(10) == [None, None]
    # Whoever cannot read it can remove it.
    assert await process(store, "another token").forget(SID)


async def test_call_is_removed_before_its_document_is_written():
    one = process(MemoryStore())
    keep(one)
    assert await one.forget(SID)
    await one.settled()
    assert await one.find(SID) == []


class Failing(MemoryStore):
    async def read(self, key):
        raise StoreError("gone")

    async def write(self, key, text, ttl_s, after):
        raise StoreError("gone")


async def test_store_that_fails_loses_documents_which_are_counted():
    store = Failing()
    one = process(store)
    lost = []
    one.on_lost = lambda: lost.append(1)
    keep(one, texts=TEXTS)
    keep(one, OTHER)
    await one.settled()
    assert len(lost) == 2
    for question in (one.find(SID), one.newest(10), one.forget(SID)):
        with pytest.raises(StoreUnavailableError):
            await question


async def test_more_documents_than_may_wait_are_lost(monkeypatch):
    monkeypatch.setattr(documents, "MOST_WAITING", 3)
    one = process(MemoryStore())
    lost = []
    one.on_lost = lambda: lost.append(1)
    for n in range(5):
        keep(one, f"CA{n}")
    await one.settled()
    assert len(lost) == 2
    assert len(await one.newest(10)) == 3


async def test_documents_are_written_one_after_the_other(monkeypatch):
    store = MemoryStore()
    put, at_once, most = store.shelf.put, 0, 0

    async def slow(*arguments):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        await put(*arguments)
        at_once -= 1

    monkeypatch.setattr(store.shelf, "put", slow)
    one = process(store)
    for n in range(20):
        keep(one, f"CA{n}")
    await one.settled()
    assert most == 1
    assert len(await one.newest(100)) == 20


async def test_removal_waits_for_a_writer_that_is_faster():
    store = MemoryStore()
    await store.write("key", "one", 60, 0)
    read, first = store.read, [Kept(7, "before")]

    async def late(key):
        return first.pop() if first else await read(key)

    store.read = late
    assert await documents.remove(store, "key")
    assert await read("key") is None
