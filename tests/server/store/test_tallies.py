"""Tallies: processes that count at once lose nothing, and a store that is away is said."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.memory import MemoryStore
from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.store import Kept, StoreError
from bridge.server.store.tallies import TRIES, Tallies


def tallies_of(store: Any, metrics: Metrics | None = None, *secrets: str) -> Tallies:
    return Tallies(store, Breaker(store, metrics or Metrics()), Seal(secrets or ("auth",)))


def one_more(fields: dict[str, Any]) -> dict[str, Any]:
    return {"n": fields.get("n", 0) + 1}


async def test_counts_of_two_processes_that_come_at_once_add_up(tmp_path: Path):
    stores = [SqliteStore(tmp_path / "store.sqlite3") for _ in range(2)]
    tallies = [tallies_of(store) for store in stores]
    await asyncio.gather(*(one.change("k", one_more, 60) for one in tallies))
    assert await tallies[0].change("k", lambda fields: None, 60) == {"n": 2}
    for store in stores:
        await store.close()


async def test_rule_that_changes_nothing_writes_nothing():
    store = MemoryStore()
    tallies = tallies_of(store)
    assert await tallies.change("k", lambda fields: None, 60) == {}
    assert await store.read("k") is None


async def test_process_that_others_outrun_at_each_try_goes_on_without_a_failure_of_the_store():
    class Busy(MemoryStore):
        reads = 0

        async def read(self, key: str) -> Kept | None:
            self.reads += 1
            return await super().read(key)

        async def write(self, key: str, text: str, ttl_s: float, after: int) -> bool:
            return False

    store, metrics = Busy(), Metrics()
    with pytest.raises(StoreUnavailableError):
        await tallies_of(store, metrics).change("k", one_more, 60)
    assert store.reads == TRIES
    assert metrics.registry.get_sample_value("bridge_store_available") == 1


async def test_store_that_is_away_is_said():
    class Away(MemoryStore):
        async def read(self, key: str) -> Kept | None:
            raise StoreError("away")

    with pytest.raises(StoreUnavailableError):
        await tallies_of(Away()).change("k", one_more, 60)


@pytest.mark.parametrize("text", ["", "[1]", "{"])
async def test_text_of_another_form_counts_as_none(text):
    store = MemoryStore()
    await store.write("k", text, 60, 0)
    assert await tallies_of(store).change("k", one_more, 60) == {"n": 1}


def test_key_of_a_caller_hides_the_number_and_is_the_same_while_tokens_are_rotated():
    number = "+15551234567"
    key = tallies_of(MemoryStore(), None, "old").key_of_caller(number)
    assert number[1:] not in key
    assert key == tallies_of(MemoryStore(), None, "new", "old").key_of_caller(number)
    assert key != tallies_of(MemoryStore(), None, "other").key_of_caller(number)
    assert key != tallies_of(MemoryStore(), None, "old").key_of_caller(number + "8")
