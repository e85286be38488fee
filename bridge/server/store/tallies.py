"""What all processes count together: texts under keys, each changed by a rule, with few tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from bridge.seal import Seal
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.store import Store

# Others may change the same text at the same time; after this many tries a process counts for itself.
TRIES = 6

# Gets the fields that stand, none if there are none, and returns the new ones, or None to leave them.
Rule = Callable[[dict[str, Any]], dict[str, Any] | None]


class Tallies:
    """
    Reads and changes what is counted.

    The texts hold nothing personal and are not sealed: processes with different auth tokens, while one is rotated,
    count together.
    """

    def __init__(self, store: Store, breaker: Breaker, seal: Seal) -> None:
        self._store = store
        self._breaker = breaker
        self._seal = seal

    def key_of_caller(self, number: str) -> str:
        """The key of a caller, which does not tell the number."""
        return f"caller:{self._seal.name('caller', number)}"

    async def change(self, key: str, rule: Rule, ttl_s: float) -> dict[str, Any]:
        """
        Change the fields under a key.

        Returns:
            The fields that stand then.

        Raises:
            StoreUnavailableError: The store is unavailable, or others were faster at each try.
        """

        async def question() -> dict[str, Any] | None:
            for _ in range(TRIES):
                kept = await self._store.read(key)
                before = _fields(kept.text) if kept is not None else {}
                after = rule(before)
                if after is None:
                    return before
                text = orjson.dumps(after).decode()
                if await self._store.write(key, text, ttl_s, kept.version if kept is not None else 0):
                    return after
            return None

        found = await self._breaker.ask(question)
        if found is None:
            raise StoreUnavailableError
        return found


def _fields(text: str) -> dict[str, Any]:
    """The fields of a text; none of one that another version wrote otherwise."""
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
