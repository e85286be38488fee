"""The frames of a call between the two stand-ins, sent against received."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.standins.agent.session import AgentSession
from bridge.standins.twilio.caller import Caller

# Caller audio sent this shortly before the agent ends the call may still be on its way and is not counted as lost.
IN_FLIGHT_S = 0.05
# A correct bridge on a busy machine stays far below; a frame that waits for another event exceeds it.
LATE_MS = 500.0


@dataclass(kw_only=True)
class Direction:
    """
    One direction through the bridge.

    Attributes:
        sent: Frames that the bridge must deliver, without those that it may discard at an interrupt.
        dropped: Frames sent before an interrupt and discarded by it.
        byte_equal: Whether the received frames equal the sent ones, in order.
        delays_ms: For each received frame, its time of sending in seconds and its delay in milliseconds.
    """

    sent: int
    received: int
    lost: int
    byte_equal: bool
    first_frame_equal: bool
    dropped: int = 0
    delays_ms: list[tuple[float, float]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the numbers, for JSON."""
        delays = [delay for _, delay in self.delays_ms]
        return {
            "frames_sent": self.sent,
            "frames_received": self.received,
            "frames_lost": self.lost,
            "byte_equal": self.byte_equal,
            "first_frame_equal": self.first_frame_equal,
            "delay_p50_ms": percentile(delays, 50),
            "delay_p99_ms": percentile(delays, 99),
            "delay_max_ms": percentile(delays, 100),
            "frames_late": sum(delay > LATE_MS for delay in delays),
        }

    @property
    def is_sound(self) -> bool:
        """Whether all frames arrived unchanged and in time."""
        late = any(delay > LATE_MS for _, delay in self.delays_ms)
        return self.received > 0 and not self.lost and self.byte_equal and self.first_frame_equal and not late


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the nearest-rank percentile; None without values."""
    if not values:
        return None
    rank = max(1, math.ceil(len(values) * percent / 100))
    return round(sorted(values)[rank - 1], 3)


def caller_to_agent(caller: Caller, session: AgentSession) -> Direction:
    """Compare the frames sent by the caller with those received by the agent."""
    came = [(item.at, item.audio) for item in session.received]
    sent = [(item.at, item.audio) for item in caller.sent]
    until = math.inf if session.ended_at is None else session.ended_at - IN_FLIGHT_S
    owed = max(sum(at < until for at, _ in sent), min(len(came), len(sent)))
    return Direction(
        sent=owed,
        received=len(came),
        lost=max(0, owed - len(came)),
        byte_equal=[audio for _, audio in came] == [audio for _, audio in sent[: len(came)]],
        first_frame_equal=bool(came) and came[0][1] == sent[0][1],
        delays_ms=_delays(sent, came),
    )


def agent_to_caller(session: AgentSession, caller: Caller) -> Direction:
    """Compare the frames sent by the agent with those received by the caller, from interrupt to interrupt."""
    sent = _cut([(item.at, item.audio) for item in session.sent], session.interrupts_at)
    media = [(item.at, item.message.audio) for item in caller.received if item.message.event == "media"]
    came = _cut(media, clears_at(caller))
    total = Direction(
        sent=0,
        received=len(media),
        lost=0,
        # The parts are comparable only if every interrupt became one clear.
        byte_equal=len(sent) == len(came),
        first_frame_equal=bool(media and session.sent) and media[0][1] == session.sent[0].audio,
    )
    for index, part in enumerate(sent):
        got = came[index] if index < len(came) else []
        missing = max(0, len(part) - len(got))
        # At an interrupt the bridge may discard the frames that it still holds: the newest ones, no others.
        if index < len(sent) - 1:
            total.dropped += missing
            total.sent += len(part) - missing
        else:
            total.lost += missing
            total.sent += len(part)
        total.byte_equal &= [audio for _, audio in got] == [audio for _, audio in part[: len(got)]]
        total.delays_ms += _delays(part, got)
    return total


def clears_at(caller: Caller) -> list[float]:
    """Return when each ``clear`` reached the caller's side."""
    return [item.at for item in caller.received if item.message.event == "clear"]


def interrupt_to_clear_ms(session: AgentSession, caller: Caller) -> list[float]:
    """Return the time from each interrupt to its clear, in milliseconds."""
    pairs = zip(session.interrupts_at, clears_at(caller), strict=False)
    return [round(1000 * (cleared - interrupted), 3) for interrupted, cleared in pairs]


def _cut(items: list[tuple[float, bytes]], cuts: Sequence[float]) -> list[list[tuple[float, bytes]]]:
    edges = [-math.inf, *cuts, math.inf]
    return [
        [item for item in items if edges[index] <= item[0] < edges[index + 1]]
        for index in range(len(edges) - 1)
    ]


def _delays(sent: list[tuple[float, bytes]], came: list[tuple[float, bytes]]) -> list[tuple[float, float]]:
    """Return the delay of each frame up to the first difference; later pairs may not belong together."""
    delays = []
    for (sent_at, sent_audio), (came_at, came_audio) in zip(sent, came, strict=False):
        if sent_audio != came_audio:
            break
        delays.append((sent_at, 1000 * (came_at - sent_at)))
    return delays
