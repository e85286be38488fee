"""
Agents as data: how a session is opened, how its socket is reached, how audio is wrapped, what messages mean.

`Agent` is that description; each module beside this one makes one. The data path (`_codec.Wire`) is the same for
all of them.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from _codec import Envelope, SpanFinder


class SessionError(Exception):
    """The agent service gave no session; its text is a reason without secrets, for the log."""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What an agent service is told of a call when it is asked for a session."""

    call_sid: str
    from_number: str
    to_number: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the agent's socket is, and the headers that open it; both may hold secrets."""

    url: str
    headers: Mapping[str, str]


class Control(enum.Enum):
    """What a message of the agent that is not audio means to the call."""

    INTERRUPT = enum.auto()
    ENDED = enum.auto()


@dataclass(frozen=True, slots=True)
class Audio:
    """One frame of the agent's: base64 text, and what it says of its own encoding."""

    payload: bytes
    encoding: str
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message without meaning here; ``reason`` is a metric label."""

    reason: str


AgentMessage = Audio | Control | Ignored


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSocket:
    """
    How an agent's socket is reached and what goes through it.

    Attributes:
        endpoint: The socket for a session.
        to_agent: The envelope of one frame to the agent.
        audio: Finds the base64 text in the agent's plain mu-law frames.
        parse: Reads any other message.
    """

    endpoint: Callable[[Mapping[str, str]], Endpoint]
    to_agent: Envelope
    audio: SpanFinder
    parse: Callable[[bytes], AgentMessage]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """
    One agent service.

    Attributes:
        name: As in ``BRIDGE_AGENT``.
        open_session: Asks the service for a session; raises `SessionError`. The reply is small text that rides in
            the token from the webhook to the media socket.
        socket: None for the agent that is built in.
    """

    name: str
    open_session: Callable[[CallRequest], Awaitable[dict[str, str]]]
    socket: AgentSocket | None


def decoded_bytes(payload: bytes) -> int:
    """The length of valid base64 text once decoded."""
    return len(payload) // 4 * 3 - payload[-2:].count(b"=")
