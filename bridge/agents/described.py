"""
Agents described in a settings file, without code: audio as base64 in JSON, or binary.

The keys cover the differences between the services of today: the place of the base64 text, a few control messages,
and the first messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from _codec import Envelope, SpanFinder
from bridge.agents.agent import (
    Agent,
    Audio,
    AudioFormat,
    CallInfo,
    Control,
    Dialogue,
    Endpoint,
    Event,
    Failed,
    Ignored,
    Reply,
    Resources,
    StreamInfo,
    Transfer,
    no_session,
)
from bridge.agents.json_dialogue import parse
from bridge.agents.session_request import ask
from bridge.agents.template import fill, fill_json, in_header, in_url, names_in, of_call, required_in

AUDIO_HERE = "{audio}"
SESSION_TEXT = re.compile(r"[\x21-\x7e]{1,8192}")

# A message matches by being exactly this text, or by values at the paths of their keys.
Match = str | Annotated[dict[str, str | int | bool], Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FromAgent(_Table):
    """The place of the base64 text in a message of the agent, with the arguments of `_codec.SpanFinder`."""

    path: str
    equal: dict[str, str | int] = {}
    absent_or_equal: dict[str, str | int] = {}


class Exchange(_Table):
    """A message of the agent and its answer, in which ``{path}`` stands for the message's value there."""

    match: Match
    answer: str


class TransferRequest(_Table):
    """A message that asks for a transfer, and the path of the number in it."""

    match: Match
    to: str


class SessionRequest(_Table):
    """A request before the socket opens. Its ``reply`` names values for ``url``, ``headers`` and ``first``."""

    url: str = Field(pattern=r"^https?://")
    headers: dict[str, str] = {}
    body: dict[str, Any] = {}
    reply: list[str] = Field(min_length=1)

    @field_validator("body")
    @classmethod
    def _is_json(cls, body: dict[str, Any]) -> dict[str, Any]:
        try:
            orjson.dumps(body)
        except TypeError as error:
            raise ValueError(f"cannot be written as JSON: {error}") from None
        return body


class Description(_Table):
    """One agent: a table of the file that ``BRIDGE_AGENTS_FILE`` names."""

    url: str = Field(pattern=r"^wss?://")
    headers: dict[str, str] = {}
    session: SessionRequest | None = None
    first: list[str] = []
    binary: bool = False
    to_agent: str = ""
    from_agent: FromAgent | None = None
    encoding: Literal["mulaw", "pcm16"] = "mulaw"
    sample_rate: Literal[8000, 16000, 24000] = 8000
    ready: Match | None = None
    interrupt: Match | None = None
    ended: Match | None = None
    hang_up: Match | None = None
    error: Match | None = None
    turn: Match | None = None
    transfer: TransferRequest | None = None
    answers: list[Exchange] = []
    dtmf: str = ""
    keepalive: str = ""
    keepalive_s: float = Field(default=10.0, ge=0.5, le=3600)
    _finder: SpanFinder | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _is_whole(self) -> Description:
        if self.encoding == "mulaw" and self.sample_rate != 8000:
            raise ValueError("mulaw has a sample_rate of 8000; for others set encoding = 'pcm16'")
        if self.binary:
            if self.to_agent or self.from_agent:
                raise ValueError("binary = true excludes to_agent and from_agent")
            return self
        if self.from_agent is None or self.to_agent.count(AUDIO_HERE) != 1:
            raise ValueError(
                "must have binary = true, or to_agent with {audio} in it once and from_agent with the path of the "
                "base64 text"
            )
        place = self.from_agent
        self._finder = SpanFinder(place.path, place.equal, place.absent_or_equal)
        return self

    @property
    def texts(self) -> list[str]:
        """The texts that may have placeholders, beside the answers to messages."""
        texts = [self.url, *self.headers.values(), *self.first, self.to_agent, self.dtmf]
        if self.session is not None:
            texts += [
                self.session.url,
                *self.session.headers.values(),
                orjson.dumps(self.session.body).decode(),
            ]
        return texts

    @property
    def finder(self) -> SpanFinder | None:
        """Finds the audio in the agent's messages; None if audio is binary."""
        return self._finder


