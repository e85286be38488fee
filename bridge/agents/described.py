"""
Agents described in a settings file, without code: the model of a table.

The keys cover the differences between the services of today: where the audio stands in a message and in which format,
the meaning of the other messages, and the messages to the agent. `bridge.agents.described_problems` reads a table,
`bridge.agents.described_dialogue` follows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator

from _codec import SpanFinder
from bridge.agents.agent import AudioFormat
from bridge.agents.places import (
    Match,
    Path,
    Shape,
    read_match,
    read_paths,
    read_shape,
    shapes_exclude,
)
from bridge.agents.succession import FailureKind, Speaker
from bridge.agents.table_request import APath, SessionRequest, Table, Text, starts_with
from bridge.agents.template import CALL_NAMES, PLACEHOLDER

AUDIO_HERE = "{audio}"
# What the texts of a call's socket may name beside the values of every text.
SOCKET_NAMES = CALL_NAMES | {"stream_sid", "history", "session."}

Encoding = Literal["mulaw", "alaw", "pcm16"]
Rate = Literal[8000, 16000, 24000, 48000]
AMatch = Annotated[Match, PlainValidator(read_match)]
Paths = Annotated[Path, PlainValidator(read_paths)]
AShape = Annotated[Shape, PlainValidator(read_shape)]


def _binary(raw: object) -> bool | str:
    if isinstance(raw, bool) or (isinstance(raw, str) and raw in ("to_agent", "from_agent")):
        return raw
    raise ValueError("must be true, false, 'to_agent' or 'from_agent'")


class FromAgent(Table):
    """The places of base64 texts in a message of the agent, and what else must be in it."""

    path: Paths = Field(description="the place of the base64 text")
    equal: AShape = {}
    absent_or_equal: AShape = {}

    def finder(self, more: Iterable[Path] = ()) -> SpanFinder | None:
        """
        Find the text natively; None if the finder has no words for this.

        Args:
            more: Places at which `SpanFinder.with_value` is to set a value.
        """
        more = list(more)
        if not all(path.has_keys_only for path in (self.path, *more, *self.equal, *self.absent_or_equal)):
            return None
        try:
            equal = {path.text: _only(wanted.values) for path, wanted in self.equal.items()}
            allowed = {path.text: _only(wanted.values) for path, wanted in self.absent_or_equal.items()}
            return SpanFinder(self.path.text, equal | {path.text: "" for path in more}, allowed)
        except (ValueError, TypeError):
            return None


def _only(values: tuple[str | int, ...]) -> str | int:
    (value,) = values
    return value


class Exchange(Table):
    """A message of the agent and its answer, in which ``{path}`` stands for the message's value there."""

    match: AMatch = Field(description="the messages that are answered")
    answer: str = Field(description="the answer")


class TransferRequest(Table):
    """
    A message that asks for a transfer, and the path of the number in it.

    ``json``: a text on the path is read as JSON. ``accepted`` and ``refused`` answer the message, as `Exchange` does.
    """

    match: AMatch = Field(description="the messages that ask for a transfer")
    to: APath = Field(description="the path of the number")
    json_in_text: bool = Field(default=False, alias="json")
    accepted: str = ""
    refused: str = ""


class Transcript(Table):
    """A message with words that were said; of a ``partial`` one only the meaning is known: it is not yet final."""

    match: AMatch = Field(description="the messages with words")
    path: Paths = Field(description="the place of the words")
    role: Literal["caller", "agent"] = Field(description="who says them: 'caller' or 'agent'")
    partial: bool = False

    @property
    def speaker(self) -> Speaker:
        """Who says the words."""
        return Speaker(self.role)


