"""What the processes of one bridge know of a call: its records, and whether it is live."""

from __future__ import annotations

from typing import Any

from bridge.server.live_calls import LiveCalls
from bridge.server.records.finished import FinishedCalls
from bridge.server.registry import Phase, Registry
from bridge.server.store.agreement import Agreement, Stage


class KnownCalls:
    """
    Finds calls for the API and the page.

    Attributes:
        live: Those of this host.
        finished: Those of all processes that share the store.
    """

    def __init__(
        self, live: LiveCalls, finished: FinishedCalls, registry: Registry, agreement: Agreement
    ) -> None:
        self.live = live
        self.finished = finished
        self._registry = registry
        self._agreement = agreement

    async def live_calls(self) -> dict[str, Any]:
        """The live calls of this host, how many there are, and whether all of them are listed."""
        live = await self.live.rows()
        return {"calls": live.calls, "count": live.count, "is_whole": live.is_whole}

    async def search(self, words: str, skip: int, most: int) -> tuple[list[dict[str, Any]], int | None]:
        """Finished calls, as `FinishedCalls.search` finds them."""
        return await self.finished.search(words, skip, most)

    async def find(self, call_sid: str) -> dict[str, Any] | None:
        """
        The records of a call, that of a live one last; None if nobody knows the call.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        live = await self.live.find(call_sid)
        records = await self.finished.find(call_sid)
        is_live = live is not None or await self._is_live_elsewhere(call_sid)
        if live is not None:
            records.append(live)
        if not records and not is_live:
            return None
        return {"call_sid": call_sid, "is_live": is_live, "records": records}

    async def show(self, call_sid: str) -> dict[str, Any] | None:
        """
        What `find` finds, and how loud the call is over time.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        found = await self.find(call_sid)
        return {**found, "loudness": await self.live.loudness(call_sid)} if found is not None else None

    async def is_live(self, call_sid: str) -> bool:
        """
        Whether a process has the call, or waits for its media socket.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        entry = self._registry.find(call_sid)
        is_here = self._registry.is_being_admitted(call_sid) or (
            entry is not None and entry.phase is not Phase.OVER
        )
        return is_here or await self._is_live_elsewhere(call_sid)

    async def _is_live_elsewhere(self, call_sid: str) -> bool:
        record = await self._agreement.find(call_sid)
        return (
            record is not None and record.stage != Stage.OVER and self._agreement.presence.has(record.owner)
        )
