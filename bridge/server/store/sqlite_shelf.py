"""A shelf in the file of an SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Protocol, TypeVar

# `put_at` is the time of the last text of a name, in all its rows.
SCHEMA = """
CREATE TABLE IF NOT EXISTS shelved (
    n INTEGER PRIMARY KEY, name TEXT NOT NULL, part INTEGER NOT NULL, text TEXT NOT NULL, put_at REAL NOT NULL,
    until REAL NOT NULL, UNIQUE (name, part)
);
CREATE INDEX IF NOT EXISTS shelved_put ON shelved (put_at, name);
CREATE INDEX IF NOT EXISTS shelved_until ON shelved (until);
"""
PUT = """
INSERT INTO shelved (name, part, text, put_at, until) VALUES (:name, :part, :text, :now, :until)
ON CONFLICT (name, part) DO UPDATE SET text = :text
"""
RENEW = "UPDATE shelved SET put_at = :now, until = :until WHERE name = :name"
FORGET = "DELETE FROM shelved WHERE until <= :now"
# Up to the last name that is too many.
BOUND = """
DELETE FROM shelved WHERE put_at <= (
    SELECT MAX(put_at) AS at FROM shelved GROUP BY name ORDER BY at DESC LIMIT 1 OFFSET :most
)
"""
FIND = "SELECT text FROM shelved WHERE name = ? AND until > ? ORDER BY part"
NEWEST = "SELECT text FROM shelved WHERE until > ? ORDER BY put_at DESC, name, part DESC LIMIT ? OFFSET ?"
REMOVE = "DELETE FROM shelved WHERE name = ?"

T = TypeVar("T")


class Run(Protocol):
    """Does work on the store's thread, with its connection."""

    async def __call__(self, work: Callable[[sqlite3.Connection], T]) -> T: ...


class SqliteShelf:
    """
    Keeps texts in a table.

    Args:
        run: The store's.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    async def put(self, name: str, part: int, text: str, now: float, until: float, most: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            values = {"name": name, "part": part, "text": text, "now": now, "until": until, "most": most}
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement in (FORGET, PUT, RENEW, BOUND):
                    connection.execute(statement, values)
            except sqlite3.Error:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

        await self._run(work)

    async def find(self, name: str, now: float) -> list[str]:
        return await self._texts(FIND, name, now)

    async def newest(self, now: float, most: int, skip: int = 0) -> list[str]:
        return await self._texts(NEWEST, now, most, skip)

    async def remove(self, name: str) -> bool:
        return await self._run(lambda connection: connection.execute(REMOVE, (name,)).rowcount > 0)

    async def _texts(self, statement: str, *values: str | float) -> list[str]:
        return await self._run(
            lambda connection: [text for (text,) in connection.execute(statement, values).fetchall()]
        )
