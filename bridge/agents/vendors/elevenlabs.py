"""
ElevenLabs' conversational agents over their WebSocket.

Source: the types of elevenlabs 2.78.0 and the vendor's twilio-custom-server guide. The agent's own settings name
its formats: ``ulaw_8000`` needs no transcoding, ``pcm_8000``, ``pcm_16000`` and ``pcm_24000`` are transcoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import Field, SecretStr

from _codec import Envelope, SpanFinder
from bridge.agents.agent import (
    MULAW_8K,
    Agent,
    AgentModule,
    AgentSettings,
    Audio,
    AudioFormat,
    CallInfo,
    Control,
    Corrected,
    Dialogue,
    Endpoint,
    Event,
    Failed,
    Ignored,
    NextNumber,
    Reply,
    Resources,
    StreamInfo,
)
from bridge.agents.json_dialogue import JsonDialogue, on_tool_call
from bridge.agents.session_request import ask
from bridge.agents.setting_types import HttpUrl, WsUrl
from bridge.agents.succession import Memory, Said, Speaker

SIGNED_URL = re.compile(r"wss?://[\x21-\x7e]{1,2048}")
GOES_ON = "This phone call goes on after an interruption. Do not greet again. What was said so far:\n"
FORMATS = {
    "ulaw_8000": MULAW_8K,
    "pcm_8000": AudioFormat("pcm16", 8000),
    "pcm_16000": AudioFormat("pcm16", 16000),
    "pcm_24000": AudioFormat("pcm16", 24000),
}


class ElevenLabsSettings(AgentSettings):
    """Settings of this agent."""

    elevenlabs_api_key: SecretStr = Field(
        SecretStr(""), description="from ElevenLabs' dashboard; only a public agent answers without one"
    )
    elevenlabs_agent_id: str = Field(description="the agent that answers, from ElevenLabs' dashboard")
    elevenlabs_ws_url: WsUrl = Field(
        "wss://api.elevenlabs.io/v1/convai/conversation", description="the socket of public agents"
    )
    elevenlabs_api_url: HttpUrl = Field(
        "https://api.elevenlabs.io",
        description="the REST API, which gives the socket's signed URL for the key",
    )


class ElevenLabsDialogue(JsonDialogue):
    """Audio carries an ``event_id``; audio up to the one of an interruption belongs to the interrupted turn."""

    to_agent = Envelope(b'{"user_audio_chunk":"', b'"}')
    audio = SpanFinder("audio_event.audio_base_64", {"type": "audio"})
    waits_for_ready = True

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory
        self._interrupted_up_to = -1

    def opening(self) -> Iterable[bytes]:
        begin = b'{"type":"conversation_initiation_client_data"}'
        if self._memory is None or not self._memory.said:
            return (begin,)
        # Its first message is the agent's own: only an agent whose settings allow that leaves it out.
        text = GOES_ON + self._memory.as_text()
        return (begin, orjson.dumps({"type": "contextual_update", "text": text}))

    def read_fields(self, fields: Any) -> Iterable[Event]:
        match fields:
            case {"type": "audio", "audio_event": {"audio_base_64": str(audio), "event_id": int(event_id)}}:
                return self._audio_of(audio, event_id)
            case {"type": "interruption", "interruption_event": {"event_id": int(event_id)}}:
                self._interrupted_up_to = max(self._interrupted_up_to, event_id)
                return (Control.INTERRUPT, Control.INSPECT_AUDIO)
            case {"type": "agent_response", "agent_response_event": {"agent_response": str(text)}}:
                return (Said(Speaker.AGENT, text.strip()),)
            case {
                "type": "agent_response_correction",
                "agent_response_correction_event": {"corrected_agent_response": str(text)},
            }:
                return (Corrected(text.strip()),)
            case {"type": "user_transcript", "user_transcription_event": {"user_transcript": str(text)}}:
                return (Said(Speaker.CALLER, text.strip()),)
            case {"type": "ping", "ping_event": {"event_id": int(event_id)}}:
                return (Reply(orjson.dumps({"type": "pong", "event_id": event_id})),)
            case {
                "type": "conversation_initiation_metadata",
                "conversation_initiation_metadata_event": dict(event),
            }:
                return (self._begin(event),)
            case {"type": "client_tool_call", "client_tool_call": dict(call)}:
                return self._call_tool(call)
            case {"type": str()}:
                return ()
        return (Ignored("unknown_type"),)

    def _begin(self, event: Mapping[str, Any]) -> Event:
        named = event.get("user_input_audio_format", "pcm_16000"), event.get("agent_output_audio_format")
        if not all(isinstance(name, str) and name in FORMATS for name in named):
            return Failed(f"its audio formats are {named}: set the agent to ulaw_8000"[:200])
        self.to_agent_format, self.from_agent_format = (FORMATS[str(name)] for name in named)
        return Control.READY

    def _audio_of(self, audio: str, event_id: int) -> Iterable[Event]:
        if event_id <= self._interrupted_up_to:
            return (Ignored("void_audio"),)
        return (Audio(audio.encode(), self.from_agent_format), Control.RELAY_AUDIO)

    def _call_tool(self, call: Mapping[str, Any]) -> Iterable[Event]:
        # A tool without parameters may come without this key.
        parameters = call.get("parameters")
        arguments = parameters if isinstance(parameters, dict) else {}
        return on_tool_call(call.get("tool_name"), arguments, lambda why: _refusal(call, why))


def _refusal(call: Mapping[str, Any], why: str) -> tuple[bytes, ...]:
    call_id = call.get("tool_call_id")
    if not isinstance(call_id, str):
        return ()
    result = {"type": "client_tool_result", "tool_call_id": call_id, "result": why, "is_error": True}
    return (orjson.dumps(result),)


def _describe(settings: ElevenLabsSettings, resources: Resources) -> Agent:
    key = settings.elevenlabs_api_key.get_secret_value()
    query = f"agent_id={quote(settings.elevenlabs_agent_id, safe='')}"

    async def open_session(call: CallInfo) -> dict[str, str]:
        if not key:
            return {}
        # The signed URL is the credential of one conversation; the key stays out of the socket.
        return await ask(
            resources,
            "GET",
            f"{settings.elevenlabs_api_url}/v1/convai/conversation/get-signed-url?{query}",
            {"xi-api-key": key},
            fields={"signed_url": SIGNED_URL},
        )

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        return Endpoint(session.get("signed_url") or f"{settings.elevenlabs_ws_url}?{query}", {})

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        return ElevenLabsDialogue(stream.memory)

    return Agent(open_session=open_session, endpoint=endpoint, dialogue=dialogue)


AGENT = AgentModule(ElevenLabsSettings, _describe)
