"""
An agent as data: its session, its socket, the form of its audio and the meaning of its messages.

An agent's module consists of a class of settings, a function that makes an `Agent` of them, and an `AgentModule` that
names both. The data path (`_codec.Wire`) is the same for all.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import aiohttp
from pydantic import BaseModel, ConfigDict

from _codec import Envelope, SpanFinder
from bridge.agents.hand_over import HandOver
from bridge.agents.succession import FailureKind, Memory, Said
from bridge.agents.turns import HeardTurn


class SessionError(Exception):
    """The agent is unavailable: it gave no session. The text is the reason, for the log, and has no secrets."""

    def __init__(self, detail: str, kind: FailureKind = FailureKind.LOST) -> None:
        super().__init__(detail)
        # Whether another attempt may help.
        self.kind = kind


class AgentSettings(BaseModel):
    """
    Base of an agent's settings. A field's name is its variable in lower case.

    A field without a default is required; its description says where to get the value.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True, slots=True)
class Resources:
    """
    The process's resources that agents share.

    Attributes:
        http: For requests to the agent's service.
        session_s: Seconds that opening a session may take.
        values: Values of the process for the placeholders of texts, by name: ``env.KEY``, ``file.KEY``.
        may_transfer: Whether any number is one that an agent may transfer a call to.
    """

    http: aiohttp.ClientSession
    session_s: float
    values: Mapping[str, str] = field(default_factory=dict)
    may_transfer: bool = False


@dataclass(frozen=True, slots=True)
class CallInfo:
    """
    A call, as an agent's service may know it.

    ``values`` are the further ones, by placeholder: ``form.CallerName``, ``param.tenant``, ``value.customer``; at the
    media socket those that an agent of the chain names. ``route`` is its route's name; empty before one is chosen.
    """

    call_sid: str
    from_number: str
    to_number: str
    values: Mapping[str, str] = field(default_factory=dict)
    route: str = ""

    @property
    def placeholders(self) -> dict[str, str]:
        """All values of the call by the name of their placeholder."""
        return {
            **self.values,
            "call_sid": self.call_sid,
            "from": self.from_number,
            "to": self.to_number,
        }


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """
    A call whose media stream has started, as an agent may know it on its socket.

    ``session`` is filled if ``has_session``. For an agent that replaces a failed one it is opened later. ``memory`` is
    what was said before an agent takes over in mid-call; None for the call's first agent, which may greet.
    """

    call: CallInfo
    account_sid: str
    stream_sid: str
    session: Mapping[str, str]
    has_session: bool
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The URL of the agent's socket and the headers of its upgrade. Both may hold secrets."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """
    ``mulaw`` or ``alaw`` at 8000 Hz, or ``pcm16``: 16-bit little-endian samples at 8000, 16000, 24000 or 48000 Hz.
    """

    encoding: str
    sample_rate_hz: int


MULAW_8K = AudioFormat("mulaw", 8000)


class Control(enum.Enum):
    """The meaning of a message that has no content of its own."""

    # The agent takes audio from now on, in the formats that the dialogue has by then.
    READY = enum.auto()
    # The caller speaks: the unplayed audio of the agent is discarded.
    INTERRUPT = enum.auto()
    # The agent has finished; its last words still play.
    ENDED = enum.auto()
    # Like ENDED once the agent has said its last words, for which its socket stays open; then the phone call is ended
    # through Twilio's REST API.
    HANG_UP = enum.auto()
    # All audio of what the agent says has been sent; it tells when last words are complete.
    SPEECH_ENDED = enum.auto()
    # The service has closed the session, as `Dialogue.closing` asked.
    CLOSED = enum.auto()
    # All audio goes through `Dialogue.read` from now on, because some belongs to an interrupted turn.
    INSPECT_AUDIO = enum.auto()
    # Plain audio passes the dialogue by again.
    RELAY_AUDIO = enum.auto()


@dataclass(frozen=True, slots=True)
class Audio:
    """One audio frame that the finder did not take: its base64 text, and the format that the message states."""

    payload: bytes
    format: AudioFormat = MULAW_8K


@dataclass(frozen=True, slots=True)
class Reply:
    """A text message to send to the agent, at once or after the wait that the agent asks for."""

    message: bytes
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """A new turn begins: audio from here on is counted as heard under the agent's name for it, if it has one."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """Ask for a sign when the audio before this has played; `Dialogue.on_played` then gets the name."""

    name: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """
    Transfer the caller to this number, after the agent's last words as at `Control.HANG_UP`.

    The agent gets the messages of ``refusal`` if that is not allowed, else those of ``acceptance``.
    """

    to_number: str
    refusal: tuple[bytes, ...] = ()
    acceptance: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The agent cannot go on; ``detail`` is for the log and has no secrets."""

    detail: str
    kind: FailureKind = FailureKind.LOST


@dataclass(frozen=True, slots=True)
class Troubled:
    """
    The agent reports an error after which it may go on.

    It is logged, once a call for each ``detail``. If no audio follows in `bridge.call.limits.Limits.trouble_s`, or the
    agent closes before its next audio, it is lost for the reason ``kind``.
    """

    detail: str
    kind: FailureKind = FailureKind.SERVER


@dataclass(frozen=True, slots=True)
class Warned:
    """The agent reports something that does not disturb the call; it is logged, once a call for each ``detail``."""

    detail: str


@dataclass(frozen=True, slots=True)
class Corrected:
    """How much of the agent's last utterance the caller heard before an interrupt."""

    text: str


