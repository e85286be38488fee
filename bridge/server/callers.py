"""Who may call, and how often: the file of numbers, the bounds of one caller, and the minutes of the day."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from bridge.agents.agent import CallInfo
from bridge.agents.slots import REPORTED_S, UNREPORTED_S
from bridge.call.ends import Outcome
from bridge.call.record import masked
from bridge.metrics import Metrics
from bridge.number_lists import ANONYMOUS, NumberLists
from bridge.server.caller_id import is_number
from bridge.server.caller_ledger import HOUR_S, Bounds, Ledger, Place
from bridge.server.day_minutes import DayMinutes
from bridge.server.registry import Registry
from bridge.server.store.breaker import StoreUnavailableError
from bridge.server.store.tallies import Tallies
from bridge.settings import Settings

log = structlog.get_logger()

# Why a caller is refused, each with the setting that says so.
REASONS = {
    "number_refused": "BRIDGE_NUMBERS_FILE",
    "number_not_allowed": "BRIDGE_NUMBERS_FILE",
    "caller_at_once": "BRIDGE_CALLER_CALLS_MAX",
    "caller_per_hour": "BRIDGE_CALLER_PER_HOUR",
    "anonymous_per_hour": "BRIDGE_ANONYMOUS_PER_HOUR",
    "day_minutes": "BRIDGE_DAY_MINUTES",
}
# A call that is up has its place for this long, and the place is renewed at half of it: that of a process that dies is
# free after it.
PLACE_S = 90.0
# How often this process looks at its calls.
ROUND_S = 1.0
# A call without a media socket and without a known end is over after this: Twilio asks within seconds what follows.
GONE_S = 5.0
# Callers that this process remembers by itself; those that called longest ago are forgotten.
MOST_CALLERS = 10_000
# Refusals of a caller for one reason: a line at most this often, with the number of those since the last one. Of so
# many callers.
LINE_EVERY_S = 60.0
MOST_LINES = 1000
# Changes that wait for the store; more push the oldest out, whose places then end by their time.
MOST_CHANGES = 5000
# How long the store knows a caller: longer than any of a caller's calls counts.
KEPT_S = max(HOUR_S, REPORTED_S, PLACE_S)
# A call's id among processes is the end of its CallSid, which is random.
ID_CHARACTERS = 12


# What becomes of a caller's ledger.
Step = Callable[[Ledger], Ledger]


@dataclass(slots=True)
class _Held:
    """A call of this process that has a place under a key; ``until`` when, and since when the call is not there."""

    key: str
    until: float = 0.0
    gone_at: float | None = None


class Callers:
    """
    Says which new calls are refused, and counts the others.

    What this process has seen may be enough to refuse a call; the store is asked about the others. While it is
    unavailable, each process counts for itself.

    Args:
        owner: The name of this process in the store.
        has_call: Whether this process has the call with this CallSid.
        clock: Seconds, monotonic.
        now: The Unix time.
    """

    def __init__(
        self,
        settings: Settings,
        tallies: Tallies,
        owner: str,
        registry: Registry,
        has_call: Callable[[str], bool],
        metrics: Metrics,
        clock: Callable[[], float],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._of_number = Bounds(settings.bridge_caller_calls_max, settings.bridge_caller_per_hour)
        self._of_anonymous = Bounds(per_hour=settings.bridge_anonymous_per_hour)
        self._day = DayMinutes(
            settings.bridge_day_minutes,
            tallies,
            metrics,
            lambda: registry.live + registry.admitted,
            clock,
            now,
        )
        self._lists = settings.read_number_lists()
        self._tallies = tallies
        self._owner = owner
        self._registry = registry
        self._has_call = has_call
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._shown = str if settings.bridge_log_numbers else masked
        # What this process has seen of each caller, by the key in the store; who called last is last.
        self._ledgers: OrderedDict[str, Ledger] = OrderedDict()
        # Calls of this process with a place, by CallSid.
        self._held: dict[str, _Held] = {}
        # What the store does not know yet, with the keys.
        self._changes: deque[tuple[str, Step]] = deque(maxlen=MOST_CHANGES)
        # By reason and caller: when the next line may be written, and the refusals since the last one.
        self._lines: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        # From `start` to `stop`; None where nothing is counted over time.
        self._running: asyncio.Task[None] | None = None
        for reason in REASONS:
            metrics.calls_refused.labels(reason)

    def use(self, lists: NumberLists) -> None:
        """Go by another file of numbers for new calls."""
        self._lists = lists

    async def refusal(self, call: CallInfo) -> str:
        """Why a new call is refused, which is counted and logged; empty for one that is taken, and counted."""
        number = call.from_number if is_number(call.from_number) else ANONYMOUS
        if self._lists.is_allowed(number):
            return ""
        reason = self._lists.refusal(number) or ("day_minutes" if self._day.is_over else "")
        bounds = self._of_anonymous if number == ANONYMOUS else self._of_number
        if not reason and any(bounds):
            reason = await self._count(call.call_sid, number, bounds)
        if reason:
            self._metrics.refused(reason)
            self._log(reason, call, number)
        return reason

    def on_start(self, call: CallInfo) -> None:
        """A call has its media socket here; another process may have answered it."""
        number = call.from_number
        if not (self._of_number.at_once and is_number(number) and call.call_sid not in self._held):
            return
        if not self._lists.is_allowed(number):
            self._held[call.call_sid] = _Held(self._tallies.key_of_caller(number))

    def on_handed_over(self, call_sid: str, *, is_reported: bool) -> None:
        """
        A call goes on without this process, and has its place until `on_over` at any process.

        Args:
            is_reported: Whether its end will be heard of for sure.
        """
        if (held := self._held.pop(call_sid, None)) is not None:
            until = self._now() + (REPORTED_S if is_reported else UNREPORTED_S)
            self._change(held.key, partial(Ledger.hold, call=_id(call_sid), place=Place("", until)))

    def on_over(self, call: CallInfo, seconds: float = 0.0) -> None:
        """
        Twilio says that a call is over, or its time with an agent that it was handed over to.

        Args:
            seconds: How long that was.
        """
        self._day.add(seconds)
        if self._of_number.at_once and is_number(call.from_number):
            self._held.pop(call.call_sid, None)
            key = self._tallies.key_of_caller(call.from_number)
            self._change(key, partial(Ledger.leave, call=_id(call.call_sid)))

    # The bounds of one caller

    async def _count(self, call_sid: str, number: str, bounds: Bounds) -> str:
        """Enter a new call, here and at the store; returns the reason of a refusal."""
        key, call, now = self._tallies.key_of_caller(number), _id(call_sid), self._now()
        self._note_ends(call_sid for call_sid, held in self._held.items() if held.key == key)
        here = self._ledger(key)
        refusal = here.refusal(call, bounds)
        if not refusal:
            place = Place(self._owner, now + PLACE_S)
            enter = partial(Ledger.enter, call=call, now=now, place=place, bounds=bounds)
            # At once: calls of the same moment see each other.
            self._keep(key, enter(here))
            waiting = [step for other, step in self._changes if other == key]

            def rule(fields: dict[str, Any]) -> dict[str, Any] | None:
                nonlocal refusal
                ledger = Ledger.of(fields).at(now)
                for step in waiting:
                    ledger = step(ledger)
                refusal = ledger.refusal(call, bounds)
                return None if refusal else enter(ledger).fields()

            try:
                await self._tallies.change(key, rule, KEPT_S)
            except StoreUnavailableError:
                refusal = ""
            if refusal:
                self._keep(key, self._ledger(key).cancel(call))
            elif bounds.at_once:
                self._held[call_sid] = _Held(key, place.until)
        if not refusal:
            return ""
        return f"{'anonymous' if number == ANONYMOUS else 'caller'}_{refusal}"

    def _ledger(self, key: str) -> Ledger:
        return self._ledgers.get(key, Ledger()).at(self._now())

    def _keep(self, key: str, ledger: Ledger) -> None:
        self._ledgers[key] = ledger
        self._ledgers.move_to_end(key)
        if len(self._ledgers) > MOST_CALLERS:
            self._ledgers.popitem(last=False)

    def _change(self, key: str, step: Step) -> None:
        """Change what is known of a caller: here at once, and at the store with the next round."""
        self._keep(key, step(self._ledger(key)))
        self._changes.append((key, step))

    def _note_ends(self, call_sids: Iterable[str]) -> None:
        """Free the places of those of these calls that are over."""
        for call_sid in list(call_sids):
            held = self._held[call_sid]
            if self._has_call(call_sid):
                held.gone_at = None
                continue
            entry, clock = self._registry.find(call_sid), self._clock()
            held.gone_at = clock if held.gone_at is None else held.gone_at
            is_known = entry is not None and entry.outcome in (Outcome.ENDED, Outcome.TRANSFERRED)
            if is_known or clock - held.gone_at >= GONE_S:
                del self._held[call_sid]
                # It may have a place at another process by now.
                self._change(held.key, partial(Ledger.leave, call=_id(call_sid), owner=self._owner))

    def _log(self, reason: str, call: CallInfo, number: str) -> None:
        due, unsaid = self._lines.pop((reason, number), (float("-inf"), 0))
        is_due = self._clock() >= due
        if is_due:
            shown = self._shown(call.from_number)
            log.warning(
                "call refused",
                call_sid=call.call_sid,
                reason=reason,
                setting=REASONS[reason],
                from_number=shown,
                others=unsaid,
            )
            due, unsaid = self._clock() + LINE_EVERY_S, -1
        self._lines[reason, number] = due, unsaid + 1
        if len(self._lines) > MOST_LINES:
            self._lines.popitem(last=False)

    # What is counted over time

    def start(self) -> None:
        """Count and share until `stop`, if a bound needs that."""
        if self._of_number.at_once or self._day.is_on:
            self._running = asyncio.get_running_loop().create_task(self._run(), name="callers")

    async def stop(self) -> None:
        """Share what is not shared yet; the last call."""
        if self._running is None:
            return
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._running = None
        await self.on_round()
        await self._day.share()

    async def _run(self) -> None:
        while True:
            try:
                await self.on_round()
            except Exception:
                log.exception("fault while calls were counted")
            await asyncio.sleep(ROUND_S)

    async def on_round(self) -> None:
        """Count the minutes, renew the places of calls that are up, and free those of others."""
        await self._day.on_tick()
        self._note_ends(self._held)
        now = self._now()
        for call_sid, held in self._held.items():
            if held.until - now < PLACE_S / 2:
                held.until = now + PLACE_S
                place = Place(self._owner, held.until)
                self._change(held.key, partial(Ledger.hold, call=_id(call_sid), place=place))
        # Those that come meanwhile wait for the next round.
        for change in list(self._changes):
            await self._share(*change)
            if self._changes and self._changes[0] is change:
                self._changes.popleft()

    async def _share(self, key: str, step: Step) -> None:
        def rule(fields: dict[str, Any]) -> dict[str, Any] | None:
            after = step(Ledger.of(fields).at(self._now())).fields()
            return after if after != fields else None

        # Where the store is away, a place ends by its time, and a renewal comes again.
        with contextlib.suppress(StoreUnavailableError):
            await self._tallies.change(key, rule, KEPT_S)


def _id(call_sid: str) -> str:
    return call_sid[-ID_CHARACTERS:]
