"""
Agents as data: how a session is opened, how its socket is reached, how audio is wrapped, what messages mean.

An agent's module consists of a class of settings, a function that makes an `Agent` of them, and an `AgentModule` that
names both. The data path (`_codec.Wire`) is the same for all.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict

from _codec import Envelope, SpanFinder


class SessionError(Exception):
    """The agent service gave no session; its text is a reason without secrets, for the log."""


class AgentSettings(BaseModel):
    """
    What an agent wants from the settings: a field's name is the variable's in lower case.

    A field without a default is required; its description tells where to get it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True, slots=True)
class Resources:
    """What the process lends an agent: its HTTP session, and how long a session may take to open."""

    http: aiohttp.ClientSession
    session_s: float


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What an agent service is told of a call when it is asked for a session."""

    call_sid: str
    from_number: str
    to_number: str


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """
    A call whose media stream has started: what an agent may be told on its socket.

    ``session`` is there if ``has_session``; the service is asked for it later where another agent was to answer.
    """

    call: CallInfo
    account_sid: str
    stream_sid: str
    session: Mapping[str, str]
    has_session: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the agent's socket is, and the headers that open it; both may hold secrets."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """``mulaw`` at 8000 Hz, or ``pcm16``: 16-bit little-endian samples at 8000, 16000 or 24000 Hz."""

    encoding: str
    sample_rate_hz: int


MULAW_8K = AudioFormat("mulaw", 8000)


class Control(enum.Enum):
    """What a message of the agent that is not audio means to the call."""

    # The agent takes audio from now on, in the formats that the dialogue then tells.
    READY = enum.auto()
    # The caller speaks: what the agent said and was not heard yet is void.
    INTERRUPT = enum.auto()
    # The agent is done; its last words are still to be heard.
    ENDED = enum.auto()
    # As ENDED, and Twilio is told to end the call.
    HANG_UP = enum.auto()
    # The audio that follows is a turn of its own: heard audio is counted from here.
    TURN = enum.auto()
    # All audio goes through `Dialogue.read` from now on, because some belongs to an interrupted turn.
    INSPECT_AUDIO = enum.auto()
    # Plain audio passes the dialogue by again.
    RELAY_AUDIO = enum.auto()


@dataclass(frozen=True, slots=True)
class Audio:
    """One frame of the agent's that the finder has left: base64 text, and what it says of its own encoding."""

    payload: bytes
    format: AudioFormat = MULAW_8K


@dataclass(frozen=True, slots=True)
class Reply:
    """A text message that the agent is to be sent at once."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """Twilio is to say when what came before was played; `Dialogue.on_played` gets the name."""

    name: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """The agent wants the caller connected to this number; ``refusal`` is what it is sent if that is not allowed."""

    to_number: str
    refusal: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The agent says that it cannot go on."""

    detail: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message without meaning here; ``reason`` is a metric label."""

    reason: str


Event = Control | Audio | Reply | Mark | Transfer | Failed | Ignored


class Dialogue:
    """
    One call's exchange with an agent beyond its audio; a subclass is an agent's protocol.

    Attributes:
        to_agent: The envelope of one frame to the agent.
        audio: Finds the base64 text in the agent's plain frames; None leaves all messages to `read`.
        is_binary: Audio goes both ways as binary messages, with nothing around it.
        numbered: Frames to the agent carry numbers, as `_codec.Wire.set_format` describes; the other messages take
            theirs from the ``next_number`` that `Agent.dialogue` gets.
        to_agent_format, from_agent_format: Of the audio; what is not mu-law at 8000 Hz is transcoded.
        waits_for_ready: No audio may go before `Control.READY`.
        tracks_heard: `on_interrupt` must know how much was heard, which takes marks on the way to the caller.
        keepalive: Sent every ``keepalive_s`` seconds; None: nothing.
    """

    to_agent: Envelope = Envelope(b"", b"")
    audio: SpanFinder | None = None
    to_agent_format: AudioFormat = MULAW_8K
    from_agent_format: AudioFormat = MULAW_8K
    is_binary: bool = False
    numbered: tuple[bytes, bytes, bytes] | None = None
    waits_for_ready: bool = False
    tracks_heard: bool = False
    keepalive: bytes | None = None
    keepalive_s: float = 0.0

    def opening(self) -> Iterable[bytes]:
        """What is sent as soon as the socket is open."""
        return ()

    def read(self, message: bytes) -> Iterable[Event]:
        """
        Return the meaning of a text message of the agent's, as events in their order.

        Not called for plain audio, except between `Control.INSPECT_AUDIO` and `Control.RELAY_AUDIO`.
        """
        raise NotImplementedError

    def on_interrupt(self, heard_ms: int | None) -> Iterable[bytes]:
        """What the agent is told of an interrupt; ``heard_ms`` of its turn, None if the caller has heard it all."""
        return ()

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        """What the agent is told of a key that the caller pressed."""
        return ()

    def on_played(self, name: str) -> Iterable[bytes]:
        """What the agent is told of a `Mark` that has come back."""
        return ()

    def closing(self) -> Iterable[bytes]:
        """What is sent before the socket is closed."""
        return ()


NextNumber = Callable[[], int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """
    One agent service.

    Attributes:
        open_session: Asks the service for a session; raises `SessionError`. The reply is small text that rides in
            the token from the webhook to the media socket.
        endpoint: The socket for a session.
        dialogue: Makes the dialogue of one call. Its second argument numbers the messages to the agent, from 1 and
            together with the audio frames, for a dialogue that is ``numbered``.
        dial: For an agent that is reached by phone: the SIP URI for a session. Then there is no socket.

    Where there is neither a socket nor a number, the agent is built in.
    """

    open_session: Callable[[CallInfo], Awaitable[dict[str, str]]]
    endpoint: Callable[[Mapping[str, str]], Endpoint] | None = None
    dialogue: Callable[[StreamInfo, NextNumber], Dialogue] | None = None
    dial: Callable[[Mapping[str, str]], str] | None = None


SettingsOfAgent = TypeVar("SettingsOfAgent", bound=AgentSettings)


@dataclass(frozen=True, slots=True)
class AgentModule(Generic[SettingsOfAgent]):
    """
    How to make an agent: the settings that it needs, and the function that describes it with them.

    A module in `bridge.agents.vendors` has one as ``AGENT``; an entry point in the group ``voice_bridge.agents``
    names one.
    """

    settings: type[SettingsOfAgent]
    describe: Callable[[SettingsOfAgent, Resources], Agent]


async def no_session(call: CallInfo) -> dict[str, str]:
    """The `Agent.open_session` of a service that is not asked before its socket opens."""
    return {}


def decoded_bytes(payload: bytes) -> int:
    """The length of valid base64 text once decoded."""
    return len(payload) // 4 * 3 - payload[-2:].count(b"=")
