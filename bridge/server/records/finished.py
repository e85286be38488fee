"""The finished calls that the store has: the last ones, for a while, for the page and the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bridge.call.document import without_texts
from bridge.metrics import Metrics
from bridge.server.store.documents import Bounds, Documents

MOST_CALLS = 1000

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
        return await self._documents.newest(most)

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
        """
        was_there = False
        for forget in self._forget:
            was_there |= await forget(call_sid)
        return was_there
