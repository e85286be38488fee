"""Documents of finished calls in the store: sealed for their call, their texts apart and for a shorter time."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from bridge.seal import BadSeal, Seal
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.store import Store, remove

# Many calls may end at once; each document has a few KB.
MOST_WAITING = 2000
# What was said leaves the store this long after the call.
TEXTS_S = 600.0
# What documents are sealed for; each names its call.
SHELF = "document"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many calls the store has documents of, and for how long."""

    most: int
    keep_s: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    call_sid: str
    attempt: int
    fields: Mapping[str, Any]
    texts: list[Any]
    bounds: Bounds


class Documents:
    """
    Writes documents one after the other, so that what calls need of the store has its turn, and reads them.

    Args:
        clock: The Unix time.

    Attributes:
        on_lost: Called for each one that the store did not take.
    """

    def __init__(
        self, store: Store, breaker: Breaker, seal: Seal, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._seal = seal
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        # Writes while any waits.
        self._writing: asyncio.Task[None] | None = None
        self.on_lost: Callable[[], None] = lambda: None

    def keep(
        self, call_sid: str, attempt: int, fields: Mapping[str, Any], texts: list[Any], bounds: Bounds
    ) -> None:
        """Write the document of a call, and what was said in it, later; the store may lose it."""
        if len(self._waiting) >= MOST_WAITING:
            self.on_lost()
            return
        self._waiting.append(_Waiting(call_sid, attempt, fields, texts, bounds))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_all(), name="documents")

    async def settled(self) -> None:
        """Wait for what is to be written, which is bounded: while the store is unavailable, all of it is lost."""
        if self._writing is not None:
            await self._writing

    async def newest(self, most: int, skip: int = 0) -> list[dict[str, Any] | None]:
        """
        At most so many documents without their texts, the last one first, after some that are left out.

        Returns:
            None in place of each one that was sealed with an auth token that is no longer used.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        sealed = await self._breaker.ask(lambda: self._store.shelf.newest(self._clock(), most, skip))
        found = []
        for text in sealed:
            found.append(self._open(SHELF, text))
            # Each takes time that a frame may wait for.
            await asyncio.sleep(0)
        return found

    async def find(self, call_sid: str) -> list[tuple[dict[str, Any], list[Any]]]:
        """
        The documents of a call, the first one first, each with what was said.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """

        async def question() -> list[tuple[dict[str, Any], list[Any]]]:
            found = []
            for text in await self._store.shelf.find(call_sid, self._clock()):
                fields = self._open(SHELF, text)
                if fields is not None and fields.get("call_sid") == call_sid:
                    found.append((fields, await self._texts(call_sid, fields.get("attempt", 0))))
            return found

        return await self._breaker.ask(question)

    async def forget(self, call_sid: str) -> bool:
        """
        Remove the documents of a call; returns whether there were any.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        waiting = [one for one in self._waiting if one.call_sid == call_sid]
        for one in waiting:
            self._waiting.remove(one)

        async def question() -> bool:
            for text in await self._store.shelf.find(call_sid, self._clock()):
                fields = self._open(SHELF, text) or {}
                await remove(self._store, _key_of_texts(call_sid, fields.get("attempt", 0)))
            return await self._store.shelf.remove(call_sid)

        return await self._breaker.ask(question) or bool(waiting)

    async def _write_all(self) -> None:
        while self._waiting:
            one = self._waiting.popleft()
            try:
                await self._breaker.ask(partial(self._write, one))
            except StoreUnavailableError:
                # The breaker has logged and counted it.
                self.on_lost()

    async def _write(self, one: _Waiting) -> None:
        now, bounds = self._clock(), one.bounds
        if one.texts:
            key = _key_of_texts(one.call_sid, one.attempt)
            text = self._seal.seal(key, {"texts": one.texts})
            await self._store.write(key, text, min(TEXTS_S, bounds.keep_s), 0)
        sealed = self._seal.seal(SHELF, one.fields)
        await self._store.shelf.put(one.call_sid, one.attempt, sealed, now, now + bounds.keep_s, bounds.most)

    async def _texts(self, call_sid: str, attempt: int) -> list[Any]:
        key = _key_of_texts(call_sid, attempt)
        kept = await self._store.read(key)
        fields = self._open(key, kept.text) if kept is not None else None
        return list((fields or {}).get("texts", []))

    def _open(self, purpose: str, text: str) -> dict[str, Any] | None:
        try:
            return self._seal.open(purpose, text, None)
        except BadSeal:
            # Sealed with an auth token that is no longer used: nobody can read it any more.
            return None


def _key_of_texts(call_sid: str, attempt: int) -> str:
    return f"texts:{call_sid}:{attempt}"