@dataclass(frozen=True, slots=True)
class Used:
    """How long a session is that its service bills by time, so far; it is logged at the end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message without meaning to the call. It is counted by ``reason``, a metric label."""

    reason: str


# What is counted or logged, and may end the agent.
Report = Failed | Troubled | Warned | Ignored
Event = Control | Audio | Reply | Turn | Mark | Transfer | Said | Corrected | Used | Report


class Dialogue:
    """
    One call's messages with an agent; a subclass implements an agent's protocol.

    Attributes:
        to_agent: The text around the base64 of one frame to the agent.
        audio: Finds the base64 text in the agent's plain frames. None: all messages go through `read`.
        is_binary: Audio goes both ways as binary messages, without an envelope.
        is_binary_from_agent: The same of the agent's audio, where that differs; None: it does not.
        reads_binary: Binary messages that are not audio are read as texts are.
        numbered: Frames to the agent carry numbers, as `_codec.Wire.set_format` describes; the other messages take
            theirs from the ``next_number`` that `Agent.dialogue` gets.
        to_agent_format, from_agent_format: Formats of the audio; all but mu-law at 8000 Hz are transcoded.
        waits_for_ready: No audio is sent before `Control.READY`.
        tracks_heard: `on_interrupt` needs the heard time, for which marks are sent to the caller's side.
        keepalive: Sent every ``keepalive_s`` seconds, if it is not None.
        is_speaking: Whether the agent is in the middle of an utterance; None if its messages do not tell.
        gathers_keys: `on_dtmf` gets several keys together, once the caller has pressed ``#`` or paused.
        frame_ms: The caller's audio goes to the agent in frames of this length; 0: as it comes.
        silence_fill_ms: Silence is sent to the agent where the caller's audio pauses for this long; 0: not.
        session_id: The service's name of the session, for its support; empty until it is known.
        session_limit_s: The age at which the service ends a session; None if it has no limit.
        closed_s: How long the socket waits for `Control.CLOSED` between the messages of `closing` and its close frame.
    """

    to_agent: Envelope = Envelope(b"", b"")
    audio: SpanFinder | None = None
    to_agent_format: AudioFormat = MULAW_8K
    from_agent_format: AudioFormat = MULAW_8K
    is_binary: bool = False
    is_binary_from_agent: bool | None = None
    reads_binary: bool = False
    numbered: tuple[bytes, bytes, bytes] | None = None
    waits_for_ready: bool = False
    tracks_heard: bool = False
    keepalive: bytes | None = None
    keepalive_s: float = 0.0
    is_speaking: bool | None = None
    gathers_keys: bool = False
    frame_ms: int = 0
    silence_fill_ms: int = 0
    session_id: str = ""
    session_limit_s: float | None = None
    closed_s: float = 0.0

    def opening(self) -> Iterable[bytes]:
        """Return the messages to send as soon as the socket is open."""
        return ()

    def read(self, message: bytes) -> Iterable[Event]:
        """
        Return the meaning of a text message of the agent's, as events in their order.

        Not called for plain audio, except between `Control.INSPECT_AUDIO` and `Control.RELAY_AUDIO`.
        """
        raise NotImplementedError

    def on_interrupt(self, heard: Sequence[HeardTurn]) -> Iterable[bytes]:
        """
        Return the messages to send after an interrupt.

        Args:
            heard: The turns that the caller did not hear whole, and the present one, in their order; none if the
                dialogue does not track it.
        """
        return ()

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        """Return the messages to send for a key that the caller pressed, or several if it ``gathers_keys``."""
        return ()

    def on_limit_near(self, left_s: float) -> Iterable[bytes]:
        """Return the messages that tell the agent how soon the call or its session will end."""
        return ()

    def on_played(self, name: str) -> Iterable[bytes]:
        """Return the messages to send when the audio before a `Mark` has played."""
        return ()

    def closing(self) -> Iterable[bytes]:
        """Return the messages to send before the socket is closed."""
        return ()

    def on_over(self, lasted_s: float) -> Iterable[Warned]:
        """Return what is to be logged of a session that is over; audio could flow for ``lasted_s`` seconds."""
        return ()

    def on_close(self, code: int | None, reason: str = "") -> FailureKind:
        """
        Say what a close of the vendor's means that is not the end of the conversation.

        Args:
            code: None if the connection is gone without a close frame.
            reason: The text of the close frame, often empty.
        """
        return FailureKind.LOST


NextNumber = Callable[[], int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """
    One agent, ready to answer calls.

    Attributes:
        open_session: Opens a session at the service, or raises `SessionError`. The result is small text: it travels
            in the token from the webhook to the media socket.
        endpoint: Returns the socket for a session and its call.
        dialogue: Makes the dialogue of one call. Its second argument numbers the messages to the agent, from 1 and
            together with the audio frames, for a dialogue that is ``numbered``.
        hand_over: For an agent without a socket: returns how Twilio reaches it, for a session and its call.
        session_key: The field of the session that names it, where `Dialogue.session_id` does not.
        names: The values of the call (`CallInfo.values`) that it uses.
        required: Those of them without which it cannot take a call.

    An agent with neither a socket nor a hand-over is the echo.
    """

    open_session: Callable[[CallInfo], Awaitable[dict[str, str]]]
    endpoint: Callable[[Mapping[str, str], CallInfo], Endpoint] | None = None
    dialogue: Callable[[StreamInfo, NextNumber], Dialogue] | None = None
    hand_over: Callable[[Mapping[str, str], CallInfo], HandOver] | None = None
    session_key: str = ""
    names: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


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
    """`Agent.open_session` of an agent whose socket opens without a session."""
    return {}
