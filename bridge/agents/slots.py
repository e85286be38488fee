"""The slots of calls at agents and routes that have a limit, counted over all processes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import structlog

from bridge.metrics import Metrics

log = structlog.get_logger()

# A call's id among processes is the end of its CallSid, which is random.
ID_CHARACTERS = 12
# A call that is handed over keeps its slot until its end is heard of, and for this long at most: Twilio's own limit of
# a call; a usual call where the end may not be reported.
REPORTED_S = 4 * 3600.0
UNREPORTED_S = 600.0
# How long the end of a handed-over call is shown to the other processes, of which each reads some heartbeats meanwhile.
ENDED_S = 20.0
# More ends at once are not shown; those calls keep their slots for longer.
MOST_ENDED = 200
# An agent at its limit is full and not full with each call that ends: a line in the log at most this often.
LOG_EVERY_S = 60.0


async def _nobody() -> None:
    """This process shares its slots with no other."""


class Slots:
    """
    Which calls of this process take up slots, and which ones of the others do.

    A key is ``agent:NAME`` or ``route:NAME``; a call has one slot of each kind, and none at a key without a limit.
    A slot is free again once ``has_call`` does not know its call; that of a handed-over call at `leave`.

    Args:
        clock: Seconds, monotonic.
        has_call: Whether this process has the call with this CallSid.

    Attributes:
        renew: Shows the others this process's slots, and reads theirs; does not raise.
        renew_soon: The same without a wait.
    """

    def __init__(
        self,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        has_call: Callable[[str], bool] = lambda call_sid: True,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._has_call = has_call
        self.renew: Callable[[], Awaitable[None]] = _nobody
        self.renew_soon: Callable[[], None] = lambda: None
        self._limits: dict[str, int] = {}
        # The slots of each call here, by CallSid and kind.
        self._held: dict[str, dict[str, str]] = {}
        # Until when a handed-over call keeps its slot.
        self._handed_over: dict[str, float] = {}
        # The ids of the others' calls by key, as read last, and until when they count.
        self._elsewhere: dict[str, set[str]] = {}
        self._elsewhere_until = 0.0
        # Ids of handed-over calls that have ended, each before the key of `leave`, and until when that is shown.
        self._ended: deque[tuple[str, float]] = deque(maxlen=MOST_ENDED)
        # What the log says of each key, and since when.
        self._logged: dict[str, tuple[bool, float]] = {}

    def use(self, limits: Mapping[str, int]) -> None:
        """Keep these limits; calls beyond a new one go on."""
        for key in self._limits.keys() - limits.keys():
            self._metrics.full.remove(key)
        for key in limits.keys() - self._limits.keys():
            self._metrics.full.labels(key).set_function(partial(self.is_full, key))
        self._limits = dict(limits)

    async def take(self, call_sid: str, key: str) -> bool:
        """
        Take a slot for a call, in exchange for its former one of this kind.

        Each process shows its slot before it reads those of the others: two that take the last one at once both see
        it, and both leave it.
        """
        if key in self._limits and self._others(call_sid, key) >= self._limits[key]:
            # A slot may have come free elsewhere.
            await self.renew()
        if not self._set(call_sid, key, is_checked=True):
            return False
        if key not in self._limits:
            return True
        await self.renew()
        if self._others(call_sid, key) < self._limits.get(key, 1):
            return True
        self._held.get(call_sid, {}).pop(_kind(key), None)
        return False

    def hold(self, call_sid: str, key: str, *, is_checked: bool = True) -> bool:
        """
        Take a slot by what is known here.

        Args:
            is_checked: False for a call that has the slot already, here or at another process.
        """
        before = self._held.get(call_sid)
        has_slot = self._set(call_sid, key, is_checked=is_checked)
        if self._held.get(call_sid) != before:
            self.renew_soon()
        return has_slot

    def _set(self, call_sid: str, key: str, *, is_checked: bool) -> bool:
        slots = {kind: other for kind, other in self._held.get(call_sid, {}).items() if kind != _kind(key)}
        limit = self._limits.get(key)
        has_slot = limit is None or not is_checked or self._others(call_sid, key) < limit
        if limit is not None and has_slot:
            slots[_kind(key)] = key
        if slots:
            self._held[call_sid] = slots
        else:
            self._held.pop(call_sid, None)
        if limit is not None:
            self._note(key)
        return has_slot

    def is_full(self, key: str) -> bool:
        """Whether a further call would be beyond the limit."""
        return self._others("", key) >= self._limits[key]

    def on_handed_over(self, call_sid: str, *, is_reported: bool) -> None:
        """
        A call goes on without this process.

        Args:
            is_reported: Whether its end will be heard of for sure.
        """
        if call_sid in self._held:
            self._handed_over[call_sid] = self._clock() + (REPORTED_S if is_reported else UNREPORTED_S)

    def leave(self, call_sid: str, key: str = "") -> None:
        """
        A handed-over call has ended, which another process may have answered.

        Args:
            key: The agent that it has left, if it goes on with another one.
        """
        self._held.pop(call_sid, None)
        self._handed_over.pop(call_sid, None)
        if self._limits:
            self._ended.append((_id(call_sid) + key, self._clock() + ENDED_S))
            self.renew_soon()

    # The heartbeats

    def mine(self) -> dict[str, Any]:
        """What the other processes need to know."""
        self._prune()
        slots: dict[str, list[str]] = {}
        for call_sid, of_call in self._held.items():
            for key in of_call.values():
                slots.setdefault(key, []).append(_id(call_sid))
        ended = [end for end, until in self._ended if self._clock() < until]
        return {**({"slots": slots} if slots else {}), **({"ended": ended} if ended else {})}

    def on_others(self, beats: Iterable[Mapping[str, Any]], good_s: float) -> None:
        """Take in what the other processes have shown with `mine`; it counts for ``good_s`` seconds."""
        elsewhere: dict[str, set[str]] = {}
        ended: set[str] = set()
        for beat in beats:
            match beat.get("slots"):
                case dict() as slots:
                    for key, ids in slots.items():
                        elsewhere.setdefault(key, set()).update(
                            map(str, ids) if isinstance(ids, list) else ()
                        )
            match beat.get("ended"):
                case list() as ids:
                    ended.update(map(str, ids))
        for call_sid in list(self._handed_over):
            slots = self._held.get(call_sid, {})
            if not ended.isdisjoint({_id(call_sid), *(_id(call_sid) + key for key in slots.values())}):
                self._held.pop(call_sid, None)
                del self._handed_over[call_sid]
        self._elsewhere = elsewhere
        self._elsewhere_until = self._clock() + good_s

    def _others(self, call_sid: str, key: str) -> int:
        """How many other calls have a slot at a key; each once, although two processes may show it for a moment."""
        self._prune()
        ids = {_id(sid) for sid, slots in self._held.items() if slots.get(_kind(key)) == key}
        if self._clock() < self._elsewhere_until:
            ids |= self._elsewhere.get(key, set())
        return len(ids - {_id(call_sid)})

    def _prune(self) -> None:
        now = self._clock()
        for call_sid in list(self._held):
            until = self._handed_over.get(call_sid)
            if not (self._has_call(call_sid) if until is None else now < until):
                del self._held[call_sid]
                self._handed_over.pop(call_sid, None)

    def _note(self, key: str) -> None:
        """Log a change of a key."""
        is_full, now = self.is_full(key), self._clock()
        was_full, since = self._logged.get(key, (False, -LOG_EVERY_S))
        if is_full != was_full and now - since >= LOG_EVERY_S:
            self._logged[key] = is_full, now
            (log.warning if is_full else log.info)(
                "limit of calls reached" if is_full else "room for calls again",
                of=key,
                max_calls=self._limits[key],
            )


def _kind(key: str) -> str:
    return key.partition(":")[0]


def _id(call_sid: str) -> str:
    return call_sid[-ID_CHARACTERS:]
