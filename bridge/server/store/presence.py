"""Which processes are there: each keeps a heartbeat in the store, and reads those of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import orjson

from bridge.server.store.breaker import ASK_S, Breaker, StoreUnavailableError
from bridge.server.store.store import Store

# How often a process writes its heartbeat: below BRIDGE_DRAIN_GRACE_S, so that all know who drains when it is over.
BEAT_S = 2.0
# What a process shows soon waits for more of it this long.
SOON_S = 0.02
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


class Slots(Protocol):
    """What processes share of the slots of their calls: `bridge.agents.slots.Slots`."""

    def mine(self) -> dict[str, Any]: ...
    def on_others(self, beats: Iterable[Mapping[str, Any]], good_s: float) -> None: ...


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
        # The processes that were there then.
        self._owners: frozenset[str] = frozenset()
        # Set by `start`.
        self._calls: Calls
        self._slots: Slots
        # From `start` to `stop`.
        self._is_on = False
        # Until the next heartbeat; None before the first one.
        self._timer: asyncio.TimerHandle | None = None
        # Held while one is written, so that an older text never replaces a newer one.
        self._writing = asyncio.Lock()
        # The one that is being written.
        self._beating: asyncio.Task[None] | None = None

    def has_other(self) -> bool:
        """Whether another process is there that does not drain, by what was read last; False if that is too old."""
        return self._had_other and self._clock() < self._known_until

    def has(self, owner: str) -> bool:
        """Whether a process is there, by what was read last."""
        return owner == self._owner or owner in self._owners

    async def start(self, calls: Calls, slots: Slots) -> None:
        """Write the first heartbeat, and others until `stop`."""
        self._calls, self._slots, self._is_on = calls, slots, True
        await self.renew()
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._go_on)

    def renew_soon(self) -> None:
        """Do what `renew` does without a wait, once for all that ask within `SOON_S`."""
        loop = asyncio.get_running_loop()
        if self._is_on and self._timer is not None and self._timer.when() - loop.time() > SOON_S:
            self._timer.cancel()
            self._timer = loop.call_later(SOON_S, self._go_on)

    async def stop(self) -> None:
        """Remove the heartbeat; the last call."""
        if not self._is_on:
            return
        self._is_on = False
        if self._timer is not None:
            self._timer.cancel()
        if self._beating is not None:
            # Not cancelled: it could still write, after the removal.
            await self._beating
        async with self._writing:
            await self._ask("", 0)

    def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(BEAT_S, self._go_on)
        if self._beating is None or self._beating.done():
            self._beating = loop.create_task(self.renew(), name="heartbeat")

    async def renew(self) -> None:
        """Write a heartbeat now, and read those of the others."""
        async with self._writing:
            if not self._is_on:
                return
            calls = self._calls
            count = calls.live + calls.admitted
            beat = {"is_draining": calls.is_draining, "calls": count, "limit": count + calls.room}
            text = orjson.dumps({**beat, **self._slots.mine()}).decode()
            texts = await self._ask(text, ALIVE_S)
        if texts is not None:
            self._owners = frozenset(texts)
            others = [_beat_of(text) for owner, text in texts.items() if owner != self._owner]
            self._had_other = any(not beat.get("is_draining", True) for beat in others)
            self._known_until = self._clock() + ALIVE_S
            self._slots.on_others(others, ALIVE_S)

    async def _ask(self, text: str, ttl_s: float) -> dict[str, str] | None:
        try:
            return await self._breaker.ask(lambda: self._store.beat(self._owner, text, ttl_s))
        except StoreUnavailableError:
            # The breaker has logged and counted it.
            return None


def _beat_of(text: str) -> dict[str, Any]:
    """The fields of a heartbeat; none of one that another version wrote otherwise."""
    try:
        beat = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return beat if isinstance(beat, dict) else {}
