"""The OpenAI Realtime API over its WebSocket, with mu-law both ways."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

from bridge.standins.agent.protocols.openai_events import (
    PCMU,
    Item,
    default_session,
    error,
    merge,
    with_format,
)
from bridge.standins.agent.protocols.protocol import Protocol, Refused
from bridge.standins.agent.protocols.turns import TurnSession
from bridge.standins.agent.session import AgentSession, Told

MODEL = "gpt-realtime-2.1"
_APPEND_KEYS = {"type", "audio", "event_id"}
# Accepted without effect: the behaviour of the stand-in decides when it speaks.
_NOTED = {
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "response.cancel",
    "conversation.item.delete",
    "conversation.item.retrieve",
}


class Truncate(NamedTuple):
    """The part of an item that the caller has heard, as the bridge reports it."""

    item_id: str
    content_index: int
    audio_end_ms: int


class FunctionOutput(NamedTuple):
    """The result of a function call."""

    call_id: str
    output: str


class _ClientError(ValueError):
    """The service answers the message with ``error``; it counts as a violation."""

    def __init__(self, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.code = code


class OpenAISession(TurnSession):
    """
    A realtime session. Each utterance is a response with one item, which an interrupt ends.

    Attributes:
        session: The session object, updates included.
        items: Items of audio by id, in order.
        truncates: Every ``conversation.item.truncate``, refused ones included.
        function_outputs: Results of function calls.
        confirmed_format: Stated in ``session.updated`` in place of the one that was asked for; None states that.
        early_audio: Bytes of audio that it sends before ``session.updated``.
        refuses_truncates: Whether every ``conversation.item.truncate`` is refused.
        refused_requests: How often the bridge asked for a response while one was being made.
        failures: Errors of the next responses that the bridge asks for: each is a ``type``, ``code`` and ``message``.
    """

    is_ready_at_once = False

    def __init__(self, call_id: str, request: dict[str, str]) -> None:
        super().__init__(call_id, request)
        self.session = default_session(call_id, request["model"])
        self.items: dict[str, Item] = {}
        self.truncates: list[Truncate] = []
        self.function_outputs: list[FunctionOutput] = []
        self.confirmed_format: dict[str, Any] | None = None
        self.early_audio = b""
        self.refuses_truncates = False
        self.refused_requests = 0
        self.failures: deque[dict[str, Any]] = deque()
        # The response that is being made, by its item of audio; one of function calls alone has no audio.
        self._item: Item | None = None
        self._pending_calls: set[str] = set()
        self._configured = asyncio.Event()

    async def send_function_call(self, name: str, arguments: Any, *, is_last: bool = True) -> str:
        """
        Request a function call, in the present response or a new one.

        Args:
            is_last: The response ends behind it.

        Returns:
            Its ``call_id``.
        """
        call_id = self._new_id("call")
        self._pending_calls.add(call_id)
        await self._begin_response()
        assert self._item is not None
        text = json.dumps(arguments)
        await self._send_events(self._item.function_call(self._new_id("item"), name, call_id, text))
        if is_last and self._speaking.is_set():
            await self.end_turn()
        elif is_last:
            done, self._item = self._item, None
            await self._send_events(done.end_response())
        return call_id

    async def fail_response(self, **problem: Any) -> None:
        """Begin a response, which fails for the reason of this ``type``, ``code`` and ``message``."""
        await self._send_events(Item(self._new_id("resp"), self._new_id("item")).fail(**problem))

    async def send_error(self, code: str, message: str = "", *, kind: str = "server_error") -> None:
        """Report an error, after which the session stays open."""
        await self._send_event(error(message, code, kind=kind))

    async def send_heard(self, text: str) -> None:
        """Report what the caller said, as a session with input transcription does."""
        item_id = self._new_id("item")
        await self._send_event(
            {"type": "input_audio_buffer.committed", "item_id": item_id, "previous_item_id": None}
        )
        done = {"type": "conversation.item.input_audio_transcription.completed", "item_id": item_id}
        usage = {"type": "duration", "seconds": 1.0}
        await self._send_event({**done, "content_index": 0, "transcript": text, "usage": usage})

    async def send_expired(self) -> None:
        """End the session because of its age."""
        await self._send_event(error("Your session hit the maximum duration.", "session_expired", None))
        await self.close(1001)

    async def _begin(self) -> bool:
        await self._send_event({"type": "session.created", "session": self.session})
        await self._configured.wait()
        if self.early_audio:
            await self._send_event(Item(self._new_id("resp"), self._new_id("item")).delta(self.early_audio))
        return await self._make_ready(
            self._with_id({"type": "session.updated", "session": self._confirmed()}),
            self._with_id(error("The session could not be updated.", "session_update_failed", None)),
        )

    def _confirmed(self) -> dict[str, Any]:
        confirmed = self.confirmed_format
        return self.session if confirmed is None else with_format(self.session, confirmed)

    async def _write_turn(self) -> None:
        await self._begin_response()
        assert self._item is not None
        self._item.transcript = self.transcript
        self.items[self._item.item_id] = self._item
        await self._send_events(self._item.begin())

    async def _begin_response(self) -> None:
        if self._item is None:
            self._item = Item(self._new_id("resp"), self._new_id("item"))
            await self._send_events(self._item.begin_response())

    async def _write_turn_end(self, is_cut: bool) -> None:
        assert self._item is not None
        item, self._item = self._item, None
        await self._send_events(item.end(is_cut))

    async def _write_audio_of_turn(self, wire: bytes, fields: dict[str, Any]) -> None:
        assert self._item is not None
        await self._send_event({**fields, **self._item.delta(wire)})

    async def _write_interrupt(self) -> None:
        heard_ms = sum(len(item.audio) for item in self.received) // 8
        # The item of the caller's coming words, not the agent's.
        event = {"type": "input_audio_buffer.speech_started", "item_id": self._new_id("item")}
        await self._send_event({**event, "audio_start_ms": heard_ms})
        if self._speaking.is_set():
            assert self._item is not None
            for _ in range(self.stale_frames):
                await self._send_event(self._item.delta(self._encode_stale()))
        await self.end_turn(is_cut=True)

    async def _on_message(self, message: dict[str, Any]) -> None:
        event = message["type"]
        try:
            if event == "input_audio_buffer.append":
                self._check_ready("session.updated")
                if not message.keys() <= _APPEND_KEYS:
                    raise _ClientError(f"unknown fields {sorted(message.keys() - _APPEND_KEYS)}")
                self._receive_base64(message["audio"])
                return
            self.messages.append(message)
            if event == "session.update":
                await self._on_update(message["session"])
            elif not self._configured.is_set():
                raise _ClientError(f"{event} before session.update")
            elif event == "conversation.item.truncate":
                await self._on_truncate(message)
            elif event == "conversation.item.create":
                await self._on_item(message["item"])
            elif event == "response.create":
                await self._on_request(message)
            elif event not in _NOTED:
                raise _ClientError(f"unknown event {event!r}", "invalid_event")
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            code = problem.code if isinstance(problem, _ClientError) else "invalid_value"
            await self._send_event(error(f"{problem!r}", code, message.get("event_id")))
            raise

    async def _on_update(self, update: dict[str, Any]) -> None:
        if update.get("type") != "realtime":
            raise _ClientError(f"session.type is {update.get('type')!r}, not 'realtime'")
        session = merge(self.session, update)
        for side in ("input", "output"):
            if (audio_format := session["audio"][side]["format"]) != PCMU:
                raise _ClientError(f"audio.{side}.format is {audio_format}, not {PCMU}")
        self.session = session
        if self._configured.is_set():
            await self._send_event({"type": "session.updated", "session": self._confirmed()})
        self._configured.set()

    async def _on_request(self, message: dict[str, Any]) -> None:
        if self._item is not None:
            # No violation: the bridge may not know of the response yet.
            self.refused_requests += 1
            text, code = (
                "Conversation already has an active response",
                "conversation_already_has_active_response",
            )
            await self._send_event(error(text, code, message.get("event_id")))
            return
        self.asked_to_speak += 1
        if self.failures:
            await self.fail_response(**self.failures.popleft())

    async def _on_truncate(self, message: dict[str, Any]) -> None:
        heard = Truncate(message["item_id"], message["content_index"], message["audio_end_ms"])
        self.truncates.append(heard)
        item = self.items.get(heard.item_id)
        refusal = "Only model output audio messages can be truncated"
        if self.refuses_truncates:
            await self._send_event(error(refusal, "unsupported_content_type", message.get("event_id")))
            return
        if item is None:
            raise _ClientError(f"no item {heard.item_id!r}", "item_truncate_invalid_item_id")
        if not item.sent_bytes:
            raise _ClientError(refusal, "unsupported_content_type")
        if heard.content_index != 0:
            raise _ClientError(f"no content {heard.content_index!r} in the item")
        if type(heard.audio_end_ms) is not int or not 0 <= heard.audio_end_ms <= item.sent_ms:
            raise _ClientError(f"audio_end_ms is {heard.audio_end_ms!r} of {item.sent_ms} ms of audio")
        await self._send_event({"type": "conversation.item.truncated", **heard._asdict()})

    async def _on_item(self, item: dict[str, Any]) -> None:
        if item["type"] == "function_call_output":
            output = FunctionOutput(item["call_id"], item["output"])
            if output.call_id not in self._pending_calls:
                raise _ClientError(f"no function call {output.call_id!r} is waiting for its output")
            if not isinstance(output.output, str):
                raise _ClientError("the output of a function call is not a text")
            self._pending_calls.remove(output.call_id)
            self.function_outputs.append(output)
        elif item["type"] == "message":
            self.told.append(_told(item))
        made = {"id": self._new_id("item"), "object": "realtime.item", "status": "completed", **item}
        for event in ("conversation.item.added", "conversation.item.done"):
            await self._send_event({"type": event, "item": made, "previous_item_id": None})

    async def _send_events(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            await self._send_event(event)

    async def _send_event(self, event: dict[str, Any]) -> None:
        await self.send_json(self._with_id(event))

    def _with_id(self, event: dict[str, Any]) -> dict[str, Any]:
        return {"event_id": self._new_id("event"), **event}

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{secrets.token_hex(10)}"


def _told(item: dict[str, Any]) -> Told:
    [content] = item["content"]
    kinds = {
        "assistant": ("agent", "output_text"),
        "user": ("caller", "input_text"),
        "system": ("system", "input_text"),
    }
    speaker, kind = kinds[item["role"]]
    if content["type"] != kind or not isinstance(content["text"], str):
        raise _ClientError(f"a message of {item['role']} holds {content}")
    return Told(speaker, content["text"])


class OpenAI(Protocol):
    """``GET /v1/realtime?model=...``"""

    name = "openai"
    socket_path = "/v1/realtime"

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with the key and a model."""
        self.check_header(request, "Authorization", f"Bearer {self.account.key}")
        if not request.query.get("model"):
            raise Refused(400, "the URL names no model")
        return OpenAISession("sess_" + secrets.token_hex(10), dict(request.query))

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the key, the socket and a model."""
        return {
            "BRIDGE_AGENT": self.name,
            "OPENAI_API_KEY": self.account.key,
            "OPENAI_REALTIME_URL": ws_url,
            "OPENAI_REALTIME_MODEL": MODEL,
        }
