"""The two sides of a call as it sees them, and the chain that makes the agent's."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Relayed(NamedTuple):
    """Audio that one side passed natively to the other since the last question."""

    frames: int
    audio_bytes: int


class SideCounts(NamedTuple):
    """Media messages to one side: sent, dropped by a full ring or a closing socket, cleared by a barge-in."""

    sent_frames: int = 0
    dropped_frames: int = 0
    cleared_frames: int = 0


class CallerSide(Protocol):
    """
    The caller's side.

    After ``relay_to``, plain audio goes straight to the other side, and ``relayed`` gives how much since the last
    question. After ``mark_audio``, marks go with the audio, ``sent_bytes`` is how much of it went out and
    ``held_bytes`` how much waits. ``set_unplayed`` corrects how much audio the carrier and this side have together.
    """

    @property
    def sent_bytes(self) -> int: ...
    @property
    def held_bytes(self) -> int: ...
    def mark_audio(self) -> None: ...
    def send_audio(self, payload: bytes) -> None: ...
    def relay_to(self, other: AgentSide) -> None: ...
    def relayed(self) -> Relayed: ...
    def set_unplayed(self, unplayed_s: float) -> None: ...
    def send_clear(self) -> None: ...
    def send_mark(self, name: str) -> None: ...
    def close(self, code: int) -> None: ...


class AgentSide(Protocol):
    """
    The agent's side; ``connect`` answers through `Call.on_agent_open` or `Call.on_agent_lost`.

    ``tracks_heard``: `Call.on_interrupt` returns how much the caller heard. ``take_over`` moves the audio and the keys
    that wait at an unavailable agent to this one.
    """

    @property
    def tracks_heard(self) -> bool: ...
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
    """The agents of one call, in the order in which they are tried."""

    def next_side(self) -> AgentSide | None:
        """Make the side of the next agent and enter it in the book of open calls; None after the last one."""
        ...
