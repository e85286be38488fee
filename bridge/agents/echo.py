"""The built-in agent that needs no account and no socket: each frame goes back once, unchanged, in order, at once."""

from __future__ import annotations

from collections.abc import Callable

from bridge.agents import Agent, CallRequest, decoded_bytes
from bridge.call import Call, CallerSide, Relayed


class EchoSide:
    """The agent's side of a call with the echo; it ends with the caller."""

    def __init__(self, call: Call, clock: Callable[[], float]) -> None:
        self._call = call
        self._clock = clock

    def connect(self) -> None:
        self._call.on_agent_open(self._clock())

    def send_audio(self, payload: bytes) -> None:
        self._call.on_agent_audio(payload, decoded_bytes(payload), self._clock)

    def relay_to(self, other: CallerSide) -> None:
        """Nothing comes in here that could pass the call by."""

    def relayed(self) -> Relayed:
        return Relayed(0, 0)

    def close(self, code: int) -> None:
        """Nothing to close."""


def make_echo() -> Agent:
    """Describe the agent."""

    async def open_session(call: CallRequest) -> dict[str, str]:
        return {}

    return Agent(name="echo", open_session=open_session, socket=None)
