"""Twilio Media Streams messages, as Twilio writes and checks them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from bridge.standins.audio import SAMPLE_RATE_HZ

# Messages that Twilio accepts from a server; a missing or an extra field causes warning 31951.
_KEYS: dict[str, tuple[str | None, set[str]]] = {
    "media": ("media", {"payload"}),
    "mark": ("mark", {"name"}),
    "clear": (None, set()),
}


class TwilioWarning(Exception):
    """Twilio would log a warning for this message; ``number`` is Twilio's."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"{number}: {text}")
        self.number = number


class FromServer(NamedTuple):
    """A message that Twilio accepts from a server."""

    event: str
    audio: bytes = b""
    payload: str = ""
    name: str = ""


def read_from_server(text: str, stream_sid: str) -> FromServer:
    """
    Read one message from the server as strictly as Twilio does.

    Raises:
        TwilioWarning: 31951 unless the message has exactly the documented fields and this streamSid.
    """
    try:
        message = json.loads(text)
    except ValueError as error:
        raise TwilioWarning(31951, f"not JSON: {text[:80]!r}") from error
    if not isinstance(message, dict):
        raise TwilioWarning(31951, f"not an object: {text[:80]!r}")
    event = message.get("event")
    if not isinstance(event, str) or event not in _KEYS:
        raise TwilioWarning(31951, f"unknown event {event!r}")
    inner_name, inner_keys = _KEYS[event]
    expected = {"event", "streamSid"} | ({inner_name} if inner_name else set())
    if message.keys() != expected:
        raise TwilioWarning(31951, f"{event} has the fields {sorted(message)}, not {sorted(expected)}")
    if message["streamSid"] != stream_sid:
        raise TwilioWarning(31951, f"{event} for the stream {message['streamSid']!r}, not {stream_sid!r}")
    inner = message[inner_name] if inner_name else {}
    if not isinstance(inner, dict) or inner.keys() != inner_keys:
        raise TwilioWarning(31951, f"{event} has {inner!r:.80} inside, not {sorted(inner_keys)}")
    if event == "mark":
        if not isinstance(inner["name"], str):
            raise TwilioWarning(31951, "the name of a mark is not a text")
        return FromServer(event, name=inner["name"])
    if event == "media":
        payload = inner["payload"]
        try:
            # Strings only: b64decode also accepts other types.
            if not isinstance(payload, str):
                raise ValueError("not a text")
            return FromServer(event, base64.b64decode(payload, validate=True), payload)
        except (ValueError, binascii.Error) as error:
            raise TwilioWarning(31951, f"the payload of media is not base64: {error}") from error
    return FromServer(event)


class ToServer:
    """
    Writes Twilio's messages of one stream and keeps their counters.

    Source: Twilio Media Streams, WebSocket messages: sequence numbers, chunks and timestamps are strings.
    """

    def __init__(self, *, account_sid: str, call_sid: str, stream_sid: str) -> None:
        self._account_sid = account_sid
        self._call_sid = call_sid
        self._stream_sid = stream_sid
        self._sequence_number = 0
        self._chunk = 0

    def connected(self) -> str:
        """Return the first message, which has no number and no streamSid."""
        return _text({"event": "connected", "protocol": "Call", "version": "1.0.0"})

    def start(self, parameters: Mapping[str, str], **changed: Any) -> str:
        """Return ``start``; ``changed`` replaces fields of its ``start`` object, for invalid messages."""
        start: dict[str, Any] = {
            "accountSid": self._account_sid,
            "streamSid": self._stream_sid,
            "callSid": self._call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": SAMPLE_RATE_HZ, "channels": 1},
            "customParameters": dict(parameters),
        }
        return self._numbered("start", start=start | changed)

    def media(self, audio: bytes, timestamp_ms: int) -> str:
        """Return ``media`` with audio of any length."""
        self._chunk += 1
        return self._numbered(
            "media",
            media={
                "track": "inbound",
                "chunk": str(self._chunk),
                "timestamp": str(timestamp_ms),
                "payload": base64.b64encode(audio).decode(),
            },
        )

    def dtmf(self, digit: str) -> str:
        """Return ``dtmf`` for one key."""
        return self._numbered("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    def mark(self, name: str) -> str:
        """Return the echo of a mark."""
        return self._numbered("mark", mark={"name": name})

    def stop(self) -> str:
        """Return ``stop``."""
        return self._numbered("stop", stop={"accountSid": self._account_sid, "callSid": self._call_sid})

    def _numbered(self, event: str, **body: Any) -> str:
        self._sequence_number += 1
        number = str(self._sequence_number)
        return _text({"event": event, "sequenceNumber": number, **body, "streamSid": self._stream_sid})


def _text(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))
