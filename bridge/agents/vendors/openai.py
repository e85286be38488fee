"""
OpenAI's Realtime API over its WebSocket, mu-law both ways (``audio/pcmu``).

Source: the types of openai 3.54.0, and the vendor's API reference for Realtime. A turn is an item. If the caller
interrupts it, ``conversation.item.truncate`` tells the model how much of it the caller heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson
from pydantic import Field, SecretStr

from _codec import Envelope, SpanFinder
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
    Turn,
    no_session,
)
from bridge.agents.json_dialogue import JsonDialogue, on_tool_call, parse
from bridge.agents.setting_types import Switch, WsUrl
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.turns import HeardTurn

# Items of which something may be unheard.
MOST_ITEMS = 64
# Behind what the model said until the caller cut in.
CUT = "…"
# Asks the model to speak.
RESPOND = b'{"type":"response.create"}'

# Functions that the model may call if OPENAI_REALTIME_TOOLS is 1.
TOOLS = [
    {
        "type": "function",
        "name": "hang_up",
        "description": "End the phone call, after what has been said was heard.",
        "parameters": {"type": "object", "properties": {}},
    },
    {
        "type": "function",
        "name": "transfer_call",
        "description": "Connect the caller to another phone number and leave the call.",
        "parameters": {
            "type": "object",
            "properties": {"to_number": {"type": "string", "description": "E.164, e.g. +14155550100"}},
            "required": ["to_number"],
        },
    },
]

# An error's code, or its type, that ends the session; the others leave it open.
FAILURES = {
    "insufficient_quota": FailureKind.QUOTA,
    "billing_hard_limit_reached": FailureKind.QUOTA,
    "billing_not_active": FailureKind.QUOTA,
    "invalid_api_key": FailureKind.CREDENTIALS,
    "account_deactivated": FailureKind.CREDENTIALS,
    "authentication_error": FailureKind.CREDENTIALS,
    "session_expired": FailureKind.SESSION_LIMIT,
}
# The code of the close at a session's limit of 60 minutes.
GOING_AWAY = 1001


class OpenAiSettings(AgentSettings):
    """Settings of this agent."""

    openai_api_key: SecretStr = Field(description="from OpenAI's dashboard")
    openai_realtime_url: WsUrl = Field(
        "wss://api.openai.com/v1/realtime", description="the address of the Realtime API"
    )
    openai_realtime_model: str = Field("gpt-realtime", description="the model that answers")
    openai_realtime_voice: str = Field("", description="the model's voice; OpenAI's default without one")
    openai_realtime_instructions: str = Field("", description="what the model is asked to do in the call")
    openai_realtime_greets: Switch = Field(False, description="1: the model speaks first")
    openai_realtime_tools: Switch = Field(
        False, description="1: the model may end the call, and transfer it within BRIDGE_TRANSFER_TO"
    )


class OpenAiDialogue(JsonDialogue):
    """The items of one session. Audio of an interrupted item is ignored, including audio that was on its way."""

    to_agent = Envelope(b'{"type":"input_audio_buffer.append","audio":"', b'"}')
    waits_for_ready = True
    tracks_heard = True
    _plain_audio = SpanFinder("delta", {"type": "response.output_audio.delta"})

    def __init__(self, settings: OpenAiSettings, memory: Memory | None = None) -> None:
        self.audio = self._plain_audio
        self._settings = settings
        self._memory = memory
        self._is_ready = False
        self._item_id = ""
        # Items of audio since the last interrupt, the oldest first, with the place of the audio in each.
        self._items: dict[str, int] = {}
        # Those of them whose audio has all come.
        self._complete: set[str] = set()
        self._interrupted_item_id = ""
        self.is_speaking = False
        # Whether the response before this one failed.
        self._has_failed = False

    def opening(self) -> Iterable[bytes]:
        settings = self._settings
        audio: dict[str, Any] = {
            "input": {"format": {"type": "audio/pcmu"}},
            "output": {"format": {"type": "audio/pcmu"}},
        }
        if settings.openai_realtime_voice:
            audio["output"]["voice"] = settings.openai_realtime_voice
        session: dict[str, Any] = {"type": "realtime", "output_modalities": ["audio"], "audio": audio}
        if settings.openai_realtime_instructions:
            session["instructions"] = settings.openai_realtime_instructions
        if settings.openai_realtime_tools:
            session["tools"] = TOOLS
        said = self._memory.said if self._memory is not None else ()
        return (orjson.dumps({"type": "session.update", "session": session}), *map(_item_of, said))

    def read_fields(self, fields: Any) -> Iterable[Event]:
        match fields:
            case {"type": "response.output_audio.delta", "delta": str(delta)}:
                return self._audio_of(fields, delta)
            case {"type": "response.content_part.added", "part": {"type": "audio"}}:
                return self._begin_item(fields)
            case {"type": "response.output_audio.done", "item_id": str(item_id)} if item_id in self._items:
                self._complete.add(item_id)
                return ()
            case {"type": "response.output_audio_transcript.done", "transcript": str(transcript)}:
                return self._said(fields, transcript)
            case {"type": "input_audio_buffer.committed"}:
                # The caller has spoken. The words follow if input transcription is on.
                return (Said(Speaker.CALLER, ""),)
            case {
                "type": "conversation.item.input_audio_transcription.completed",
                "transcript": str(transcript),
            }:
                return (Said(Speaker.CALLER, transcript.strip()),)
            case {"type": "input_audio_buffer.speech_started"}:
                self.is_speaking = False
                return (Control.INTERRUPT, Control.INSPECT_AUDIO) if self._item_id else (Control.INTERRUPT,)
            case {"type": "session.updated"} if not self._is_ready:
                return self._begin_session()
            # The event with the arguments comes even for a cancelled call; this one does not.
            case {
                "type": "response.output_item.done",
                "item": {"type": "function_call", "status": "completed"},
            }:
                return self._call_function(fields["item"])
            case {"type": "error", "error": dict(error)}:
                return (self._error(error),)
            case {"type": "response.done", "response": {"status": "failed"} as response}:
                self.is_speaking = False
                return self._fail_response(response)
            case {"type": "response.done"}:
                self.is_speaking = self._has_failed = False
                return ()
            case {"type": str()}:
                return ()
        return (Ignored("unknown_type"),)

    def on_interrupt(self, heard: Sequence[HeardTurn]) -> Iterable[bytes]:
        self._interrupted_item_id = self._item_id
        items, self._items = self._items, {}
        complete, self._complete = self._complete, set()
        return [
            _truncate(turn, items[turn.name])
            for turn in heard
            if turn.name in items and not (turn.is_all and turn.name in complete)
        ]

    def on_close(self, code: int | None) -> FailureKind:
        return FailureKind.SESSION_LIMIT if code == GOING_AWAY else FailureKind.LOST

    def _error(self, error: Mapping[str, Any]) -> Event:
        # The text of an error may hold words of the call, so it is not logged.
        kind = _kind_of(error)
        if kind is None and not self._is_ready:
            kind = FailureKind.REFUSED
        return Failed(_named(error), kind) if kind is not None else Ignored("agent_error")

    def _fail_response(self, response: Mapping[str, Any]) -> Iterable[Event]:
        """Ask once more for a response that failed; a second failure in a row ends the session."""
        match response.get("status_details"):
            case {"error": dict(error)}:
                pass
            case _:
                error = {}
        kind = _kind_of(error)
        if kind is None and self._has_failed:
            kind = FailureKind.SERVER
        if kind is not None:
            return (Failed(_named(error), kind),)
        self._has_failed = True
        return (Ignored("agent_error"), Reply(RESPOND))

    def _begin_session(self) -> Iterable[Event]:
        self._is_ready = True
        memory = self._memory
        speaks_first = memory.is_awaited if memory is not None else self._settings.openai_realtime_greets
        return (Control.READY, Reply(RESPOND)) if speaks_first else (Control.READY,)

    def _begin_item(self, fields: Mapping[str, Any]) -> Iterable[Event]:
        item_id, index = fields.get("item_id"), fields.get("content_index")
        if not isinstance(item_id, str) or not isinstance(index, int):
            return (Ignored("missing_field"),)
        if item_id == self._interrupted_item_id:
            return ()
        self._item_id = item_id
        self._items[item_id] = index
        if len(self._items) > MOST_ITEMS:
            oldest = next(iter(self._items))
            del self._items[oldest]
            self._complete.discard(oldest)
        self.is_speaking = True
        return (Turn(item_id), Control.RELAY_AUDIO)

    def _audio_of(self, fields: Mapping[str, Any], delta: str) -> Iterable[Event]:
        if self._interrupted_item_id and fields.get("item_id") == self._interrupted_item_id:
            return (Ignored("void_audio"),)
        return (Audio(delta.encode()), Control.RELAY_AUDIO)

    def _said(self, fields: Mapping[str, Any], transcript: str) -> Iterable[Event]:
        text = transcript.strip()
        if text and self._interrupted_item_id and fields.get("item_id") == self._interrupted_item_id:
            text += CUT
        return (Said(Speaker.AGENT, text),) if text else ()

    def _call_function(self, item: Mapping[str, Any]) -> Iterable[Event]:
        arguments = parse(item.get("arguments") or "{}")
        return on_tool_call(item.get("name"), arguments, lambda why: _refusal(item, why))


def _item_of(said: Said) -> bytes:
    """Return the message that adds an utterance of before to the conversation."""
    role, kind = ("assistant", "output_text") if said.speaker is Speaker.AGENT else ("user", "input_text")
    item = {"type": "message", "role": role, "content": [{"type": kind, "text": said.text}]}
    return orjson.dumps({"type": "conversation.item.create", "item": item})


def _refusal(item: Mapping[str, Any], why: str) -> tuple[bytes, ...]:
    """Return the result of a function call, and the request to go on with it."""
    call_id = item.get("call_id")
    if not isinstance(call_id, str):
        return ()
    output = {
        "type": "function_call_output",
        "call_id": call_id,
        "output": orjson.dumps({"error": why}).decode(),
    }
    return (
        orjson.dumps({"type": "conversation.item.create", "item": output}),
        RESPOND,
    )


def _truncate(turn: HeardTurn, content_index: int) -> bytes:
    return orjson.dumps(
        {
            "type": "conversation.item.truncate",
            "item_id": turn.name,
            "content_index": content_index,
            "audio_end_ms": turn.heard_ms,
        }
    )


def _kind_of(error: Mapping[str, Any]) -> FailureKind | None:
    found = (FAILURES.get(name) for name in (error.get("code"), error.get("type")) if isinstance(name, str))
    return next((kind for kind in found if kind is not None), None)


def _named(error: Mapping[str, Any]) -> str:
    return f"error {error.get('code') or error.get('type')}"[:80]


def _describe(settings: OpenAiSettings, resources: Resources) -> Agent:

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        return Endpoint(
            f"{settings.openai_realtime_url}?model={quote(settings.openai_realtime_model, safe='')}",
            {"Authorization": f"Bearer {settings.openai_api_key.get_secret_value()}"},
        )

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        return OpenAiDialogue(settings, stream.memory)

    return Agent(open_session=no_session, endpoint=endpoint, dialogue=dialogue)


AGENT = AgentModule(OpenAiSettings, _describe)
