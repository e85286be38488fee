"""
OpenAI's GPT-Live over its WebSocket, mu-law both ways (``audio/pcmu``).

Source: the types of openai 3.57.0 (``types/live``) and the vendor's guides to GPT-Live. The model listens and speaks at
once: it stops by itself when the caller cuts in, so nothing is cleared or truncated. It streams audio in real time,
silence too, and applies what is appended only while audio comes in. Functions belong to a second model, to which the
first delegates work; its events come in ``response.event``.
"""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from pydantic import Field, SecretStr

from _codec import Envelope, SpanFinder, is_base64
from bridge.agents.agent import (
    Agent,
    AgentModule,
    AgentSettings,
    Audio,
    CallInfo,
    Control,
    Dialogue,
    Endpoint,
    Event,
    Failed,
    Ignored,
    NextNumber,
    Reply,
    Resources,
    StreamInfo,
    Transfer,
    Troubled,
    Used,
    Warned,
    no_session,
)
from bridge.agents.json_dialogue import JsonDialogue, name_at, parse, worded
from bridge.agents.quiet import Goodbye, is_quiet
from bridge.agents.realtime_errors import fatal_kind, is_warning, report_of, transient_kind
from bridge.agents.realtime_session import HANG_UP, TRANSFER
from bridge.agents.setting_types import Switch, TemplateText, WsUrl, template_texts
from bridge.agents.succession import FailureKind, Memory, Speaker
from bridge.agents.template import fill, names_in, of_call, required_in
from bridge.agents.tool_calls import ToolCalls
from bridge.agents.utterances import Utterances
from bridge.agents.words import CALLER_PRESSED, ENDS_SOON

FORMAT = {"type": "audio/pcmu", "rate": 8000}
RESPOND = b'{"type":"response.create"}'
CLOSE = b'{"type":"session.close"}'
# The vendor takes 500 tokens in one append. A token has at least one byte, whatever the language.
APPEND_BYTES = 500
# Likewise for what was said before a session: the vendor takes 8192 tokens, its own for each utterance included.
HISTORY_BYTES = 7000

# For the model that has the functions.
DELEGATE = "You control a phone call for a voice agent. Call a function only if the conversation asks for it."
# For the model that speaks.
ABOUT_HANG_UP = "Delegate to end the phone call once the conversation is over."
ABOUT_TRANSFER = "Delegate to transfer the caller to another phone number."
GREET = (
    "The call has just been answered. Greet the caller now, without waiting for them to speak, then listen."
)
GO_ON = "The connection was lost for a moment. The caller waits: go on with the conversation now, without a greeting."

# Reasons of a session's end that nobody here asked for, and what they mean; None: the conversation is over.
CLOSED: dict[str, FailureKind | None] = {
    "close_requested": None,
    "remote_hangup": None,
    "expired": FailureKind.SESSION_LIMIT,
    "content": FailureKind.LOST,
    "connection_lost": FailureKind.LOST,
}


class OpenAiLiveSettings(AgentSettings):
    """Settings of this agent."""

    openai_api_key: SecretStr = Field(description="from OpenAI's dashboard")
    openai_live_url: WsUrl = Field(
        "wss://api.openai.com/v1/live/sessions", description="the address of the GPT-Live API"
    )
    openai_live_model: str = Field("gpt-live-1.1", description="the model that speaks")
    openai_live_delegation_model: str = Field(
        "gpt-6-luna", description="the model that it delegates work to, which has the functions"
    )
    openai_live_voice: str = Field("", description="the model's voice; OpenAI's default without one")
    openai_live_instructions: TemplateText = Field(
        "", description="what the model is asked to do in the call, with placeholders"
    )
    openai_live_greets: Switch = Field(True, description="1: the model speaks first")
    openai_live_tools: Switch = Field(
        True, description="1: the model may end the call, and transfer it within BRIDGE_TRANSFER_TO"
    )
    openai_live_keys: Switch = Field(False, description="1: the model learns which keys the caller presses")


