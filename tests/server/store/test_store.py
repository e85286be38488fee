"""Every store keeps the same promises: one class of tests, and what only a file or a server can do."""

from __future__ import annotations

import asyncio
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from live import DEADLINE_S, FACTOR
from redis_server import PASSWORD, RedisServer, redis, redis_server
from stores import open_store, redis_store

from bridge.server.store import memory
from bridge.server.store.breaker import ASK_S
from bridge.server.store.memory import MemoryStore
from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.store import Kept, Store, StoreError
from bridge.standins.process import free_port

KEY = "call:CA1"
__all__ = ["open_store", "redis", "redis_server"]


class TestStore:
    async def test_what_is_written_is_read_with_its_version(self, open_store):
        store = open_store()
        assert await store.write(KEY, "one", 60, 0)
        assert await store.read(KEY) == Kept(1, "one")
        assert await store.write(KEY, "two", 60, 1)
        assert await store.read(KEY) == Kept(2, "two")

    async def test_other_keys_have_nothing(self, open_store):
        store = open_store()
        await store.write(KEY, "one", 60, 0)
        assert await store.read("call:CA2") is None

    async def test_change_of_an_old_version_is_refused(self, open_store):
        store = open_store()
        await store.write(KEY, "one", 60, 0)
        await store.write(KEY, "two", 60, 1)
        assert not await store.write(KEY, "late", 60, 1)
        assert not await store.write(KEY, "new", 60, 0)
        assert await store.read(KEY) == Kept(2, "two")

    async def test_change_of_nothing_is_refused(self, open_store):
        assert not await open_store().write(KEY, "two", 60, 1)

    async def test_text_ends_with_its_time(self, open_store):
        store = open_store()
        await store.write(KEY, "one", 0, 0)
        assert await store.read(KEY) is None
        assert not await store.write(KEY, "two", 60, 1)
        assert await store.write(KEY, "new", 60, 0)
        kept = await store.read(KEY)
        assert kept is not None
        assert kept.text == "new"

    async def test_one_of_many_writers_at_once_wins(self, open_store):
        stores = [open_store() for _ in range(4)]
        written = await asyncio.gather(
            *(store.write(KEY, f"{n}-{k}", 60, 0) for n, store in enumerate(stores) for k in range(25))
        )
        assert written.count(True) == 1

    async def test_all_texts_survive_as_they_are(self, open_store):
        store = open_store()
        for n, text in enumerate(["", "é☎", "'; DROP TABLE kept; --", "x" * 100_000]):
            assert await store.write(f"key {n}", text, 60, 0)
            assert await store.read(f"key {n}") == Kept(1, text)

    async def test_process_finds_the_others_until_their_time_is_over(self, open_store):
        a, b = open_store(), open_store()
        assert await a.beat("a", "one", 60) == {"a": "one"}
        assert await b.beat("b", "é☎ \n", 60) == {"a": "one", "b": "é☎ \n"}
        assert await a.beat("a", "two", 60) == {"a": "two", "b": "é☎ \n"}
        assert await b.beat("b", "", 0) == {"a": "two"}
        assert await a.beat("a", "two", 60) == {"a": "two"}

    async def test_process_that_comes_back_is_there_again(self, open_store):
        store = open_store()
        assert await store.beat("a", "one", 0) == {}
        assert await store.beat("a", "two", 60) == {"a": "two"}

    async def test_processes_are_apart_from_other_texts(self, open_store):
        store = open_store()
        await store.write("process", "text", 60, 0)
        await store.write(KEY, "text", 60, 0)
        assert await store.beat("a", "one", 60) == {"a": "one"}

    async def test_many_processes_at_once_find_each_other(self, open_store):
        stores = [open_store() for _ in range(4)]
        await asyncio.gather(*(store.beat(f"{n}", "", 60) for n, store in enumerate(stores)))
        assert await stores[0].beat("0", "", 60) == {f"{n}": "" for n in range(4)}

    async def test_second_close_changes_nothing(self, open_store):
        store = open_store()
        await store.close()
        await store.close()


async def test_memory_keeps_the_newest(monkeypatch):
    monkeypatch.setattr(memory, "MOST_KEYS", 2)
    store = MemoryStore()
    for n in range(3):
        await store.write(f"key {n}", "text", 60, 0)
    assert [await store.read(f"key {n}") for n in range(3)] == [None, Kept(1, "text"), Kept(1, "text")]


# A file


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.sqlite3")
    yield store
    await store.close()


async def test_only_the_owner_reads_the_files(sqlite, tmp_path):
    await sqlite.write(KEY, "one", 60, 0)
    files = list(tmp_path.iterdir())
    assert len(files) > 1
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * len(files)


async def test_what_a_killed_process_has_written_is_read(sqlite, tmp_path):
    program = (
        "import asyncio, os, signal, sys; from pathlib import Path;"
        "from bridge.server.store.sqlite import SqliteStore;"
        "store = SqliteStore(Path(sys.argv[1]));"
        f"assert asyncio.run(store.write({KEY!r}, 'one', 60, 0));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(  # noqa: ASYNC221
        [sys.executable, "-c", program, str(tmp_path / "store.sqlite3")], check=False
    )
    assert done.returncode == -9
    assert await sqlite.read(KEY) == Kept(1, "one")


