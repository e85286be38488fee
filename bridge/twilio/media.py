"""
Twilio Media Streams' wire format on the media socket: what Twilio sends, what it accepts.

Source: twilio.com/docs/voice/media-streams/websocket-messages. Twilio warns (31951) about any key beyond the
documented ones, so messages to it hold exactly those.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson

from _codec import Envelope, SpanFinder

SID = re.compile(r"[A-Za-z0-9]{1,64}")
MEDIA_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


class BadMessage(ValueError):
    """A message to drop and count; its text is the short reason for the metric label."""


@dataclass(frozen=True, slots=True)
class Start:
    """The fields of ``start``; ``custom_parameters`` holds only its text values."""

    stream_sid: str
    call_sid: str
    account_sid: str
    is_mulaw_8k: bool
    custom_parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class Media:
    """One frame of the caller: ``payload`` is base64 text of mu-law, 8 kHz, if Twilio is right."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    name: str


@dataclass(frozen=True, slots=True)
class Dtmf:
    digit: str


@dataclass(frozen=True, slots=True)
class Connected:
    pass


@dataclass(frozen=True, slots=True)
class Stop:
    pass


_ANY_MEDIA = SpanFinder("media.payload", {"event": "media", "streamSid": ""}, {"media.track": "inbound"})

Message = Connected | Start | Media | Mark | Dtmf | Stop


def media_finder(stream_sid: str) -> SpanFinder:
    """Finds the payload of this stream's ``media`` messages; leaves all other messages to `parse`."""
    return _ANY_MEDIA.with_value("streamSid", stream_sid)


def parse(message: bytes, stream_sid: str | None) -> Message:
    """
    Read one message completely, by orjson.

    Args:
        message: The JSON text.
        stream_sid: The stream's id after ``start``; messages of another stream are refused.

    Raises:
        BadMessage: The message must be dropped.
    """
    try:
        fields = orjson.loads(message)
    except orjson.JSONDecodeError:
        raise BadMessage("not_json") from None
    if not isinstance(fields, dict):
        raise BadMessage("not_object")
    event = fields.get("event")
    if event == "connected":
        return Connected()
    if event == "start":
        return _parse_start(fields)
    if event not in ("media", "mark", "dtmf", "stop"):
        raise BadMessage("unknown_event")
    if stream_sid is not None and fields.get("streamSid") != stream_sid:
        raise BadMessage("other_stream")
    if event == "stop":
        return Stop()
    body = fields.get(event)
    if not isinstance(body, dict):
        raise BadMessage("missing_field")
    if event == "media":
        return _parse_media(body)
    value = body.get("name" if event == "mark" else "digit")
    if not isinstance(value, str):
        raise BadMessage("missing_field")
    return Mark(value) if event == "mark" else Dtmf(value)


def _parse_start(fields: dict[str, Any]) -> Start:
    start = fields.get("start")
    if not isinstance(start, dict):
        raise BadMessage("missing_field")
    stream_sid, call_sid, account_sid = (
        _sid(start.get("streamSid", fields.get("streamSid"))),
        _sid(start.get("callSid")),
        _sid(start.get("accountSid")),
    )
    media_format = start.get("mediaFormat")
    parameters = start.get("customParameters")
    texts = parameters.items() if isinstance(parameters, dict) else ()
    return Start(
        stream_sid,
        call_sid,
        account_sid,
        is_mulaw_8k=isinstance(media_format, dict) and MEDIA_FORMAT.items() <= media_format.items(),
        custom_parameters={name: value for name, value in texts if isinstance(value, str)},
    )


def _sid(value: Any) -> str:
    if not isinstance(value, str) or not SID.fullmatch(value):
        raise BadMessage("bad_sid")
    return value


def _parse_media(body: dict[str, Any]) -> Media:
    payload = body.get("payload")
    if body.get("track", "inbound") != "inbound":
        raise BadMessage("other_track")
    if not isinstance(payload, str):
        raise BadMessage("missing_field")
    return Media(payload.encode())


def media_envelope(stream_sid: str) -> Envelope:
    """The texts before and after the base64 text of a ``media`` message to Twilio."""
    return Envelope(
        b'{"event":"media","streamSid":' + orjson.dumps(stream_sid) + b',"media":{"payload":"', b'"}}'
    )


def clear(stream_sid: str) -> bytes:
    """A message that empties Twilio's playback buffer; Twilio then echoes all pending marks."""
    return orjson.dumps({"event": "clear", "streamSid": stream_sid})


def mark_around_name(stream_sid: str) -> tuple[bytes, bytes]:
    """The texts before and after the name, plain ASCII, of a `mark` message."""
    before, after = mark(stream_sid, "|").split(b"|")
    return before, after


def mark(stream_sid: str, name: str) -> bytes:
    """A message that Twilio echoes once the audio before it has played, or is cleared."""
    return orjson.dumps({"event": "mark", "streamSid": stream_sid, "mark": {"name": name}})
