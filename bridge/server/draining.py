"""The end of a process: not ready, then no new calls, then the wait for those that are there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from bridge.metrics import Metrics
from bridge.server.live import Live
from bridge.server.registry import Registry
from bridge.server.store.agreement import Agreement
from bridge.server.store.presence import SETTLED_S
from bridge.settings import Settings

log = structlog.get_logger()

# How often a process that drains says what it waits for.
LINE_EVERY_S = 30.0


class Draining:
    """
    Lets the calls of one process end by themselves.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        live: Live,
        agreement: Agreement,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._live = live
        self._agreement = agreement
        self._metrics = metrics
        self._clock = clock
        # From when on a process that seems to take calls does; set by `begin`.
        self._settled_at = float("inf")

    def begin(self) -> None:
        """Be no longer ready; `done` ends the grace for new calls."""
        self._registry.drain()
        self._settled_at = self._clock() + SETTLED_S
        self._metrics.draining.set(1)
        log.info("draining", live=self._registry.live, admitted=self._registry.admitted)
        if not self._settings.drain_grace_s:
            self._registry.stop_admitting()

    async def done(self, drain_s: float) -> None:
        """Wait until all calls are over, at most ``drain_s``, then end the rest and wait for the last resume."""
        if self._registry.admits:
            await asyncio.sleep(self._settings.drain_grace_s)
            self._registry.stop_admitting()
        deadline = self._clock() + drain_s
        line_due = self._clock() + LINE_EVERY_S
        while True:
            now = self._clock()
            if now >= deadline or not self._live.is_open:
                self.leave_admitted()
            if now >= deadline or not (self._live.is_open or self._registry.admitted):
                break
            if now >= line_due:
                line_due = now + LINE_EVERY_S
                log.info(
                    "draining, calls are waited for: another signal ends them",
                    live=self._registry.live,
                    admitted=self._registry.admitted,
                    at_most_s=round(deadline - now),
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(deadline, line_due) - now):
                    await self._live.changed()
        self._live.end_all()
        await self._agreement.settled()
        left_s = self._live.last_close_at + self._settings.bridge_resume_linger_s - self._clock()
        if left_s > 0:
            await asyncio.sleep(left_s)

    def leave_admitted(self) -> None:
        """Leave admitted calls, where another process is there, to whichever gets the socket: the store has them."""
        call_sids = self._registry.admitted_calls()
        is_settled = self._clock() >= self._settled_at
        if call_sids and is_settled and self._agreement.presence.has_other():
            for call_sid in call_sids:
                self._registry.release(call_sid)
            log.info("admitted calls left to other processes", count=len(call_sids))
