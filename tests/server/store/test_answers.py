"""Kept answers: sealed for their call, found by another process, written once."""

import pytest

from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.store.answers import KeptAnswers
from bridge.server.store.breaker import Breaker
from bridge.server.store.memory import MemoryStore
from bridge.server.store.store import StoreError

SID, OTHER_SID = "CA" + "1" * 32, "CA" + "2" * 32
FIELDS = {"agents": ["openai"], "values": {"customer": "canary"}}


class Failing(MemoryStore):
    """A store that is away."""

    async def read(self, key):
        raise StoreError("gone")

    async def write(self, key, text, ttl_s, after):
        raise StoreError("gone")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def process(store: MemoryStore, secret: str = "auth") -> KeptAnswers:
    return KeptAnswers(store, Breaker(store, Metrics()), Seal([secret]))


async def test_another_process_finds_the_answer_about_the_call_and_no_other(store):
    assert await process(store).find(SID) is None
    await process(store).keep(SID, FIELDS)
    assert await process(store).find(SID) == FIELDS
    assert await process(store).find(OTHER_SID) is None


async def test_first_answer_stays(store):
    await process(store).keep(SID, FIELDS)
    await process(store).keep(SID, {"agents": ["other"]})
    assert await process(store).find(SID) == FIELDS


async def test_answer_is_sealed_for_its_call(store):
    await process(store).keep(SID, FIELDS)
    kept = await store.read(f"answer:{SID}")
    assert "canary" not in kept.text
    await store.write(f"answer:{OTHER_SID}", kept.text, 60, 0)
    assert await process(store).find(OTHER_SID) is None
    assert await process(store, "another").find(SID) is None


async def test_store_that_is_away_knows_nothing_and_loses_what_is_kept():
    await process(Failing()).keep(SID, FIELDS)
    assert await process(Failing()).find(SID) is None
