"""The agent's side of a call with the echo, which has no socket."""

from __future__ import annotations

from collections.abc import Callable

from _codec import decoded_bytes
from bridge.call.sides import AgentSide, CallerSide, Relayed, SideCounts
from bridge.call.state import Call


class EchoSide:
    """Returns each frame at once, until the caller ends the call."""

    tracks_heard = False
    is_speaking = False

    def __init__(self, call: Call, clock: Callable[[], float]) -> None:
        self._call = call
        self._clock = clock
        self._frames = 0

    def connect(self) -> None:
        self._call.on_agent_open(self._clock())

    def take_over(self, other: AgentSide) -> None:
        """Audio held for a failed agent is not echoed."""

    def send_audio(self, payload: bytes) -> None:
        self._frames += 1
        self._call.on_agent_audio(payload, decoded_bytes(payload), self._clock)

    def send_dtmf(self, digit: str) -> None:
        """Keys are not echoed."""

    def on_played(self, name: str) -> None:
        """The echo sends no marks."""

    def relay_to(self, other: CallerSide) -> None:
        """There is no wire to join: all audio passes through the call."""

    def relayed(self) -> Relayed:
        return Relayed(0, 0)

    def counts(self) -> SideCounts:
        return SideCounts(sent_frames=self._frames)

    def close(self, code: int) -> None:
        """Nothing to close."""
