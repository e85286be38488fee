"""What was said in a call: sealed in the store, found by another process, and gone where it must be."""

from __future__ import annotations

import asyncio

import pytest
from live import until

from bridge.agents.succession import Memory, Said, Speaker
from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.store import transcripts
from bridge.server.store.breaker import Breaker
from bridge.server.store.memory import MemoryStore
from bridge.server.store.store import StoreError
from bridge.server.store.transcripts import Transcripts

SID, OTHER_SID = "CA" + "1" * 32, "CA" + "2" * 32
MEMORY = Memory((Said(Speaker.AGENT, "Grüezi"), Said(Speaker.CALLER, "Is it you?")), is_awaited=True)


class Recording(MemoryStore):
    """Keeps the times to live, and fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.ttls_s: list[float] = []
        self.fails = False

    async def read(self, key):
        if self.fails:
            raise StoreError("gone")
        return await super().read(key)

    async def write(self, key, text, ttl_s, after):
        self.ttls_s.append(ttl_s)
        return await super().write(key, text, ttl_s, after)


@pytest.fixture
def store() -> Recording:
    return Recording()


def process(store: Recording, secret: str = "auth", **options: bool) -> Transcripts:
    return Transcripts(store, Breaker(store, Metrics()), Seal([secret]), **{"is_on": True, **options})


async def recalled(one: Transcripts, call_sid: str = SID) -> Memory | None:
    found: list[Memory | None] = []
    one.recall(call_sid, found.append)
    await until(lambda: found)
    return found[0]


async def test_another_process_finds_the_last_of_what_was_kept(store):
    a, b = process(store), process(store)
    a.keep(SID, Memory((), is_awaited=False))
    await a.settled()
    a.keep(SID, MEMORY)
    await a.settled()
    assert await recalled(b) == MEMORY
    assert await recalled(b, OTHER_SID) is None
    assert store.ttls_s == [transcripts.KEPT_S] * 2


async def test_newer_words_follow_older_ones_that_are_still_being_written(store):
    a = process(store)
    read, may_go_on = store.read, asyncio.Event()

    async def slow_read(key):
        await may_go_on.wait()
        return await read(key)

    store.read = slow_read
    for memory in (Memory((), is_awaited=True), Memory((), is_awaited=False), MEMORY):
        a.keep(SID, memory)
        await asyncio.sleep(0)
    may_go_on.set()
    await a.settled()
    assert await recalled(a) == MEMORY
    assert len(store.ttls_s) == 2


async def test_texts_are_sealed_for_their_call(store):
    a = process(store)
    a.keep(SID, MEMORY)
    await a.settled()
    kept = await store.read(f"said:{SID}")
    assert "it you" not in kept.text
    await store.write(f"said:{OTHER_SID}", kept.text, 60, 0)
    assert await recalled(a, OTHER_SID) is None
    assert await recalled(process(store, "another token")) is None


async def test_nothing_is_kept_where_transcripts_are_off(store):
    a = process(store, is_on=False)
    a.keep(SID, MEMORY)
    await a.settled()
    assert store.ttls_s == []


async def test_store_that_fails_costs_the_words_and_nothing_else(store):
    a = process(store)
    store.fails = True
    a.keep(SID, MEMORY)
    await a.settled()
    assert await recalled(a) is None
    store.fails = False
    # Nobody is asked for a while.
    a.keep(SID, MEMORY)
    await a.settled()
    assert store.ttls_s == []


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"said": [["agent", "Hi"]], "later": 1}, Memory((Said(Speaker.AGENT, "Hi"),), is_awaited=False)),
        ({"said": [["robot", "Hi"]], "is_awaited": True}, None),
        ({"said": 7}, None),
        ({}, None),
    ],
)
async def test_what_another_version_wrote_is_read_or_unknown(store, fields, found):
    key = f"said:{SID}"
    await store.write(key, Seal(["auth"]).seal(key, fields), 60, 0)
    assert await recalled(process(store)) == found
