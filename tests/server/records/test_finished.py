"""Finished calls: kept without texts beside them, found by CallSid, and removed with all that belongs to them."""

from __future__ import annotations

import asyncio

import pytest

from bridge.agents.succession import Memory, Said, Speaker
from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.records import finished
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


def facts(n: int, **fields):
    """What `summary` reads of a document."""
    return {
        "call_sid": f"CA{n:032x}",
        "attempt": 0,
        "from": "+141…23",
        "to": "+442…00",
        "route": "sales" if n % 2 else "default",
        "agents": [{"name": "echo"}],
        "times": {"start": None, "ended": None},
        "duration_s": 1.0,
        "first_agent_audio_s": None,
        "interrupts": {"count": 0},
        "drops": {"to_agent": 0, "to_caller": 0},
        "end": {"why": "caller_stopped", "outcome": "ended"},
        "transcript": [],
        **fields,
    }


async def test_search_goes_through_all_pages_and_ends(bench, monkeypatch):
    monkeypatch.setattr(finished, "BLOCK", 3)
    for n in range(11):
        bench.finished.keep(facts(n))
    await bench.documents.settled()
    # Sealed with another token.
    await bench.store.shelf.put("CAx", 0, "unreadable", 0.0, 1e12, 100)
    for words, expected in (("", range(10, -1, -1)), ("sales", range(9, -1, -2)), ("billing", [])):
        for most in (1, 2, 3, 4, 20):
            pages, after = [], 0
            while after is not None:
                rows, after = await bench.finished.search(words, after, most)
                pages.append([int(row["call_sid"][2:], 16) for row in rows])
            assert [n for page in pages for n in page] == [*expected]
            assert all(len(page) == most for page in pages[:-1])
            assert len(pages[-1]) in range(most + 1)
            assert pages[-1] or len(pages) == 1


async def test_call_that_ends_during_a_search_is_no_second_row(bench, monkeypatch):
    monkeypatch.setattr(finished, "BLOCK", 2)
    for n in range(6):
        bench.finished.keep(facts(n))
    await bench.documents.settled()
    newest = bench.documents.newest

    async def with_a_new_one(most, skip):
        found = await newest(most, skip)
        if skip == 0:
            bench.finished.keep(facts(7))
            await bench.documents.settled()
        return found

    monkeypatch.setattr(bench.documents, "newest", with_a_new_one)
    rows, after = await bench.finished.search("", 0, 10)
    assert [int(row["call_sid"][2:], 16) for row in rows] == [5, 4, 3, 2, 1, 0]
    assert after is None


async def test_one_search_at_a_time_reads_the_store(bench, monkeypatch):
    bench.finished.keep(facts(1))
    await bench.documents.settled()
    newest, now, most = bench.documents.newest, [0], [0]

    async def counted(*arguments):
        now[0] += 1
        most[0] = max(most[0], now[0])
        found = await newest(*arguments)
        now[0] -= 1
        return found

    monkeypatch.setattr(bench.documents, "newest", counted)
    found = await asyncio.gather(*(bench.finished.search("", 0, 1) for _ in range(5)))
    assert [len(rows) for rows, _ in found] == 5 * [1]
    assert most == [1]


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
