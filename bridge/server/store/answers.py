"""What the answer webhook said about calls, kept for webhooks of the same calls that come again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.seal import BadSeal, Seal
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.store import Store, remove

# Twilio repeats a webhook within seconds; what an admitted call needs of an answer is in its session.
KEPT_S = 600.0


class KeptAnswers:
    """Writes and reads answers, sealed for their call."""

    def __init__(self, store: Store, breaker: Breaker, seal: Seal) -> None:
        self._store = store
        self._breaker = breaker
        self._seal = seal

    async def find(self, call_sid: str) -> dict[str, Any] | None:
        """The fields of the answer about a call; None if nobody has asked, or if the store is unavailable."""
        key = _key(call_sid)
        try:
            kept = await self._breaker.ask(lambda: self._store.read(key))
            return self._seal.open(key, kept.text, None) if kept is not None else None
        except (StoreUnavailableError, BadSeal):
            return None

    async def keep(self, call_sid: str, fields: Mapping[str, Any]) -> None:
        """Write the answer about a call; the first one stays, and an unavailable store loses it."""
        key = _key(call_sid)
        text = self._seal.seal(key, fields)
        try:
            await self._breaker.ask(lambda: self._store.write(key, text, KEPT_S, 0))
        except StoreUnavailableError:
            # The breaker has logged and counted it.
            return

    async def forget(self, call_sid: str) -> bool:
        """
        Remove the answer about a call; returns whether there was one.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        return await self._breaker.ask(lambda: remove(self._store, _key(call_sid)))


def _key(call_sid: str) -> str:
    return f"answer:{call_sid}"
