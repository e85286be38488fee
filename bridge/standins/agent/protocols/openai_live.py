"""OpenAI's GPT-Live over its WebSocket, with mu-law both ways."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

from bridge.standins.agent.protocols.openai_live_events import (
    APPEND_TOKENS,
    FIELDS,
    PCMU,
    ClientError,
    FunctionCall,
    check_fields,
    error,
    work,
    work_done,
)
from bridge.standins.agent.protocols.protocol import Protocol, Refused
from bridge.standins.agent.session import AgentSession, Told
from bridge.standins.audio import FRAME_BYTES, SAMPLE_RATE_HZ, SILENCE

SESSION_S = 3600
# While the model says nothing, it streams silence in pieces of this length, as one that speaks does.
SILENCE_FRAMES = 5


class Appended(NamedTuple):
    """A text that the bridge adds to the session; ``kind`` is "instructions", "thinking" or "commentary"."""

    kind: str
    content: str


class FunctionOutput(NamedTuple):
    """The result of a function call."""

    call_id: str
    output: str


class OpenAiLiveSession(AgentSession):
    """
    A session of a model that listens and speaks at once: it knows no turns and reports no interrupts.

    Attributes:
        session: The session object of ``session.started``.
        appended: All appends, in order; they take effect with the next audio.
        function_outputs: Results of function calls.
        responses: How often the bridge let the second model go on.
        streams_silence: Whether the model streams silence while it says nothing; set it before the session is ready.
        answers_close: Whether ``session.closed`` follows ``session.close``.
        confirmed_format: Stated in ``session.started`` in place of the one that was asked for; None states that.
        closed_reason: Of ``session.closed``; None before.
        billed_s: Seconds of the session that are billed by then.
    """

    is_ready_at_once = False

    def __init__(self, call_id: str, request: dict[str, str]) -> None:
        super().__init__(call_id, request)
        self.session: dict[str, Any] = {}
        self.appended: list[Appended] = []
        self.function_outputs: list[FunctionOutput] = []
        self.responses = 0
        self.streams_silence = False
        self.answers_close = True
        self.confirmed_format: dict[str, Any] | None = None
        self.closed_reason: str | None = None
        self.billed_s = 0
        # Appends that no audio has followed yet.
        self._waiting: list[Appended] = []
        # Function calls without a result, and whether results wait for ``response.create``.
        self._pending_calls: set[str] = set()
        self._has_results = False
        # The delegation and the response that are under way.
        self._work: tuple[str, str] | None = None
        self._is_asked_to_close = False
        self._started_at = 0.0
        self._spoke_at = 0.0
        self._configured = asyncio.Event()

    async def begin_work(self, *calls: tuple[str, dict[str, Any]]) -> list[str]:
        """Delegate work that calls functions, each a name and arguments; returns the ids of the calls."""
        self._work = self._new_id("dlg"), self._new_id("resp")
        made = [FunctionCall(self._new_id("call"), name, json.dumps(words)) for name, words in calls]
        self._pending_calls.update(call.call_id for call in made)
        for event in work(*self._work, made):
            await self._send_event(event)
        return [call.call_id for call in made]

    async def end_work(self) -> None:
        """Complete the response that has called the functions."""
        assert self._work is not None
        done, self._work = work_done(*self._work), None
        await self._send_event(done)

    async def send_heard(self, text: str) -> None:
        """Report what the caller said, in fragments."""
        await self._send_transcript("session.input_transcript.delta", text)

    async def send_said(self, text: str) -> None:
        """Report what the agent says, likewise."""
        await self._send_transcript("session.output_transcript.delta", text)

    async def send_usage(self) -> None:
        """Report the seconds that are billed so far."""
        await self._send_event({"type": "session.usage.updated", "usage": {"seconds": self._seconds()}})

    async def send_error(self, code: str, kind: str) -> None:
        """Report an error."""
        await self._send_event(error(f"This is {code}.", code, kind))

    async def send_closed(self, reason: str) -> None:
        """End the session for a reason and close the socket."""
        await self.end_session(reason)
        await self.close()

    async def end_session(self, reason: str) -> None:
        """End the session for a reason; the socket stays open."""
        self.closed_reason, self.billed_s = reason, self._seconds()
        usage = {"seconds": self.billed_s}
        await self._send_event(
            {"type": "session.closed", "reason": reason, "session": self.session, "usage": usage}
        )

    async def _begin(self) -> bool:
        await self._configured.wait()
        self._started_at = self._now()
        return await self._make_ready(
            self._with_id({"type": "session.started", "session": self._confirmed()}),
            self._with_id(error("The session could not be started.", "session_start_failed")),
        )

    def _confirmed(self) -> dict[str, Any]:
        if self.confirmed_format is None:
            return self.session
        return {**self.session, "audio": {**self.session["audio"], "format": self.confirmed_format}}

    async def _beside(self) -> None:
        silence_s = SILENCE_FRAMES * FRAME_BYTES / SAMPLE_RATE_HZ
        silence = base64.b64encode(SILENCE * FRAME_BYTES * SILENCE_FRAMES).decode()
        while self.streams_silence and self.closed_reason is None:
            if self._now() - self._spoke_at >= silence_s:
                await self.send_json({"type": "session.output_audio.delta", "delta": silence})
            await asyncio.sleep(silence_s)

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        self._spoke_at = self._now()
        delta = base64.b64encode(wire).decode()
        await self.send_json({**fields, "type": "session.output_audio.delta", "delta": delta})

    async def _write_interrupt(self) -> None:
        """The model falls silent by itself and reports nothing."""

    async def _write_end(self) -> None:
        await self.send_closed("close_requested")

    async def _on_message(self, message: dict[str, Any]) -> None:
        event = message["type"]
        try:
            if event not in FIELDS:
                raise ClientError(f"unknown event {event!r}", "invalid_event")
            check_fields(message, {"type": None, "event_id": None, **FIELDS[event]})
            if event == "session.input_audio.append":
                self._check_open(event)
                self._receive_base64(message["audio"])
                await self._apply_appended()
                return
            self.messages.append(message)
            if event == "session.start":
                self._start(message["session"])
                return
            self._check_open(event)
            if event == "session.close":
                self._is_asked_to_close = True
                if self.answers_close:
                    await self.end_session("close_requested")
            elif event == "response.item.create":
                self._take_result(message["item"])
            elif event == "response.create":
                self._go_on()
            else:
                self._append(event.split(".")[1], message)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            code = problem.code if isinstance(problem, ClientError) else "invalid_value"
            await self._send_event(error(f"{problem!r}", code))
            raise

    def _check_open(self, event: str) -> None:
        if not self.ready.is_set():
            raise ClientError(f"{event} before session.started", "session_not_started")
        if self._is_asked_to_close:
            raise ClientError(f"{event} after session.close")

    def _start(self, session: dict[str, Any]) -> None:
        if self._configured.is_set():
            raise ClientError("session.start comes once")
        if not session.get("model"):
            raise ClientError("session.model is missing")
        if (audio_format := session["audio"]["format"]) != PCMU:
            raise ClientError(f"audio.format is {audio_format}, not {PCMU}")
        if session["delegation"]["type"] != "responses" or not session["delegation"]["responses"]["model"]:
            raise ClientError("delegation names no model")
        self.told = [_told(item) for item in session.get("input", [])]
        expires_at = int(time.time()) + SESSION_S
        self.session = {**session, "id": self.call_id, "expires_at": expires_at, "status": "active"}
        self._configured.set()

    def _append(self, kind: str, message: dict[str, Any]) -> None:
        content = message["content"]
        if message["delegation_id"] is not None:
            raise ClientError("delegation_id is not null")
        if not isinstance(content, str) or not content:
            raise ClientError("content is no text")
        if len(content.encode()) > APPEND_TOKENS:
            raise ClientError(f"content has more than {APPEND_TOKENS} tokens", "content_too_long")
        self.appended.append(Appended(kind, content))
        self._waiting.append(self.appended[-1])

    async def _apply_appended(self) -> None:
        applied, self._waiting = self._waiting, []
        at_ms = self._elapsed_ms()
        for each in applied:
            await self._send_event(
                {"type": f"session.{each.kind}.appended", "start_ms": at_ms, "end_ms": at_ms}
            )

    def _take_result(self, item: dict[str, Any]) -> None:
        result = FunctionOutput(item["call_id"], item["output"])
        if item["type"] != "function_call_output" or not isinstance(result.output, str):
            raise ClientError(f"{item} is no result of a function")
        if result.call_id not in self._pending_calls:
            raise ClientError(f"no function call {result.call_id!r} waits for its result")
        self._pending_calls.remove(result.call_id)
        self._has_results = True
        self.function_outputs.append(result)

    def _go_on(self) -> None:
        if self._work is not None:
            raise ClientError("a response is under way", "response_in_progress")
        if self._pending_calls:
            raise ClientError("function calls have no results", "function_call_outputs_required")
        if not self._has_results:
            raise ClientError("there is nothing to go on with")
        self._has_results = False
        self.responses += 1

    async def _send_transcript(self, kind: str, text: str) -> None:
        at_ms = self._elapsed_ms()
        words = text.split(" ")
        for n, word in enumerate(words):
            fragment = word if n == 0 else f" {word}"
            await self._send_event({"type": kind, "delta": fragment, "start_ms": at_ms, "end_ms": at_ms})

    def _elapsed_ms(self) -> int:
        return round(1000 * (self._now() - self._started_at))

    def _seconds(self) -> int:
        return math.ceil(self._now() - self._started_at)

    async def _send_event(self, event: dict[str, Any]) -> None:
        await self.send_json(self._with_id(event))

    def _with_id(self, event: dict[str, Any]) -> dict[str, Any]:
        return {"event_id": self._new_id("event"), **event}

    def _new_id(self, kind: str) -> str:
        return f"{kind}_{secrets.token_hex(10)}"


def _told(item: dict[str, Any]) -> Told:
    [content] = item["content"]
    kinds = {"assistant": ("agent", "output_text"), "user": ("caller", "input_text")}
    speaker, kind = kinds[item["role"]]
    if content["type"] != kind or not isinstance(content["text"], str):
        raise ClientError(f"a message of {item['role']} holds {content}")
    return Told(speaker, content["text"])


class OpenAiLive(Protocol):
    """``GET /v1/live/sessions``, without a query."""

    name = "openai-live"
    socket_path = "/v1/live/sessions"

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with the key."""
        self.check_header(request, "Authorization", f"Bearer {self.account.key}")
        if request.query:
            raise Refused(400, "the URL has a query")
        return OpenAiLiveSession("sess_" + secrets.token_hex(10), {})

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the key and the socket."""
        return {
            "BRIDGE_AGENT": self.name,
            "OPENAI_API_KEY": self.account.key,
            "OPENAI_LIVE_URL": ws_url,
        }