async def test_expired_texts_are_deleted(sqlite, monkeypatch):
    monkeypatch.setattr("bridge.server.store.sqlite.PURGE_EVERY", 3)
    for n in range(3):
        await sqlite.write(f"key {n}", "text", 0 if n else 60, 0)
    assert sqlite._connection is not None
    left = await sqlite._run(lambda connection: connection.execute("SELECT key FROM kept").fetchall())
    assert sorted(left) == [("key 0",), ("key 2",)]


async def test_file_that_is_no_database_is_an_error_each_time(sqlite, tmp_path):
    (tmp_path / "store.sqlite3").write_bytes(b"no database" * 100)
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database"):
            await sqlite.read(KEY)


async def test_file_that_appears_later_is_used(tmp_path):
    store = SqliteStore(tmp_path / "later" / "store.sqlite3")
    with pytest.raises(StoreError, match="No such file"):
        await store.read(KEY)
    (tmp_path / "later").mkdir()
    assert await store.read(KEY) is None
    await store.close()


async def test_full_disk_is_an_error_and_the_store_goes_on_when_there_is_room(sqlite):
    await sqlite.write(KEY, "one", 60, 0)
    await sqlite._run(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchall())
    with pytest.raises(StoreError, match="full"):
        await sqlite.write(KEY, "x" * 1_000_000, 60, 1)
    await sqlite._run(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchall())
    assert await sqlite.read(KEY) == Kept(1, "one")
    assert await sqlite.write(KEY, "x" * 1_000_000, 60, 1)


async def test_lock_of_another_process_is_an_error_within_the_bound(sqlite, tmp_path):
    other = SqliteStore(tmp_path / "store.sqlite3")
    await sqlite.write(KEY, "one", 60, 0)
    await other._run(lambda connection: connection.execute("BEGIN EXCLUSIVE").fetchall())
    with pytest.raises(StoreError, match="locked"):
        await sqlite.write(KEY, "two", 60, 1)
    assert await sqlite.read(KEY) == Kept(1, "one")
    await other.close()


# A server


@pytest.fixture
async def in_redis(redis: RedisServer) -> AsyncIterator[Store]:
    store = redis_store(redis.url)
    yield store
    await store.close()


async def test_redis_that_is_gone_is_an_error_until_it_is_back(redis, in_redis):
    await in_redis.write(KEY, "one", 60, 0)
    await redis.kill()
    with pytest.raises(StoreError) as caught:
        await in_redis.read(KEY)
    assert PASSWORD not in str(caught.value)
    await redis.start()
    assert await in_redis.read(KEY) is None
    assert await in_redis.write(KEY, "two", 60, 0)


async def test_more_questions_at_once_than_a_pool_has_connections_are_all_answered(in_redis):
    await in_redis.write(KEY, "one", 60, 0)
    answers = await asyncio.gather(*(in_redis.read(KEY) for _ in range(300)))
    assert answers == [Kept(1, "one")] * 300


async def test_redis_that_is_frozen_is_given_up_and_used_again(redis, in_redis):
    await in_redis.write(KEY, "one", 60, 0)
    redis.process.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await in_redis.read("another key")
    redis.process.send_signal(signal.SIGCONT)
    # The late answer is not taken for this one's.
    assert await in_redis.read(KEY) == Kept(1, "one")


async def test_full_redis_is_an_error(redis, in_redis):
    await redis.kill()
    await redis.start("--maxmemory", "1mb")
    with pytest.raises(StoreError, match="OutOfMemory"):
        await in_redis.write(KEY, "x" * 2_000_000, 60, 0)
        await in_redis.write(KEY, "x" * 2_000_000, 60, 1)


async def test_wrong_password_is_an_error_without_it(redis):
    store = redis_store(redis.url.replace(PASSWORD, "canary-wrong"))
    with pytest.raises(StoreError, match="Authentication") as caught:
        await store.read(KEY)
    assert "canary" not in str(caught.value)
    await store.close()


async def test_redis_that_may_evict_is_warned_of_once(redis, logs):
    await redis.kill()
    await redis.start("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    store = redis_store(redis.url)
    await store.read(KEY)
    await store.read(KEY)
    await store.close()
    assert sum("Redis may evict" in line for line in logs.lines) == 1


async def test_processes_that_are_gone_leave_nothing_in_redis(redis, in_redis):
    await in_redis.beat("a", "one", 0.001)
    async with asyncio.timeout(DEADLINE_S):
        while "a" in await in_redis.beat("b", "two", 60):
            pass
    key = "bridge:test:processes"
    assert await in_redis._client.hkeys(key) == ["b"]
    assert await in_redis._client.pttl(key) in range(1, 60_001)
    await in_redis.beat("b", "", 0)
    assert not await in_redis._client.exists(key)


async def test_sentinel_that_answers_leads_to_the_server_within_the_bound(redis, tmp_path):
    sentinel = RedisServer(tmp_path)
    await sentinel.start_sentinel(redis)
    # One is gone, and another one takes connections without a word.
    deaf = socket.create_server(("127.0.0.1", 0))
    ports = [free_port(), deaf.getsockname()[1], sentinel.port]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    store = redis_store(f"redis+sentinel://:{PASSWORD}@{hosts}/calls/2")
    direct = redis_store(redis.url.removesuffix("0") + "2")
    try:
        async with asyncio.timeout(ASK_S * FACTOR):
            assert await store.write(KEY, "one", 60, 0)
        assert await direct.read(KEY) == Kept(1, "one")
    finally:
        await store.close()
        await direct.close()
        await sentinel.kill()
        deaf.close()