class DescribedDialogue(Dialogue):
    """Follows a `Description`."""

    def __init__(
        self, described: Description, stream: StreamInfo, process: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._described = described
        history = stream.memory.as_text() if stream.memory is not None else ""
        self._values = {
            **process,
            **stream.call.placeholders,
            **_of_session(stream.session),
            "stream_sid": stream.stream_sid,
            "history": history,
        }
        self.is_binary = described.binary
        self.waits_for_ready = described.ready is not None
        self.audio = described.finder
        before, _, after = described.to_agent.partition(AUDIO_HERE)
        self.to_agent = Envelope(self._text(before), self._text(after, before))
        self.to_agent_format = self.from_agent_format = AudioFormat(described.encoding, described.sample_rate)
        self.keepalive = described.keepalive.encode() or None
        self.keepalive_s = described.keepalive_s

    def opening(self) -> Iterable[bytes]:
        return [self._text(message) for message in self._described.first]

    def read(self, message: bytes) -> Iterable[Event]:
        described = self._described
        fields = parse(message)
        plain: tuple[tuple[Match | None, Event], ...] = (
            (described.interrupt, Control.INTERRUPT),
            (described.ended, Control.ENDED),
            (described.hang_up, Control.HANG_UP),
            (described.turn, Control.TURN),
            (described.ready, Control.READY),
            (described.error, Failed("error message")),
        )
        for match, event in plain:
            if match is not None and _fits(match, message, fields):
                return (event,)
        if described.transfer and _fits(described.transfer.match, message, fields):
            return (Transfer(str(_at(fields, described.transfer.to))),)
        for exchange in described.answers:
            if _fits(exchange.match, message, fields):
                return (Reply(fill_json(exchange.answer, lambda path: _at(fields, path))),)
        place = described.from_agent
        if place is not None and _fits(place.equal, message, fields):
            if not all(
                _at(fields, path) is None or _is_same(_at(fields, path), value)
                for path, value in place.absent_or_equal.items()
            ):
                return (Ignored("unknown_audio"),)
            audio = _at(fields, place.path)
            if isinstance(audio, str):
                return (Audio(audio.encode(), self.from_agent_format),)
        return (Ignored("unknown_type"),)

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        if not self._described.dtmf:
            return ()
        return (fill_json(self._described.dtmf, (self._values | {"digit": digit}).get),)

    def _text(self, template: str, before: str = "") -> bytes:
        return fill_json(template, self._values.get, before)


def describe_table(described: Description, resources: Resources) -> Agent:
    """Make an agent of a table."""
    request, process = described.session, resources.values

    async def open_session(call: CallInfo) -> dict[str, str]:
        if request is None:
            return {}
        values = call.placeholders
        in_urls, in_headers = {**in_url(values), **process}, {**in_header(values), **process}
        body = fill_json(orjson.dumps(request.body).decode(), {**values, **process}.get)
        return await ask(
            resources,
            "POST",
            fill(request.url, in_urls),
            {name: fill(text, in_headers) for name, text in request.headers.items()},
            fields=dict.fromkeys(request.reply, SESSION_TEXT),
            json=orjson.loads(body),
        )

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        # The service's own values stand for whole parts of the URL.
        own = {**_of_session(session), **process}
        in_headers = {**in_header(call.placeholders), **own}
        return Endpoint(
            fill(described.url, {**in_url(call.placeholders), **own}),
            {name: fill(text, in_headers) for name, text in described.headers.items()},
        )

    return Agent(
        open_session=no_session if request is None else open_session,
        endpoint=endpoint,
        dialogue=lambda stream, next_number: DescribedDialogue(described, stream, process),
        names=of_call(names_in(described.texts)),
        required=of_call(required_in(described.texts)),
    )


def _of_session(session: Mapping[str, str]) -> dict[str, str]:
    return {f"session.{key}": value for key, value in session.items()}


def _at(fields: Any, path: str) -> Any:
    for key in path.split("."):
        fields = fields.get(key) if isinstance(fields, dict) else None
    return fields


def _fits(match: Match, message: bytes, fields: Any) -> bool:
    if isinstance(match, str):
        return message == match.encode()
    return isinstance(fields, dict) and all(
        _is_same(_at(fields, path), value) for path, value in match.items()
    )


def _is_same(found: Any, wanted: str | int | bool) -> bool:
    # Python's True is 1, JSON's is not.
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)
