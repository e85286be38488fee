"""The live calls of all workers of this host, as the API and the page show them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.call.flight_call import FlightCall
from bridge.call.state import Call
from bridge.server.call_loudness import CallLoudness, Shape
from bridge.server.live import Live
from bridge.server.registry import Registry
from bridge.server.workers.worker import Siblings

# Of one worker, the last ones.
MOST_ROWS = 500
# Rows that are made in one turn of the loop, each in some 10 us.
AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class LiveRows:
    """
    Live calls of all workers, the last one first.

    Attributes:
        count: How many there are.
        is_whole: False if calls are left out, because there are too many or a worker did not answer.
    """

    calls: list[dict[str, Any]]
    count: int
    is_whole: bool


class LiveCalls:
    """
    Asks all workers for their live calls, and answers for this one.

    Args:
        siblings: The other workers, if this process is one.
        loudness: Follows the calls of this process, if a page shows them.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        live: Live,
        registry: Registry,
        siblings: Siblings | None,
        loudness: CallLoudness | None,
        clock: Callable[[], float],
    ) -> None:
        self._live = live
        self._registry = registry
        self._siblings = siblings
        self._loudness = loudness
        self._clock = clock
        if siblings is not None:
            siblings.answer = self._answer

    async def rows(self) -> LiveRows:
        """The live calls."""
        answers, is_whole = await self._ask({"what": "calls"})
        calls = [row for answer in answers for row in answer["calls"]]
        calls.sort(key=lambda row: row["start"] or "", reverse=True)
        left_out = sum(answer["left_out"] for answer in answers)
        return LiveRows(calls, len(calls) + left_out, is_whole and not left_out)

    async def find(self, call_sid: str) -> dict[str, Any] | None:
        """The document of a live call, as far as it has come."""
        answers, _ = await self._ask({"what": "call", "call_sid": call_sid})
        return answers[0] if answers else None

    async def flight(self, call_sid: str) -> dict[str, Any] | None:
        """The flight record of a live call so far, for `orjson.dumps` alone."""
        answers, _ = await self._ask({"what": "flight", "call_sid": call_sid})
        return answers[0] if answers else None

    async def loudness(self, call_sid: str) -> dict[str, Shape]:
        """How loud a call is over time, by its attempt; of one that is over, if its worker has it still."""
        answers, _ = await self._ask({"what": "loudness", "call_sid": call_sid})
        return {attempt: shape for answer in answers for attempt, shape in answer.items()}

    async def forget_loudness(self, call_sid: str) -> bool:
        """Let all workers remove how loud a call was; returns whether there was anything."""
        answers, _ = await self._ask({"what": "forget_loudness", "call_sid": call_sid})
        return any(answers)

    async def _ask(self, about: Mapping[str, Any]) -> tuple[list[Any], bool]:
        found = await self._siblings.all_answers(about) if self._siblings is not None else None
        if found is None:
            found = [await self._answer(about)], self._siblings is None
        answers, is_whole = found
        return [answer for answer in answers if answer is not None], is_whole

    async def _answer(self, about: Mapping[str, Any]) -> Any:
        match about:
            case {"what": "calls"}:
                return await self._my_rows()
            case {"what": "call", "call_sid": str(call_sid)}:
                return self._mine(call_sid)
            case {"what": "flight", "call_sid": str(call_sid)}:
                call = self._live_one(call_sid)
                return call.flight(time.time()) if isinstance(call, FlightCall) else None
            case {"what": "loudness", "call_sid": str(call_sid)} if self._loudness is not None:
                return self._loudness.shapes(call_sid)
            case {"what": "forget_loudness", "call_sid": str(call_sid)} if self._loudness is not None:
                return self._loudness.forget(call_sid)
        return None

    async def _my_rows(self) -> dict[str, Any]:
        calls = [call for call in self._live.book if call.call_sid]
        rows = []
        for n, call in enumerate(calls[: -MOST_ROWS - 1 : -1]):
            if n % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            sides = self._live.book.get(call)
            if sides is not None:
                rows.append(sides.summary(call, self._clock()))
        return {"calls": rows, "left_out": max(0, len(calls) - MOST_ROWS)}

    def _mine(self, call_sid: str) -> dict[str, Any] | None:
        call = self._live_one(call_sid)
        return self._live.book[call].document(call, call_sid, self._clock()) if call is not None else None

    def _live_one(self, call_sid: str) -> Call | None:
        entry = self._registry.find(call_sid)
        call = entry.call if entry is not None else None
        return call if call is not None and call in self._live.book else None
