"""
Retell's documented audio socket in its ``twilio`` form: Twilio's own messages.

Retell announced its end for 2025-01-01; compatible servers and the stand-in speak it. The call's id is the
credential of its socket. Source: retell-sdk's text, which points to Twilio's message reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from _codec import Envelope, SpanFinder
from bridge.agents.agent import (
    Agent,
    AgentModule,
    Audio,
    CallInfo,
    Control,
    Event,
    Ignored,
    Mark,
    NextNumber,
    Resources,
    StreamInfo,
)
from bridge.agents.json_dialogue import JsonDialogue
from bridge.agents.vendors.retell import RetellSocketSettings
from bridge.agents.vendors.retell_web import register, socket_of


class RetellTwilioSettings(RetellSocketSettings):
    """Settings of this agent."""


class TwilioDialogue(JsonDialogue):
    """
    Sends the messages that Twilio sends, with its own numbers.

    ``start`` has none of the stream's parameters, because they hold the bridge's token.
    """

    numbered = (b'","media":{"track":"inbound","chunk":"', b'","timestamp":"', b'","payload":"')
    audio = SpanFinder("media.payload", {"event": "media"})

    def __init__(self, stream: StreamInfo, next_number: NextNumber) -> None:
        self._stream = stream
        self._next_number = next_number
        self.to_agent = Envelope(
            b'{"event":"media","sequenceNumber":"',
            b'"},"streamSid":' + orjson.dumps(stream.stream_sid) + b"}",
        )

    def opening(self) -> Iterable[bytes]:
        stream = self._stream
        start = {
            "accountSid": stream.account_sid,
            "callSid": stream.call.call_sid,
            "streamSid": stream.stream_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {},
        }
        return (
            orjson.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
            self._message("start", start),
        )

    def read_fields(self, fields: Any) -> Iterable[Event]:
        match fields:
            case {"event": "media", "media": {"payload": str(payload)}}:
                return (Audio(payload.encode()),)
            case {"event": "clear"}:
                return (Control.INTERRUPT,)
            case {"event": "mark", "mark": {"name": str(name)}}:
                return (Mark(name),)
        return (Ignored("unknown_type"),)

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        return (self._message("dtmf", {"track": "inbound_track", "digit": digit}),)

    def on_played(self, name: str) -> Iterable[bytes]:
        return (self._message("mark", {"name": name}),)

    def closing(self) -> Iterable[bytes]:
        stream = self._stream
        return (self._message("stop", {"accountSid": stream.account_sid, "callSid": stream.call.call_sid}),)

    def _message(self, event: str, body: Mapping[str, object]) -> bytes:
        return orjson.dumps(
            {
                "event": event,
                "sequenceNumber": str(self._next_number()),
                event: body,
                "streamSid": self._stream.stream_sid,
            }
        )


def _describe(settings: RetellTwilioSettings, resources: Resources) -> Agent:

    async def open_session(call: CallInfo) -> dict[str, str]:
        return await register(settings, resources, call, "twilio", "mulaw", 8000)

    return Agent(
        open_session=open_session,
        endpoint=lambda session, call: socket_of(settings, session),
        dialogue=TwilioDialogue,
        session_key="call_id",
        names=settings.names,
        required=settings.required,
    )


AGENT = AgentModule(RetellTwilioSettings, _describe)
