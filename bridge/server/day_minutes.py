"""The minutes of all calls on one day, which bound what they cost, counted over all processes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from bridge.metrics import Metrics
from bridge.server.store.breaker import StoreUnavailableError
from bridge.server.store.tallies import Tallies

log = structlog.get_logger()

# How often a process adds its seconds to those of the others, and reads theirs.
SHARE_EVERY_S = 10.0
# Longer than a day of any time zone's operator, who may want to look at the day before.
KEPT_S = 48 * 3600.0
# Of the bound.
WARNED_PERCENT = 80
REACHED_PERCENT = 100


class DayMinutes:
    """
    Adds up the time of the calls of one UTC day.

    Args:
        most_minutes: The bound; 0 for none, and then nothing is counted.
        calls: How many calls of this process are answered and not over.
        clock: Seconds, monotonic.
        now: The Unix time.
    """

    def __init__(
        self,
        most_minutes: int,
        tallies: Tallies,
        metrics: Metrics,
        calls: Callable[[], int],
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self.is_on = most_minutes > 0
        self._most_s = most_minutes * 60.0
        self._tallies = tallies
        self._metrics = metrics
        self._calls = calls
        self._clock = clock
        self._now = now
        # The UTC day that is counted.
        self._day = self._today()
        # The seconds of all processes when the store was read last, and those of this one since then.
        self._shared_s = 0.0
        self._own_s = 0.0
        # The percentage that the log has said, 0 for none.
        self._said = 0
        self._counted_at = clock()
        self._share_due = float("-inf")
        metrics.day_call_max_s.set(self._most_s)

    @property
    def is_over(self) -> bool:
        """Whether new calls must wait for the next day."""
        return self.is_on and self._day == self._today() and self._total_s >= self._most_s

    @property
    def _total_s(self) -> float:
        return self._shared_s + self._own_s

    def add(self, seconds: float) -> None:
        """Add a call that this process has not had among its calls."""
        if self.is_on:
            self._own_s += max(0.0, seconds)

    async def on_tick(self) -> None:
        """Count the calls of now, and share what is counted if that is due."""
        if not self.is_on:
            return
        self._count()
        if self._clock() >= self._share_due or self._percent(self._total_s) > self._said:
            await self.share()

    async def share(self) -> None:
        """Add the seconds of this process to those of the others, read theirs, and log once what is reached."""
        if not self.is_on:
            return
        self._count()
        self._share_due = self._clock() + SHARE_EVERY_S
        day, own_s = self._day, self._own_s
        said, total_s = self._said, self._total_s

        def rule(fields: dict[str, Any]) -> dict[str, Any] | None:
            nonlocal said, total_s
            shared_s, said = _read(fields)
            # A store that has lost the day gets it again.
            shared_s, said = max(shared_s, self._shared_s), max(said, self._said)
            total_s = shared_s + own_s
            after = {"seconds": total_s, "said": max(said, self._percent(total_s))}
            return after if after != fields else None

        try:
            await self._tallies.change(f"day:{day}", rule, KEPT_S)
        except StoreUnavailableError:
            said, total_s = self._said, self._total_s
        else:
            if day == self._day:
                self._shared_s, self._own_s = total_s, self._own_s - own_s
        if day == self._day:
            self._say(said, total_s)
        self._metrics.day_call_s.set(self._total_s)

    def _count(self) -> None:
        now = self._clock()
        passed_s, self._counted_at = now - self._counted_at, now
        if (today := self._today()) != self._day:
            # The last seconds of a day bound nothing any more.
            self._day, self._shared_s, self._own_s, self._said = today, 0.0, 0.0, 0
        else:
            self._own_s += passed_s * self._calls()
        self._metrics.day_call_s.set(self._total_s)

    def _say(self, said: int, total_s: float) -> None:
        """Log what is reached, unless it is said: by this process, or by another one."""
        percent = self._percent(total_s)
        if percent > said:
            log.warning(
                "minutes of the day are used up, new calls are refused"
                if percent == REACHED_PERCENT
                else "minutes of the day are soon used up",
                minutes=round(total_s / 60, 1),
                most=round(self._most_s / 60),
                day=self._day,
            )
        self._said = max(said, percent)

    def _percent(self, total_s: float) -> int:
        percentages = (REACHED_PERCENT, WARNED_PERCENT)
        return next((one for one in percentages if total_s >= self._most_s * one / 100), 0)

    def _today(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).date().isoformat()


def _read(fields: dict[str, Any]) -> tuple[float, int]:
    """The seconds and what is said, of fields that another version may have written otherwise."""
    seconds, said = fields.get("seconds", 0.0), fields.get("said", 0)
    is_good = isinstance(seconds, int | float) and isinstance(said, int)
    return (float(seconds), said) if is_good else (0.0, 0)
