"""The two sides of a call as it sees them, the chain that makes the agent's, and who follows the call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bridge.agents.succession import FailureKind
from bridge.call.record import MOST_REASONS, OTHER_REASONS, Marks, Series

if TYPE_CHECKING:
    from bridge.call.state import Call


class Relayed(NamedTuple):
    """Audio that one side passed natively to the other since the last question."""

    frames: int
    audio_bytes: int


class SideCounts(NamedTuple):
    """Media messages to one side: sent, dropped for want of room or at a socket's end, cleared by a barge-in."""

    sent_frames: int = 0
    dropped_frames: int = 0
    cleared_frames: int = 0
    # Of the dropped ones, those for which there was no room.
    overflowed_frames: int = 0


class CallerSide(Protocol):
    """
    The caller's side.

    After ``relay_to``, plain audio goes straight to the other side, for None through the call, and ``relayed`` gives
    how much since the last question. After ``mark_audio``, marks go with the audio, ``sent_bytes`` is how much of it
    went out and ``held_bytes`` how much waits. ``set_unplayed`` corrects how much audio the carrier and this side have
    together. ``keep`` gives the side that stands in when the socket is lost, with what this one held; ``take_over``
    moves that to the side of the next socket.
    """

    @property
    def sent_bytes(self) -> int: ...
    @property
    def held_bytes(self) -> int: ...
    def mark_audio(self) -> None: ...
    def keep(self) -> CallerSide: ...
    def take_over(self, other: CallerSide) -> None: ...
    def send_audio(self, payload: bytes) -> None: ...
    def relay_to(self, other: AgentSide | None) -> None: ...
    def relayed(self) -> Relayed: ...
    def counts(self) -> SideCounts: ...
    def set_unplayed(self, unplayed_s: float) -> None: ...
    def send_clear(self) -> None: ...
    def send_mark(self, name: str) -> None: ...
    def close(self, code: int) -> None: ...


class AgentSide(Protocol):
    """
    The agent's side; ``connect`` answers through `Call.on_agent_open` or `Call.on_agent_lost`.

    ``tracks_heard``: `Call.on_interrupt` returns how much the caller heard of each turn. ``is_speaking``: whether the
    agent is in the middle of an utterance; None if it does not tell. ``take_over`` moves the audio and the keys that
    wait at an unavailable agent to this one.
    """

    @property
    def tracks_heard(self) -> bool: ...
    @property
    def is_speaking(self) -> bool | None: ...
    def connect(self) -> None: ...
    def take_over(self, other: AgentSide) -> None: ...
    def send_dtmf(self, digit: str) -> None: ...
    def on_played(self, name: str) -> None: ...
    def send_audio(self, payload: bytes) -> None: ...
    def relay_to(self, other: CallerSide) -> None: ...
    def relayed(self) -> Relayed: ...
    def counts(self) -> SideCounts: ...
    def close(self, code: int) -> None: ...


class Chain(Protocol):
    """
    The agents of one call, in the order in which they are tried.

    ``on_open``: the present agent takes audio. ``on_lost``: it cannot go on, and another side may be asked for.
    ``on_over``: the call has ended, and with it what the agent was asked for.
    """

    def on_open(self) -> None: ...
    def on_lost(self, kind: FailureKind, detail: str) -> None: ...
    def on_over(self) -> None: ...

    def next_side(self) -> AgentSide | None:
        """Make the side of the next agent and enter it in the book of open calls; None after the last one."""
        ...

    def successor(self, kind: FailureKind, was_open: bool) -> AgentSide | None:
        """
        Make the side that takes over in mid-call, likewise: of the next agent, or of the same one in a new session.

        Args:
            kind: Why the present agent is lost.
            was_open: Whether it talked with the caller.
        """
        ...


@dataclass(slots=True)
class CallStats:
    """
    Counters of one call; a *frame* is one media message of any length.

    ``interrupted``: each interrupt, with the time until its clear was sent. ``ignored``: messages without a meaning,
    by the side that sent them and the reason.
    """

    frames_from_caller: int = 0
    frames_from_agent: int = 0
    interrupts: int = 0
    dtmf: int = 0
    marks: Marks = field(default_factory=Marks)
    agent_connect_s: float | None = None
    first_agent_audio_s: float | None = None
    interrupted: Series = field(default_factory=Series)
    ignored: dict[str, dict[str, int]] = field(default_factory=dict)

    def ignore(self, side: str, reason: str) -> None:
        """Count a message that is dropped while the call goes on."""
        reasons = self.ignored.setdefault(side, {})
        if reason not in reasons and len(reasons) >= MOST_REASONS:
            reason = OTHER_REASONS
        reasons[reason] = reasons.get(reason, 0) + 1


class CallObserver(Protocol):
    """
    Follows what becomes of a call.

    ``on_agent_replaced``: ``old`` is unavailable for the reason ``detail``, and ``new`` is tried in its place.
    ``on_caller_kept``: the caller's socket is lost, and ``kept`` stands in for it; ``lost_s`` is the agent's audio that
    went with it.
    ``on_call_closed``: the agent's side is closing; answer with `Call.close_caller` as soon as the outcome is kept.
    ``on_fault``: a step of the call's end has failed with ``fault``, which is this program's.
    """

    def on_call_bridged(self, call: Call) -> None: ...
    def on_agent_replaced(self, call: Call, old: AgentSide, new: AgentSide, detail: str) -> None: ...
    def on_caller_kept(self, call: Call, kept: CallerSide, lost_s: float, detail: str) -> None: ...
    def on_twilio_asked(self, call: Call) -> None: ...
    def on_call_closed(self, call: Call) -> None: ...
    def on_fault(self, call: Call, fault: Exception) -> None: ...
