"""A store in a file, for the processes of one host, and for one that comes back after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bridge.server.store.sqlite_queue import SCHEMA as QUEUE_SCHEMA
from bridge.server.store.sqlite_queue import SqliteQueue
from bridge.server.store.sqlite_shelf import SCHEMA as SHELF_SCHEMA
from bridge.server.store.sqlite_shelf import SqliteShelf
from bridge.server.store.store import Kept, StoreError

# How long one statement waits for other processes; below the bound of a question.
BUSY_S = 0.2
# Texts whose time is over are deleted once in this many changes.
PURGE_EVERY = 500

SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (
    key TEXT PRIMARY KEY, version INTEGER NOT NULL, text TEXT NOT NULL, until REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kept_until ON kept (until);
"""
READ = "SELECT version, text FROM kept WHERE key = ? AND until > ?"
# An expired text counts as none, and its version goes on: nobody takes the new text for the old one.
INSERT = """
INSERT INTO kept VALUES (:key, 1, :text, :until) ON CONFLICT (key) DO UPDATE
SET version = version + 1, text = :text, until = :until WHERE kept.until <= :now
"""
UPDATE = """
UPDATE kept SET version = version + 1, text = :text, until = :until
WHERE key = :key AND version = :after AND until > :now
"""
BEAT = "REPLACE INTO kept VALUES (?, 1, ?, ?)"
# The keys of processes: ";" follows ":".
PROCESSES = "SELECT substr(key, 9), text FROM kept WHERE key > 'process:' AND key < 'process;' AND until > ?"
PURGE = "DELETE FROM kept WHERE until <= ?"

T = TypeVar("T")


class SqliteStore:
    """
    Keeps texts in an SQLite database, on a thread of its own.

    Args:
        path: The file; made with the mode 0600 at the first question.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "store")
        # Opened and used only on the thread.
        self._connection: sqlite3.Connection | None = None
        self._changes = 0
        self._is_closed = False
        self.queue = SqliteQueue(self._run)
        self.shelf = SqliteShelf(self._run)

    async def read(self, key: str) -> Kept | None:
        def work(connection: sqlite3.Connection) -> Kept | None:
            row = connection.execute(READ, (key, time.time())).fetchone()
            return Kept(*row) if row is not None else None

        return await self._run(work)

    async def write(self, key: str, text: str, ttl_s: float, after: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            now = time.time()
            values = {"key": key, "text": text, "until": now + ttl_s, "after": after, "now": now}
            self._changes += 1
            if self._changes % PURGE_EVERY == 0:
                connection.execute(PURGE, (now,))
            # One statement is one transaction.
            return connection.execute(UPDATE if after else INSERT, values).rowcount == 1

        return await self._run(work)

    async def beat(self, owner: str, text: str, ttl_s: float) -> dict[str, str]:
        def work(connection: sqlite3.Connection) -> dict[str, str]:
            now = time.time()
            connection.execute(BEAT, (f"process:{owner}", text, now + ttl_s))
            return dict(connection.execute(PROCESSES, (now,)).fetchall())

        return await self._run(work)

    async def close(self) -> None:
        def work() -> None:
            if self._connection is not None:
                self._connection.close()

        if self._is_closed:
            return
        self._is_closed = True
        closing = self._thread.submit(work)
        # A thread that hangs must not hold up the end of the process's calls.
        self._thread.shutdown(wait=False)
        await asyncio.wait({asyncio.wrap_future(closing)}, timeout=BUSY_S)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._is_closed:
            raise StoreError("closed")

        def guarded() -> T:
            try:
                if self._connection is None:
                    self._connection = _open(self._path)
                return work(self._connection)
            except (sqlite3.Error, OSError) as error:
                raise StoreError(str(error)) from None

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)


def _open(path: Path) -> sqlite3.Connection:
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            return _connect(path)
        except sqlite3.OperationalError as error:
            # SQLite does not wait by itself while another process makes the database.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _connect(path: Path) -> sqlite3.Connection:
    # SQLite gives the files beside it the same mode. To close a file that exists would drop the locks of this process.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # What a killed process has written stays; a power cut may take the last changes.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(SCHEMA + QUEUE_SCHEMA + SHELF_SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
