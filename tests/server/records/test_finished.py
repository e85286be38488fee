"""Finished calls: kept without texts beside them, found by CallSid, and removed with all that belongs to them."""

from __future__ import annotations

import pytest

from bridge.agents.succession import Memory, Said, Speaker
from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.records.finished import MOST_CALLS, FinishedCalls
from bridge.server.store.answers import KeptAnswers
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.documents import Documents
from bridge.server.store.memory import MemoryStore
from bridge.server.store.store import StoreError
from bridge.server.store.transcripts import Transcripts

SID = "CA" + "1" * 32
SAID = [{"at_s": 1.5, "speaker": "caller", "text": "Hello?"}]


class Bench:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.metrics = Metrics()
        parts = self.store, Breaker(self.store, self.metrics), Seal(["auth"])
        self.documents = Documents(*parts)
        self.transcripts = Transcripts(*parts, is_on=True)
        self.answers = KeptAnswers(*parts)
        also = self.transcripts.forget, self.answers.forget
        self.finished = FinishedCalls(self.documents, self.metrics, 7200.0, also)

    async def keep(self, **fields) -> None:
        self.finished.keep({"call_sid": SID, "attempt": 0, "transcript": SAID, **fields})
        await self.documents.settled()


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_texts_are_in_the_record_of_a_call_and_in_no_list(bench):
    await bench.keep()
    assert await bench.finished.find(SID) == [{"call_sid": SID, "attempt": 0, "transcript": SAID}]
    assert await bench.finished.newest(9) == [{"call_sid": SID, "attempt": 0, "transcript": []}]


async def test_record_outlives_its_texts_and_ends_with_its_time(bench, monkeypatch):
    put, bounds = bench.store.shelf.put, []

    async def recording(name, part, text, now, until, most):
        bounds.append((until - now, most))
        await put(name, part, text, now, until, most)

    monkeypatch.setattr(bench.store.shelf, "put", recording)
    await bench.keep()
    assert bounds == [(pytest.approx(7200.0), MOST_CALLS)]


async def test_all_of_a_call_is_removed(bench):
    await bench.keep()
    bench.transcripts.keep(SID, Memory((Said(Speaker.AGENT, "Hello?"),), is_awaited=False))
    await bench.transcripts.settled()
    await bench.answers.keep(SID, {"agents": ["a"]})
    assert await bench.finished.forget(SID)
    assert await bench.store.read(f"said:{SID}") is None
    assert await bench.store.read(f"answer:{SID}") is None
    assert await bench.finished.find(SID) == []
    assert not await bench.finished.forget(SID)
    await bench.keep()
    assert await bench.finished.forget(SID)


async def test_call_without_a_record_is_removed_too(bench):
    await bench.answers.keep(SID, {"agents": ["a"]})
    assert await bench.finished.forget(SID)


async def test_lost_record_is_counted(bench, monkeypatch):
    async def fails(*arguments):
        raise StoreError("gone")

    monkeypatch.setattr(bench.store.shelf, "put", fails)
    await bench.keep()
    assert bench.metrics.registry.get_sample_value("bridge_records_lost_total") == 1
    with pytest.raises(StoreUnavailableError):
        await bench.finished.find(SID)
