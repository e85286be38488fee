"""The finished calls that the store has: the last ones, for a while, for the page and the API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bridge.call.document import summary, without_texts
from bridge.metrics import Metrics
from bridge.server.records.matching import matcher
from bridge.server.store.documents import Bounds, Documents

MOST_CALLS = 1000
# Documents that a search asks the store for at once, which may have some 40 KB each.
BLOCK = 50

# Removes what one part of the store keeps of a call; returns whether there was anything.
Forget = Callable[[str], Awaitable[bool]]


class FinishedCalls:
    """
    Keeps the documents of finished calls, and finds them.

    Args:
        keep_s: For how long.
        forget: What else is removed with a call.
    """

    def __init__(
        self, documents: Documents, metrics: Metrics, keep_s: float, forget: Sequence[Forget]
    ) -> None:
        self._documents = documents
        self._bounds = Bounds(MOST_CALLS, keep_s)
        self._forget = (documents.forget, *forget)
        # Held by a search, which may read all documents.
        self._searching = asyncio.Lock()
        documents.on_lost = metrics.records_lost.inc

    def keep(self, document: dict[str, Any]) -> None:
        """Keep the document of a call that is over; does not wait."""
        self._documents.keep(
            document["call_sid"],
            document["attempt"],
            without_texts(document),
            document["transcript"],
            self._bounds,
        )

    async def newest(self, most: int) -> list[dict[str, Any]]:
        """
        At most so many documents without texts, the last one first.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        return [document for document in await self._documents.newest(most) if document is not None]

    async def search(self, words: str, skip: int, most: int) -> tuple[list[dict[str, Any]], int | None]:
        """
        The summaries of calls that have all of these words, the last one first; one search at a time.

        Args:
            skip: Where to go on, as the search before says; 0 for the last calls.
            most: How many summaries to look for.

        Returns:
            They, and where to go on; None at the end.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        is_meant = matcher(words)
        # A call that ends meanwhile moves the others.
        found: dict[tuple[str, int], dict[str, Any]] = {}
        async with self._searching:
            while True:
                block = await self._documents.newest(BLOCK, skip)
                for n, document in enumerate(block):
                    row = summary(document) if document is not None else None
                    if row is None or not is_meant(row):
                        continue
                    if len(found) == most:
                        return list(found.values()), skip + n
                    found[row["call_sid"], row["attempt"]] = row
                if len(block) < BLOCK:
                    return list(found.values()), None
                skip += BLOCK

    async def find(self, call_sid: str) -> list[dict[str, Any]]:
        """
        The documents of a call, one for each process that had it, the first one first.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        found = await self._documents.find(call_sid)
        return [{**fields, "transcript": texts} for fields, texts in found]

    async def forget(self, call_sid: str) -> bool:
        """
        Remove all that the store keeps of a call but how it ended; returns whether there was anything.

        Raises:
            StoreUnavailableError: The store is unavailable; a part may be removed.
            FilesUnavailableError: The disk is, likewise.
        """
        was_there = False
        for forget in self._forget:
            was_there |= await forget(call_sid)
        return was_there
