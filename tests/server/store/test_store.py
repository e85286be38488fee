"""Every store keeps the same promises: one class of tests, and what only a file or a server can do."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bridge.server.store import memory
from bridge.server.store.memory import MemoryStore
from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.store import Kept, Store, StoreError

KEY = "call:CA1"
Open = Callable[[], Store]


@pytest.fixture(params=["memory", "sqlite"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the same store, as each of several processes does; memory is one process's own."""
    opened: list[Store] = []

    def open_one() -> Store:
        if request.param == "memory":
            store: Store = opened[0] if opened else MemoryStore()
        else:
            store = SqliteStore(tmp_path / "store.sqlite3")
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()


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
