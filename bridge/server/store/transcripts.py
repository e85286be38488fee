"""What was said in calls lately, kept for an agent of another process that takes a call over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from bridge.agents.succession import Memory, Said, Speaker
from bridge.seal import BadSeal, Seal
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.store import Store, remove

# What was said leaves the store this long after the call, and after the death of its process.
KEPT_S = 600.0
# A call in which nothing new is said is written again before its time is over.
REFRESH_S = KEPT_S / 2
# Half a sentence more or less makes no difference to a successor, and each write costs the store one.
WRITE_EVERY_S = 1.0


class Transcripts:
    """
    Writes and reads transcripts, sealed for their call.

    Args:
        is_on: If False, nothing is written.
    """

    def __init__(self, store: Store, breaker: Breaker, seal: Seal, *, is_on: bool) -> None:
        self.is_on = is_on
        self._store = store
        self._breaker = breaker
        self._seal = seal
        # What is written next of a call whose former text is being written: the older never replaces the newer.
        self._next: dict[str, Memory | None] = {}
        # Writes and reads that nobody awaits.
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, call_sid: str, memory: Memory) -> None:
        """Write what was said so far, in place of what is there; the store may lose it."""
        if call_sid in self._next:
            self._next[call_sid] = memory
        elif self.is_on and not self._breaker.is_open:
            self._next[call_sid] = memory
            self._start(self._keep(call_sid))

    def recall(self, call_sid: str, then: Callable[[Memory | None], None]) -> None:
        """Call ``then`` with what was said, None if that is unknown: at once, or when the store has answered."""
        if self._breaker.is_open:
            then(None)
        else:
            self._start(self._recall(call_sid, then))

    async def forget(self, call_sid: str) -> bool:
        """
        Remove what was said in a call; returns whether there was anything.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        return await self._breaker.ask(lambda: remove(self._store, _key(call_sid)))

    async def settled(self) -> None:
        """Wait for what is under way, which is bounded."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="transcript")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, call_sid: str) -> None:
        try:
            while (memory := self._next[call_sid]) is not None:
                self._next[call_sid] = None
                await self._write(call_sid, memory)
        except StoreUnavailableError:
            # The breaker has logged and counted it.
            return
        finally:
            del self._next[call_sid]

    async def _write(self, call_sid: str, memory: Memory) -> None:
        key = _key(call_sid)
        said = [[one.speaker.value, one.text] for one in memory.said]
        text = self._seal.seal(key, {"said": said, "is_awaited": memory.is_awaited})

        async def question() -> None:
            while True:
                kept = await self._store.read(key)
                if await self._store.write(key, text, KEPT_S, kept.version if kept is not None else 0):
                    return

        await self._breaker.ask(question)

    async def _recall(self, call_sid: str, then: Callable[[Memory | None], None]) -> None:
        key = _key(call_sid)
        memory: Memory | None = None
        try:
            kept = await self._breaker.ask(lambda: self._store.read(key))
            if kept is not None:
                memory = _memory(self._seal.open(key, kept.text, None))
        except (StoreUnavailableError, BadSeal):
            pass
        then(memory)


def _key(call_sid: str) -> str:
    return f"said:{call_sid}"


def _memory(fields: dict[str, Any]) -> Memory | None:
    """The memory of these fields; what another version wrote in another form is unknown."""
    try:
        said = tuple(Said(Speaker(speaker), str(text)) for speaker, text in fields["said"])
    except (KeyError, TypeError, ValueError):
        return None
    return Memory(said, fields.get("is_awaited") is True)
