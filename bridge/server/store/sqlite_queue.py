"""A queue in the file of an SQLite store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from bridge.server.store.queue import KNOWN_S, Length, Queued

# Texts whose time is over are deleted once in this many changes.
PURGE_EVERY = 500

# `due` is set for the first text of a lane alone. What left the queue has no lane, and is known until its time is over.
SCHEMA = """
CREATE TABLE IF NOT EXISTS queued (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, lane TEXT, text TEXT NOT NULL, pushed_at REAL NOT NULL,
    until REAL NOT NULL, due REAL, lease TEXT NOT NULL DEFAULT '', tries INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS queued_lane ON queued (lane, n) WHERE lane IS NOT NULL;
CREATE INDEX IF NOT EXISTS queued_due ON queued (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS queued_until ON queued (until);
"""
PUSH = """
INSERT INTO queued (id, lane, text, pushed_at, until, due)
SELECT :id, :lane, :text, :now, :until,
    CASE WHEN EXISTS (SELECT 1 FROM queued WHERE lane = :lane) THEN NULL ELSE :now END
WHERE (SELECT COUNT(*) FROM queued WHERE lane IS NOT NULL) < :most ON CONFLICT (id) DO NOTHING
"""
IS_KNOWN = "SELECT 1 FROM queued WHERE id = ?"
IS_DUE = "SELECT 1 FROM queued WHERE due <= ? LIMIT 1"
TAKE = """
UPDATE queued SET due = :until, lease = :lease, tries = tries + 1
WHERE n IN (SELECT n FROM queued WHERE due <= :now ORDER BY due LIMIT :most)
RETURNING lane, id, CASE WHEN queued.until > :now THEN text ELSE '' END, tries
"""
FINISH = """
UPDATE queued SET lane = NULL, due = NULL, text = '', until = :now + :known_s
WHERE lane = :lane AND id = :id AND lease = :lease
"""
NEXT = "UPDATE queued SET due = :now WHERE n = (SELECT MIN(n) FROM queued WHERE lane = :lane)"
POSTPONE = "UPDATE queued SET due = :due, lease = '' WHERE lane = :lane AND id = :id AND lease = :lease"
LENGTH = "SELECT COUNT(*), IFNULL(MIN(pushed_at), 0) FROM queued WHERE lane IS NOT NULL"
FORGET = "DELETE FROM queued WHERE lane IS NULL AND until <= ?"
# Its place stays: whoever takes it counts it.
BLANK_LANE = "UPDATE queued SET text = '' WHERE lane = ? AND text <> ''"
BLANK = "UPDATE queued SET text = '' WHERE lane IS NOT NULL AND until <= ? AND text <> ''"

T = TypeVar("T")


class Run(Protocol):
    """Does work on the store's thread, with its connection."""

    async def __call__(self, work: Callable[[sqlite3.Connection], T]) -> T: ...


class SqliteQueue:
    """
    Keeps texts in a table.

    Args:
        run: The store's.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        # Counted on the thread.
        self._changes = 0

    async def push(self, lane: str, id: str, text: str, now: float, until: float, most: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            self._changes += 1
            if self._changes % PURGE_EVERY == 0:
                connection.execute(FORGET, (time.time(),))
                connection.execute(BLANK, (time.time(),))
            values = {"lane": lane, "id": id, "text": text, "now": now, "until": until, "most": most}
            if connection.execute(PUSH, values).rowcount == 1:
                return True
            return connection.execute(IS_KNOWN, (id,)).fetchone() is not None

        return await self._run(work)

    async def take(self, now: float, until: float, lease: str, most: int) -> list[Queued]:
        def work(connection: sqlite3.Connection) -> list[Queued]:
            # Most of the time there is none, and a read keeps no other process waiting.
            if connection.execute(IS_DUE, (now,)).fetchone() is None:
                return []
            values = {"now": now, "until": until, "lease": lease, "most": most}
            return [Queued(*row) for row in connection.execute(TAKE, values).fetchall()]

        return await self._run(work)

    async def finish(self, lane: str, id: str, lease: str, now: float) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            values = {"lane": lane, "id": id, "lease": lease, "now": now, "known_s": KNOWN_S}
            connection.execute("BEGIN IMMEDIATE")
            try:
                is_done = connection.execute(FINISH, values).rowcount == 1
                if is_done:
                    connection.execute(NEXT, values)
            except sqlite3.Error:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
            return is_done

        return await self._run(work)

    async def postpone(self, lane: str, id: str, lease: str, due: float) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            values = {"lane": lane, "id": id, "lease": lease, "due": due}
            return connection.execute(POSTPONE, values).rowcount == 1

        return await self._run(work)

    async def blank(self, lane: str) -> bool:
        return await self._run(lambda connection: connection.execute(BLANK_LANE, (lane,)).rowcount > 0)

    async def length(self) -> Length:
        return await self._run(lambda connection: Length(*connection.execute(LENGTH).fetchone()))
