"""Which processes are there: each keeps a heartbeat in the store, and reads those of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import orjson

from bridge.server.store.breaker import ASK_S, Breaker, StoreUnavailableError
from bridge.server.store.store import Store

# How often a process writes its heartbeat: below BRIDGE_DRAIN_GRACE_S, so that all know who drains when it is over.
BEAT_S = 2.0
# How long a heartbeat is good, and what was read of the others: longer than a breaker stays open after one failure.
ALIVE_S = 10.0
# After this, two processes that began to drain at once know it of each other: one has written, the other has read.
SETTLED_S = 2 * (BEAT_S + ASK_S)


class Calls(Protocol):
    """
    The registry, as far as other processes must know it.

    ``room`` is how many more calls this process may take, below 0 beyond its limit.
    """

    @property
    def live(self) -> int: ...
    @property
    def admitted(self) -> int: ...
    @property
    def room(self) -> int: ...
    @property
    def is_draining(self) -> bool: ...


class Presence:
    """
    Shows the other processes that this one is there, and knows of them.

    A heartbeat holds nothing personal and is not sealed: processes with different auth tokens, while one is rotated,
    see each other.

    Args:
        owner: The name of this process in the store.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, store: Store, breaker: Breaker, owner: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._owner = owner
        self._clock = clock
        # Whether one of the others took calls when the store was read last, and until when that counts.
        self._had_other = False
        self._known_until = float("-inf")
        # Until the next heartbeat; None before `start` and after `stop`.
        self._timer: asyncio.TimerHandle | None = None
        # The one that is being written.
        self._beating: asyncio.Task[None] | None = None

    def has_other(self) -> bool:
        """Whether another process is there that does not drain, by what was read last; False if that is too old."""
        return self._had_other and self._clock() < self._known_until

    async def start(self, calls: Calls) -> None:
        """Write the first heartbeat, and others until `stop`."""
        await self._beat(calls)
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._go_on, calls)

    async def stop(self) -> None:
        """Remove the heartbeat; the last call."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        if self._beating is not None:
            # Not cancelled: it could still write, after the removal.
            await self._beating
        await self._ask("", 0)

    def _go_on(self, calls: Calls) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(BEAT_S, self._go_on, calls)
        if self._beating is None or self._beating.done():
            self._beating = loop.create_task(self._beat(calls), name="heartbeat")

    async def _beat(self, calls: Calls) -> None:
        count = calls.live + calls.admitted
        beat = {"is_draining": calls.is_draining, "calls": count, "limit": count + calls.room}
        texts = await self._ask(orjson.dumps(beat).decode(), ALIVE_S)
        if texts is not None:
            self._had_other = any(_takes_calls(text) for owner, text in texts.items() if owner != self._owner)
            self._known_until = self._clock() + ALIVE_S

    async def _ask(self, text: str, ttl_s: float) -> dict[str, str] | None:
        try:
            return await self._breaker.ask(lambda: self._store.beat(self._owner, text, ttl_s))
        except StoreUnavailableError:
            # The breaker has logged and counted it.
            return None


def _takes_calls(text: str) -> bool:
    """Whether the process with this heartbeat does not drain; False of one that another version wrote otherwise."""
    try:
        beat = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return isinstance(beat, dict) and not beat.get("is_draining", True)
