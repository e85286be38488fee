"""The facts of one call, collected once for what is said of it when it is over."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

# Of a number or an address that is masked.
SHOWN_FIRST, SHOWN_LAST = 4, 2
# What a `Series` keeps one by one.
MOST_KEPT = 200
# Reasons for which messages of one side are ignored; further ones are counted together.
MOST_REASONS = 50
OTHER_REASONS = "other"


def masked(number: str) -> str:
    """A number or an address with its middle left out."""
    if len(number) <= SHOWN_FIRST + SHOWN_LAST:
        return "…" if number else ""
    return f"{number[:SHOWN_FIRST]}…{number[-SHOWN_LAST:]}"


@dataclass(slots=True)
class Series:
    """Lengths of time at moments of a call: the last `MOST_KEPT` one by one, all of them summed up."""

    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0
    # The moment and the length of each in turn, 16 bytes in all; a list of pairs would take 136.
    _last: array[float] = field(default_factory=lambda: array("d"))

    @property
    def last(self) -> list[tuple[float, float]]:
        """The moment of each, seconds of the call's clock, and its length in seconds."""
        return list(zip(self._last[::2], self._last[1::2], strict=True))

    def add(self, at: float, length_s: float) -> None:
        """Add one; the oldest beyond the bound stays in the sums only."""
        self.count += 1
        self.total_s += length_s
        self.longest_s = max(self.longest_s, length_s)
        self._last.extend((at, length_s))
        del self._last[: -2 * MOST_KEPT]


@dataclass(slots=True)
class Marks:
    """
    The marks that the carrier has given back.

    Attributes:
        count: All of them, those that go with an agent's audio to tell how much was heard among them.
        last: When the last `MOST_KEPT` others came back, seconds of the call's clock.
    """

    count: int = 0
    last: list[float] = field(default_factory=list)

    def add(self, at: float) -> None:
        """Note the time of one."""
        self.last.append(at)
        del self.last[:-MOST_KEPT]


@dataclass(slots=True)
class AgentRecord:
    """
    One agent that a call tried.

    Attributes:
        name: As in ``BRIDGE_AGENT``, a route or the answer webhook.
        session_id: The service's name of the session.
        how_closed: Who closed its socket, and how.
        why_lost: Why the next agent took its place; empty for the last one.
        billed_s: How long a session its service bills, if it tells.
    """

    name: str
    session_id: str = ""
    how_closed: str = ""
    why_lost: str = ""
    billed_s: float | None = None


@dataclass(slots=True)
class CallRecord:
    """
    One call, from its verified ``start`` on.

    Attributes:
        from_number, to_number: As they may be shown.
        stream_sid: Of the last media socket, like ``attempt`` and ``caller_closed``.
        attempt: How often the call was admitted again.
        shown: How other numbers may be shown.
        caller_closed: Who closed the media socket, and how.
        lost_audio_s: The agent's audio that went with lost media sockets.
        recording: The name of the recording's file; empty without one.
        recording_ended: Why the recording ended before the call; empty if it did not.
        recording_sid: Of Twilio's recording.
        agents: Those that were tried, in order; the last one had the call in the end.
        webhook_at, answered_at: Unix times of Twilio's first request and of the answer that led to the media socket;
            0 if they are not known here.
    """

    from_number: str = ""
    to_number: str = ""
    route: str = ""
    stream_sid: str = ""
    attempt: int = 0
    shown: Callable[[str], str] = masked
    caller_closed: str = ""
    lost_audio_s: float = 0.0
    recording: str = ""
    recording_ended: str = ""
    recording_sid: str = ""
    agents: list[AgentRecord] = field(default_factory=list)
    webhook_at: float = 0.0
    answered_at: float = 0.0

    @property
    def agent(self) -> AgentRecord:
        """The agent that had the call in the end; without a name if there was none."""
        return self.agents[-1] if self.agents else AgentRecord("")
