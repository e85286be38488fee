"""Every kind of store, opened as each of several processes opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from live import DEADLINE_S
from redis_server import RedisServer, redis_server, started

from bridge.server.store.memory import MemoryStore
from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.store import Store

Open = Callable[[], Store]
__all__ = ["redis_server"]


def redis_store(url: str) -> Store:
    from bridge.server.store.redis import RedisStore

    return RedisStore(url, "bridge:test:")


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def open_store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Open]:
    """Opens the same store, as each of several processes does; memory is one process's own."""
    # These tests are not about the bound, which a busy machine may exceed.
    monkeypatch.setattr("bridge.server.store.sqlite.BUSY_S", DEADLINE_S)
    opened: list[Store] = []
    if request.param == "redis":
        await started(redis_server)

    def open_one() -> Store:
        if request.param == "memory":
            store: Store = opened[0] if opened else MemoryStore()
        elif request.param == "redis":
            store = redis_store(redis_server.url)
        else:
            store = SqliteStore(tmp_path / "store.sqlite3")
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()
