"""The agent's side of a call with the echo, which has no socket."""

from __future__ import annotations

from collections.abc import Callable

from bridge.agents.agent import decoded_bytes
from bridge.call.sides import AgentSide, CallerSide, Relayed, SideCounts
from bridge.call.state import Call


class EchoSide:
    """Gives each frame back at once; it ends with the caller."""

    tracks_heard = False

    def __init__(self, call: Call, clock: Callable[[], float]) -> None:
        self._call = call
        self._clock = clock
        self._frames = 0

    def connect(self) -> None:
        self._call.on_agent_open(self._clock())

    def take_over(self, other: AgentSide) -> None:
        """What waited for an agent that could not be had is not the echo's to say back."""

    def send_audio(self, payload: bytes) -> None:
        self._frames += 1
        self._call.on_agent_audio(payload, decoded_bytes(payload), self._clock)

    def send_dtmf(self, digit: str) -> None:
        """Keys are not sound."""

    def on_played(self, name: str) -> None:
        """No mark is this side's."""

    def relay_to(self, other: CallerSide) -> None:
        """Nothing comes in here that could pass the call by."""

    def relayed(self) -> Relayed:
        return Relayed(0, 0)

    def counts(self) -> SideCounts:
        return SideCounts(sent_frames=self._frames)

    def close(self, code: int) -> None:
        """Nothing to close."""
