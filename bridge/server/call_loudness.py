"""How loud both sides of calls are over time, for their pictures on the page."""

from __future__ import annotations

from base64 import b64encode
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from _codec import Loudness
from bridge.call.state import Call
from bridge.server.live import Live
from bridge.server.registry import Registry

PIECE_MS = 100
# Of one call; what plays later at Twilio is not shown yet.
MOST_PIECES = 6000
# Shapes of calls that are over, each with up to 24 KB.
MOST_FINISHED = 100
SIDES = ("caller", "agent", "cleared")

# What the page draws: when the first piece begins, in seconds since the media stream began, and base64 of each side.
Shape = dict[str, Any]


class CallLoudness:
    """
    Follows the calls of one process, from their verified ``start`` on, and the last ones that are over.

    Args:
        live: Says which calls start and end.
    """

    def __init__(self, live: Live, registry: Registry) -> None:
        self._registry = registry
        self._book = live.book
        self._live: dict[Call, Loudness] = {}
        # By CallSid and attempt, the last one last.
        self._finished: OrderedDict[tuple[str, int], Shape] = OrderedDict()
        live.on_started.append(self._on_started)
        live.on_ended.append(self._on_ended)

    def shapes(self, call_sid: str) -> dict[str, Shape]:
        """What there is of a call, by its attempt."""
        found = {attempt: shape for (sid, attempt), shape in self._finished.items() if sid == call_sid}
        for call, loudness in self._live.items():
            if call.call_sid == call_sid and (sides := self._book.get(call)) is not None:
                found[sides.record.attempt] = _shape(loudness, call)
        # As keys of JSON.
        return {str(attempt): shape for attempt, shape in found.items()}

    def forget(self, call_sid: str) -> bool:
        """Remove what there is of a call that is over; returns whether there was anything."""
        found = [key for key in self._finished if key[0] == call_sid]
        for key in found:
            del self._finished[key]
        return bool(found)

    def _on_started(self, started: Mapping[str, Any]) -> None:
        entry = self._registry.find(started["call_sid"])
        if entry is not None and entry.call is not None:
            loudness = self._live[entry.call] = Loudness()
            entry.call.audio.attach(loudness)

    def _on_ended(self, document: Mapping[str, Any]) -> None:
        call_sid = document["call_sid"]
        # A new stream of the call may have begun.
        over = next((call for call in self._live if call.call_sid == call_sid and call.is_over), None)
        if over is not None:
            self._finished[call_sid, document["attempt"]] = _shape(self._live.pop(over), over)
            while len(self._finished) > MOST_FINISHED:
                self._finished.popitem(last=False)


def _shape(loudness: Loudness, call: Call) -> Shape:
    began = call.started_at if call.started_at is not None else call.opened_at
    last = loudness.last_piece
    end = last + 1 if last is not None else 0
    # A call's first audio comes when its stream begins, or a little earlier.
    first = max(end - MOST_PIECES, int((began - 1.0) * 1000 / PIECE_MS))
    count = max(0, end - first)
    texts = {side: b64encode(loudness.pieces(side, first, count)).decode() for side in SIDES}
    return {"at_s": round(first * PIECE_MS / 1000 - began, 3), "piece_ms": PIECE_MS, **texts}