class OpenAiLiveDialogue(JsonDialogue):
    """
    One session.

    Args:
        instructions: Those of the call, filled in.
        may_transfer: Whether the function is offered.
        clock: The time of day, in which the vendor states a session's end.
    """

    to_agent = Envelope(b'{"type":"session.input_audio.append","audio":"', b'"}')
    waits_for_ready = True
    gathers_keys = True
    silence_fill_ms = 100
    _plain_audio = SpanFinder("delta", {"type": "session.output_audio.delta"})

    def __init__(
        self,
        settings: OpenAiLiveSettings,
        instructions: str,
        memory: Memory | None = None,
        *,
        may_transfer: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.audio = self._plain_audio
        # Whether the agent spoke last: nothing tells whether it has finished.
        self.is_speaking = False
        # The wait for the vendor's last message; 0 once the session is closed.
        self.closed_s = 5.0
        self._settings = settings
        self._instructions = instructions
        self._memory = memory
        self._may_transfer = may_transfer
        self._clock = clock
        self._is_ready = False
        self._is_closing = False
        self._utterances = Utterances()
        self._tool_calls = ToolCalls(_result)
        # Whether the second model must be asked to go on with the results of its calls.
        self._owes_response = False
        # Either is there between `Control.INSPECT_AUDIO` and `Control.RELAY_AUDIO`: after a request to hang up or
        # transfer, and after an error until the next word.
        self._goodbye: Goodbye | None = None
        self._is_troubled = False

    def opening(self) -> Iterable[bytes]:
        settings = self._settings
        audio: dict[str, Any] = {"format": FORMAT}
        if settings.openai_live_voice:
            audio["output"] = {"voice": settings.openai_live_voice}
        responses: dict[str, Any] = {"model": settings.openai_live_delegation_model}
        if settings.openai_live_tools:
            responses["instructions"] = DELEGATE
            responses["tools"] = [HANG_UP, TRANSFER] if self._may_transfer else [HANG_UP]
        session: dict[str, Any] = {
            "model": settings.openai_live_model,
            "audio": audio,
            "delegation": {"type": "responses", "responses": responses},
        }
        if self._instructions:
            session["instructions"] = self._instructions
        if self._memory is not None and self._memory.said:
            session["input"] = _history(self._memory)
        return (orjson.dumps({"type": "session.start", "session": session}),)

    def read_fields(self, fields: Any) -> Iterable[Event]:
        match fields:
            case {"type": "session.output_audio.delta", "delta": str(delta)}:
                return self._audio_of(delta)
            case {
                "type": "session.input_transcript.delta" | "session.output_transcript.delta" as kind,
                "delta": str(text),
                "start_ms": int(start_ms),
                "end_ms": int(end_ms),
            }:
                speaker = Speaker.CALLER if kind == "session.input_transcript.delta" else Speaker.AGENT
                self.is_speaking = speaker is Speaker.AGENT
                return self._utterances.add(speaker, text, start_ms, end_ms)
            case {"type": "response.event", "event": dict(event)}:
                return self._on_response(event)
            case {"type": "session.usage.updated", "usage": {"seconds": int() | float() as seconds}}:
                return (Used(seconds),)
            case {"type": "session.started"} if not self._is_ready:
                return self._begin(fields.get("session"))
            case {"type": "session.closed"}:
                return self._end(fields)
            case {"type": "error", "error": dict(error)}:
                return self._on_error(error)
            case {"type": str()}:
                return ()
        return (Ignored("unknown_type"),)

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        if not self._settings.openai_live_keys:
            return ()
        return (_append("thinking", CALLER_PRESSED.format(" ".join(digit))),)

    def on_limit_near(self, left_s: float) -> Iterable[bytes]:
        return (_append("instructions", ENDS_SOON.format(left_s)),)

    def closing(self) -> Iterable[bytes]:
        if self._is_closing or not self.closed_s:
            return ()
        self._is_closing = True
        return (CLOSE,)

    def _begin(self, session: Any) -> Iterable[Event]:
        match session:
            case {"audio": {"format": dict(confirmed)}} if {**FORMAT, **confirmed} != FORMAT:
                detail = worded(f"the session's audio is {confirmed}")
                return (Reply(CLOSE), Failed(detail, FailureKind.REFUSED))
            case {"expires_at": int(expires_at)} if expires_at > (now := self._clock()):
                self.session_limit_s = expires_at - now
        self.session_id = name_at(session, "id")
        self._is_ready = True
        settings, memory = self._settings, self._memory
        texts = []
        if settings.openai_live_tools:
            texts.append(f"{ABOUT_HANG_UP} {ABOUT_TRANSFER}" if self._may_transfer else ABOUT_HANG_UP)
        if memory is None and settings.openai_live_greets:
            texts.append(GREET)
        elif memory is not None and memory.is_awaited:
            texts.append(GO_ON)
        return (Control.READY, *(Reply(_append("instructions", text)) for text in texts))

    def _end(self, fields: Mapping[str, Any]) -> Iterable[Event]:
        self.closed_s = 0.0
        events: list[Event] = []
        match fields:
            case {"usage": {"seconds": int() | float() as seconds}}:
                events.append(Used(seconds))
        if self._is_closing:
            return (*events, Control.CLOSED)
        reason = fields.get("reason")
        kind = CLOSED.get(reason, FailureKind.LOST) if isinstance(reason, str) else FailureKind.LOST
        if kind is None:
            return (*events, Control.ENDED)
        return (*events, *self._utterances.end(), Failed(worded(f"session closed: {reason}"), kind))

    def _on_error(self, error: Mapping[str, Any]) -> Iterable[Event]:
        detail, kind = report_of(error), fatal_kind(error)
        transient = transient_kind(error)
        if kind is None and not self._is_ready:
            kind = transient or FailureKind.REFUSED
        if kind is not None:
            return (*self._utterances.end(), Failed(detail, kind))
        if self._goodbye is not None or (transient is None and is_warning(error, "")):
            # An agent that says goodbye has nothing else to do.
            return (Warned(detail),)
        self._is_troubled = True
        return (Troubled(detail, transient or FailureKind.SERVER), Control.INSPECT_AUDIO)

    # The second model and its functions

    def _on_response(self, event: Mapping[str, Any]) -> Iterable[Event]:
        match event:
            # A call comes in three events; only this one is the whole of it.
            case {"type": "response.output_item.done", "item": {"type": "function_call"} as item}:
                return self._call_function(item)
            case {"type": "response.completed" | "response.incomplete"} if self._owes_response:
                # All calls of the response have their results by now; without one of them, this is refused.
                self._owes_response = False
                return (Reply(RESPOND),)
            case {"type": "response.failed", "response": {"error": dict(error)}}:
                return (Warned(f"delegated work failed: {report_of(error)}"),)
        return ()

    def _call_function(self, item: Mapping[str, Any]) -> Iterable[Event]:
        arguments = parse(item.get("arguments") or "{}")
        events = list(self._tool_calls.decide(item.get("call_id"), item.get("name"), arguments))
        self._owes_response |= any(isinstance(event, Reply | Transfer) for event in events)
        if any(event is Control.HANG_UP or isinstance(event, Transfer) for event in events):
            self._goodbye = Goodbye()
            events.append(Control.INSPECT_AUDIO)
        return events

    def _audio_of(self, delta: str) -> Iterable[Event]:
        if not self._is_ready:
            return (Ignored("audio_before_its_format"),)
        audio = Audio(delta.encode())
        if (self._goodbye is None and not self._is_troubled) or not is_base64(audio.payload):
            return (audio,)
        mulaw = b64decode(audio.payload)
        if self._goodbye is not None:
            if not self._goodbye.is_over(mulaw):
                return (audio,)
            self._goodbye = None
            return (audio, Control.SPEECH_ENDED, Control.RELAY_AUDIO)
        if is_quiet(mulaw):
            # It would count as speech after the error.
            return ()
        self._is_troubled = False
        return (audio, Control.RELAY_AUDIO)


def _append(kind: str, text: str) -> bytes:
    """Return the message that adds a text to the session, cut to the vendor's bound."""
    content = text.encode()[:APPEND_BYTES].decode(errors="ignore")
    return orjson.dumps({"type": f"session.{kind}.append", "delegation_id": None, "content": content})


def _history(memory: Memory) -> list[dict[str, Any]]:
    """Return what was said, as messages of a session's start; the newest as far as the vendor takes them."""
    items: list[dict[str, Any]] = []
    left_bytes = HISTORY_BYTES
    for said in reversed(memory.said):
        left_bytes -= len(said.text.encode())
        if left_bytes < 0:
            break
        role, kind = ("assistant", "output_text") if said.speaker is Speaker.AGENT else ("user", "input_text")
        items.append({"type": "message", "role": role, "content": [{"type": kind, "text": said.text}]})
    return items[::-1]


def _result(call_id: str, name: str, result: str, is_error: bool) -> bytes:
    """Return the result of a function call."""
    output = orjson.dumps({"error" if is_error else "result": result}).decode()
    item = {"type": "function_call_output", "call_id": call_id, "output": output}
    return orjson.dumps({"type": "response.item.create", "item": item})


def _describe(settings: OpenAiLiveSettings, resources: Resources) -> Agent:
    texts = template_texts(settings)

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        key = settings.openai_api_key.get_secret_value()
        return Endpoint(settings.openai_live_url, {"Authorization": f"Bearer {key}"})

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        values = {**resources.values, **stream.call.placeholders}
        instructions = fill(settings.openai_live_instructions, values)
        return OpenAiLiveDialogue(settings, instructions, stream.memory, may_transfer=resources.may_transfer)

    return Agent(
        open_session=no_session,
        endpoint=endpoint,
        dialogue=dialogue,
        names=of_call(names_in(texts)),
        required=of_call(required_in(texts)),
    )


AGENT = AgentModule(OpenAiLiveSettings, _describe)