class Description(Table):
    """One agent: a table of the file that ``BRIDGE_AGENTS_FILE`` names."""

    url: Annotated[str, starts_with("wss://", "ws://", "{session.")] = Field(
        description="the address of the agent's socket"
    )
    headers: dict[str, str] = {}
    session: SessionRequest | None = None

    # The audio
    binary: Annotated[bool | str, PlainValidator(_binary)] = False
    json_in_binary: bool = False
    to_agent: str = ""
    from_agent: FromAgent | None = None
    encoding: Encoding = "mulaw"
    sample_rate: Rate = 8000
    to_agent_encoding: Encoding | None = None
    to_agent_rate: Rate | None = None
    from_agent_encoding: Encoding | None = None
    from_agent_rate: Rate | None = None
    item: APath | None = None
    turn_id: APath | None = None
    frame_ms: int = Field(default=0, ge=0, le=1000, multiple_of=20)
    silence_fill_ms: int = Field(default=0, ge=0, le=1000)

    # The meaning of messages
    ready: AMatch | None = None
    interrupt: AMatch | None = None
    ended: AMatch | None = None
    hang_up: AMatch | None = None
    speech_ended: AMatch | None = None
    turn: AMatch | None = None
    error: AMatch | None = None
    trouble: AMatch | None = None
    warning: AMatch | None = None
    error_text: APath | None = None
    error_kinds: dict[Literal["quota", "credentials", "session_limit", "server", "refused"], AMatch] = {}
    transfer: TransferRequest | None = None
    transcript: list[Transcript] = []
    answers: list[Exchange] = []
    ignored: list[AMatch] = []

    # Messages to the agent
    first: list[str] = []
    on_ready: list[str] = []
    closing: list[str] = []
    heard: str = ""
    dtmf: str = ""
    keys: str = ""
    limit_near: str = ""
    session_limit_s: float | None = Field(default=None, gt=0, le=86400)
    keepalive: str = ""
    keepalive_s: float = Field(default=10.0, ge=0.5, le=3600)
    max_calls: int | None = Field(default=None, ge=1, le=999_999)
    disabled: bool = Field(default=False, strict=True)

    @property
    def is_url_of_reply(self) -> bool:
        """Whether the whole address comes from the reply to the session's request."""
        return PLACEHOLDER.fullmatch(self.url) is not None

    @property
    def is_binary_to_agent(self) -> bool:
        """Whether audio goes to the agent as binary messages."""
        return self.binary in (True, "to_agent")

    @property
    def is_binary_from_agent(self) -> bool:
        """Whether audio comes from the agent as binary messages."""
        return self.binary in (True, "from_agent")

    @property
    def to_agent_format(self) -> AudioFormat:
        """The format of the caller's audio."""
        return AudioFormat(self.to_agent_encoding or self.encoding, self.to_agent_rate or self.sample_rate)

    @property
    def from_agent_format(self) -> AudioFormat:
        """The format of the agent's audio."""
        return AudioFormat(
            self.from_agent_encoding or self.encoding, self.from_agent_rate or self.sample_rate
        )

    @property
    def texts(self) -> list[str]:
        """The texts that may have placeholders."""
        texts = [text.template for text in self.placed_texts]
        texts += [exchange.answer for exchange in self.answers]
        return texts if self.transfer is None else [*texts, self.transfer.accepted, self.transfer.refused]

    @property
    def placed_texts(self) -> list[Text]:
        """Those with fixed names, each with its key: an answer may name any place of the message that it answers."""
        socket = CALL_NAMES | {"session."}
        texts = [Text("url", self.url, socket)]
        texts += [Text(f"headers.{name}", text, socket) for name, text in self.headers.items()]
        if self.session is not None:
            texts += self.session.placed_texts("session", CALL_NAMES)
        for key in ("first", "on_ready", "closing"):
            texts += [Text(f"{key}.{n}", text, SOCKET_NAMES) for n, text in enumerate(getattr(self, key))]
        more = {
            "to_agent": {"audio"},
            "heard": {"heard_ms", "item"} if self.item is not None else {"heard_ms"},
            "dtmf": {"digit"},
            "keys": {"keys"},
            "limit_near": {"left_s"},
            "keepalive": set[str](),
        }
        texts += [Text(key, getattr(self, key), SOCKET_NAMES | names) for key, names in more.items()]
        return texts

    @property
    def meanings(self) -> dict[str, list[Match]]:
        """The matches of the messages that are not only audio, by key."""
        found = {
            key: [match]
            for key in (
                *("ready", "interrupt", "ended", "hang_up", "speech_ended"),
                *("turn", "error", "trouble", "warning"),
            )
            if (match := getattr(self, key)) is not None
        }
        if self.transfer is not None:
            found["transfer"] = [self.transfer.match]
        found["transcript"] = [transcript.match for transcript in self.transcript]
        found["answers"] = [exchange.match for exchange in self.answers]
        return {key: matches for key, matches in found.items() if matches}

    @property
    def ids(self) -> dict[str, Path]:
        """The paths of ``item`` and ``turn_id``, where audio has these."""
        return {key: path for key in ("item", "turn_id") if (path := getattr(self, key)) is not None}

    @cached_property
    def finder(self) -> SpanFinder | None:
        """
        Finds audio natively; None if all messages must be read.

        That is the case if a message with audio may have another meaning too. Where audio has ids, the finder takes
        none of it until `SpanFinder.with_value` has set them.
        """
        if self.from_agent is None:
            return None
        return None if self.ambiguous_key else self.from_agent.finder(self.ids.values())

    @property
    def ambiguous_key(self) -> str:
        """The key of a meaning that a message with audio may have too; empty if there is none."""
        if self.from_agent is None:
            return ""
        finder = self.from_agent.finder()
        for key, matches in self.meanings.items():
            for match in matches:
                if finder is not None and any(finder.find(text) for text in match.texts):
                    return key
                if not all(shapes_exclude(self.from_agent.equal, shape) for shape in match.shapes):
                    return key
        return ""

    def kind_of(self, message: bytes, fields: Any) -> FailureKind | None:
        """Why the agent cannot go on, by the message that says so; None if the table does not know."""
        for kind, match in self.error_kinds.items():
            if match.fits(message, fields):
                return FailureKind(kind)
        return None
