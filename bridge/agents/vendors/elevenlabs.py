"""
ElevenLabs' conversational agents over their WebSocket.

Source: the types of elevenlabs 2.78.0, the AsyncAPI schema in the vendor's ``packages``, and its twilio-custom-server
guide. The agent's own settings name its formats: ``ulaw_8000`` needs no transcoding, ``pcm_8000``, ``pcm_16000`` and
``pcm_24000`` are transcoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import orjson
import structlog
from pydantic import AfterValidator, Field, SecretStr

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
    Warned,
)
from bridge.agents.json_dialogue import JsonDialogue, name_at, worded
from bridge.agents.json_settings import JsonObject, JsonObjectFile, filled, unfilled
from bridge.agents.session_request import ask
from bridge.agents.setting_types import HttpUrl, WsUrl
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.template import names_in, of_call, required_in
from bridge.agents.tool_calls import ToolCalls
from bridge.agents.words import CALLER_PRESSED, ENDS_SOON, GOES_ON, I_PRESSED

log = structlog.get_logger()

SOCKET_PATH = "/v1/convai/conversation"
# By the scheme of the API that gives it: a credential for an encrypted API is not sent in the clear.
SIGNED_URLS = {
    "https": re.compile(r"wss://[\x21-\x7e]{1,2048}"),
    "http": re.compile(r"wss?://[\x21-\x7e]{1,2048}"),
}
FORMATS = {
    "ulaw_8000": MULAW_8K,
    "pcm_8000": AudioFormat("pcm16", 8000),
    "pcm_16000": AudioFormat("pcm16", 16000),
    "pcm_24000": AudioFormat("pcm16", 24000),
}
CLIENT_DATA = "conversation_initiation_client_data"

# An ``error`` is sent as the conversation ends; the types that say more than that the vendor has a fault.
ERRORS = {
    "invalid_message": FailureKind.REFUSED,
    "telephony_agent_error": FailureKind.REFUSED,
    "mcp_tool_error": FailureKind.REFUSED,
    "mcp_https_error": FailureKind.REFUSED,
    "value_error": FailureKind.REFUSED,
    "missing_fields": FailureKind.REFUSED,
    "override_error": FailureKind.REFUSED,
    "missing_dynamic_variable_transfer": FailureKind.REFUSED,
    "missing_dynamic_variable": FailureKind.REFUSED,
    "max_duration_exceeded": FailureKind.SESSION_LIMIT,
}
# Codes of an ``error`` and of a close. 1002 is a fault of the vendor's parts, 1008 an input that it does not take.
# 3000 is in no document; others report it for a wrong key or agent.
CODES = {
    1002: FailureKind.SERVER,
    1008: FailureKind.REFUSED,
    1011: FailureKind.SERVER,
    3000: FailureKind.CREDENTIALS,
}
# Credit that is used up has no code of its own.
QUOTA = "quota"


def _are_variables(template: str) -> str:
    _check_variables(unfilled(template))
    return template


def _is_initiation(template: str) -> str:
    data = unfilled(template)
    if data.get("type", CLIENT_DATA) != CLIENT_DATA:
        raise ValueError(f"must have no other type than {CLIENT_DATA}")
    for name in ("dynamic_variables", "conversation_config_override"):
        if not isinstance(data.get(name, {}), dict):
            raise ValueError(f"{name} must be a JSON object")
    _check_variables(data.get("dynamic_variables", {}))
    return template


def _check_variables(variables: Mapping[str, Any]) -> None:
    for name, value in variables.items():
        if not isinstance(value, str | int | float | bool):
            raise ValueError(f"the dynamic variable {name} must be a text, a number, true or false")


class ElevenLabsSettings(AgentSettings):
    """Settings of this agent."""

    elevenlabs_api_key: SecretStr = Field(
        SecretStr(""), description="from ElevenLabs' dashboard; only a public agent answers without one"
    )
    elevenlabs_agent_id: str = Field(description="the agent that answers, from ElevenLabs' dashboard")
    elevenlabs_api_url: HttpUrl = Field(
        "https://api.elevenlabs.io",
        description="the REST API, which gives the socket's signed URL for the key",
    )
    elevenlabs_ws_url: WsUrl = Field(
        "",
        description="the socket of public agents, used without a key only; by default on the host of "
        "ELEVENLABS_API_URL",
    )
    elevenlabs_dynamic_variables: Annotated[JsonObject, AfterValidator(_are_variables)] = Field(
        "",
        description='the agent\'s dynamic variables, a JSON object with placeholders: {"caller": "{from}"}',
    )
    elevenlabs_initiation_file: Annotated[JsonObjectFile, AfterValidator(_is_initiation)] = Field(
        "",
        description="a JSON file with more of ElevenLabs' conversation_initiation_client_data, such as "
        "conversation_config_override and user_id; its texts may have placeholders",
    )
    elevenlabs_keys: Literal["", "user_message", "contextual_update"] = Field(
        "",
        description="how keys that the caller presses reach the agent: as the caller's words, which it answers, or as "
        "background; without it not at all",
    )


class ElevenLabsDialogue(JsonDialogue):
    """
    Audio carries an ``event_id``; audio up to the one of an interruption belongs to the interrupted turn.

    Args:
        memory: What was said before, if the agent takes the call over.
        initiation: What the agent learns of the call at the beginning.
        keys: The type of the message that has the caller's keys; "" for none.
    """

    to_agent = Envelope(b'{"user_audio_chunk":"', b'"}')
    audio = SpanFinder("audio_event.audio_base_64", {"type": "audio"})
    waits_for_ready = True

    def __init__(
        self, memory: Memory | None = None, initiation: Mapping[str, Any] | None = None, keys: str = ""
    ) -> None:
        self._memory = memory
        self._initiation = initiation or {}
        self._keys = keys
        self.gathers_keys = bool(keys)
        self._tool_calls = ToolCalls(_result)
        # Whether the formats are known.
        self._is_ready = False
        self._interrupted_up_to = -1

    def opening(self) -> Iterable[bytes]:
        begin = orjson.dumps({**self._initiation, "type": CLIENT_DATA})
        if self._memory is None or not self._memory.said:
            return (begin,)
        # Its first message is the agent's own: only an agent whose settings allow that leaves it out.
        return (begin, _update(GOES_ON + self._memory.as_text()))

    def read_fields(self, fields: Any) -> Iterable[Event]:
        match fields:
            case {"type": "audio", "audio_event": {"audio_base_64": str(audio), "event_id": event_id}}:
                return self._audio_of(audio, _number(event_id))
            case {"type": "interruption", "interruption_event": {"event_id": event_id}}:
                number = _number(event_id)
                if number is None:
                    return (Control.INTERRUPT,)
                self._interrupted_up_to = max(self._interrupted_up_to, number)
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
            case {"type": "ping", "ping_event": {"event_id": int() | str() as event_id}}:
                return (Reply(orjson.dumps({"type": "pong", "event_id": event_id})),)
            case {
                "type": "conversation_initiation_metadata",
                "conversation_initiation_metadata_event": dict(event),
            } if not self._is_ready:
                return (self._begin(event),)
            case {"type": "client_tool_call", "client_tool_call": dict(call)}:
                return self._tool_calls.decide(
                    call.get("tool_call_id"), call.get("tool_name"), call.get("parameters")
                )
            case {"type": "error"}:
                return (_failed(fields),)
            case {"type": "guardrail_triggered"}:
                return (Warned("guardrail_triggered"),)
            case {"type": str()}:
                return ()
        return (Ignored("unknown_type"),)

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        if not self._keys:
            return ()
        text = (I_PRESSED if self._keys == "user_message" else CALLER_PRESSED).format(digit)
        return (orjson.dumps({"type": self._keys, "text": text}),)

    def on_limit_near(self, left_s: float) -> Iterable[bytes]:
        return (_update(ENDS_SOON.format(left_s)),)

    def on_close(self, code: int | None, reason: str = "") -> FailureKind:
        if QUOTA in reason.lower():
            return FailureKind.QUOTA
        return FailureKind.LOST if code is None else CODES.get(code, FailureKind.LOST)

    def _begin(self, event: Mapping[str, Any]) -> Event:
        named = event.get("user_input_audio_format", "pcm_16000"), event.get("agent_output_audio_format")
        if not all(isinstance(name, str) and name in FORMATS for name in named):
            detail = f"its audio formats are {named}: set the agent to ulaw_8000"
            return Failed(worded(detail), FailureKind.REFUSED)
        self.to_agent_format, self.from_agent_format = (FORMATS[str(name)] for name in named)
        self.session_id = name_at(event, "conversation_id")
        self._is_ready = True
        return Control.READY

    def _audio_of(self, audio: str, event_id: int | None) -> Iterable[Event]:
        if not self._is_ready:
            return (Ignored("audio_before_its_format"),)
        if event_id is None:
            return (Ignored("missing_field"),)
        if event_id <= self._interrupted_up_to:
            return (Ignored("void_audio"),)
        return (Audio(audio.encode(), self.from_agent_format), Control.RELAY_AUDIO)


def _number(event_id: Any) -> int | None:
    """The number of an event, which may come as a text."""
    if isinstance(event_id, int):
        return event_id
    return int(event_id) if isinstance(event_id, str) and re.fullmatch(r"[0-9]{1,18}", event_id) else None


def _failed(fields: Mapping[str, Any]) -> Event:
    """Say what an error means, which has its parts in an object of their own or, for credit, beside its type."""
    event = fields.get("error_event")
    error = event if isinstance(event, dict) else fields
    name, code = error.get("error_type"), error.get("code")
    words = " ".join(str(error[part]) for part in ("message", "reason") if error.get(part))
    kind = ERRORS.get(name) if isinstance(name, str) else None
    if kind is None:
        kind = CODES.get(code, FailureKind.SERVER) if isinstance(code, int) else FailureKind.SERVER
    if QUOTA in words.lower():
        kind = FailureKind.QUOTA
    return Failed(worded(" ".join(["error", *(str(part) for part in (code, name) if part), words])), kind)


def _update(text: str) -> bytes:
    return orjson.dumps({"type": "contextual_update", "text": text})


def _result(call_id: str, name: str, result: str, is_error: bool) -> bytes:
    return orjson.dumps(
        {"type": "client_tool_result", "tool_call_id": call_id, "result": result, "is_error": is_error}
    )


def _describe(settings: ElevenLabsSettings, resources: Resources) -> Agent:
    key = settings.elevenlabs_api_key.get_secret_value()
    query = f"agent_id={quote(settings.elevenlabs_agent_id, safe='')}"
    api_url = settings.elevenlabs_api_url
    texts = [settings.elevenlabs_dynamic_variables, settings.elevenlabs_initiation_file]
    own_socket = settings.elevenlabs_ws_url
    if key and own_socket and urlsplit(own_socket).netloc != urlsplit(api_url).netloc:
        log.warning(
            "setting ignored",
            detail="ELEVENLABS_WS_URL: with ELEVENLABS_API_KEY the socket's address comes from ELEVENLABS_API_URL",
        )

    async def open_session(call: CallInfo) -> dict[str, str]:
        if not key:
            return {}
        # The signed URL is the credential of one conversation; the key stays out of the socket.
        return await ask(
            resources,
            "GET",
            f"{api_url}{SOCKET_PATH}/get-signed-url?{query}",
            {"xi-api-key": key},
            fields={"signed_url": SIGNED_URLS[api_url.partition(":")[0]]},
        )

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        socket = own_socket or f"ws{api_url.removeprefix('http')}{SOCKET_PATH}"
        return Endpoint(session.get("signed_url") or f"{socket}?{query}", {})

    def initiation(call: CallInfo) -> dict[str, Any]:
        variables: dict[str, Any]
        data: dict[str, Any]
        variables, data = (filled(text, resources, call) for text in texts)
        if variables:
            data["dynamic_variables"] = {**data.get("dynamic_variables", {}), **variables}
        return data

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        return ElevenLabsDialogue(stream.memory, initiation(stream.call), settings.elevenlabs_keys)

    return Agent(
        open_session=open_session,
        endpoint=endpoint,
        dialogue=dialogue,
        names=of_call(names_in(texts)),
        required=of_call(required_in(texts)),
    )


AGENT = AgentModule(ElevenLabsSettings, _describe)
