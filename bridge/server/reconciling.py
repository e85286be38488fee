"""Compares the calls of this process with the store, which may have lost one, or know more of one."""

from __future__ import annotations

from bridge.call.state import State
from bridge.server.registry import Registry
from bridge.server.store.agreement import Agreement

# How long a store that has lost a live call does not know it.
ENTER_EVERY_S = 30.0


class Reconciler:
    """
    Asks the store one question after another.

    Args:
        now: Seconds, monotonic, as in all methods.
    """

    def __init__(self, registry: Registry, agreement: Agreement, now: float) -> None:
        self._registry = registry
        self._agreement = agreement
        # When the live calls were entered again.
        self._entered_at = now

    def is_due(self, now: float) -> bool:
        """Whether there is a question to ask."""
        return bool(self._registry.admitted_calls()) or self._must_enter(now)

    def _must_enter(self, now: float) -> bool:
        return self._registry.live > 0 and now - self._entered_at >= ENTER_EVERY_S

    async def run(self, now: float) -> None:
        """Ask what is due."""
        for call_sid in self._registry.admitted_calls():
            if await self._agreement.is_taken(call_sid):
                # Its media socket has opened at another process.
                self._registry.release(call_sid)
        if not self._must_enter(now):
            return
        self._entered_at = now
        for entry in self._registry.live_calls():
            # It may have ended meanwhile. Before its start is verified the store is still asked about its token.
            if entry.call is not None and entry.call.state is not State.AWAITING_START:
                await self._agreement.enter_again(entry.call_sid, entry.attempt, entry.media_id)
