"""AssemblyAI's Voice Agent API: JSON with base64 mu-law, in replies."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.standins.agent.protocols.protocol import Protocol
from bridge.standins.agent.protocols.turns import TurnSession
from bridge.standins.agent.session import AgentSession

_FORMAT = {"encoding": "audio/pcmu"}


class AssemblyAiSession(TurnSession):
    """
    A conversation; each utterance is a reply.

    Attributes:
        settings: The bridge's ``session``, empty before it arrives.
        tool_results: Results of tool calls, by id.
        is_ended_by_bridge: Whether ``session.end`` came.
    """

    is_ready_at_once = False

    def __init__(self, call_id: str, request: dict[str, str]) -> None:
        super().__init__(call_id, request)
        self.settings: dict[str, Any] = {}
        self.tool_results: dict[str, str] = {}
        self.is_ended_by_bridge = False
        self._configured = asyncio.Event()
        self._reply_id = ""

    async def send_tool_call(self, name: str, arguments: dict[str, Any]) -> str:
        """Request a tool call; returns its id."""
        call_id = "call_" + secrets.token_hex(6)
        await self.send_json({"type": "tool.call", "call_id": call_id, "name": name, "arguments": arguments})
        return call_id

    async def send_heard(self, text: str) -> None:
        """Report what the caller said."""
        await self.send_json({"type": "transcript.user.delta", "text": text[:2]})
        await self.send_json({"type": "transcript.user", "text": text, "item_id": "item_1"})

    async def send_error(self, code: str, message: str) -> None:
        """Report an error, after which the session does not go on."""
        await self.send_json({"type": "session.error", "code": code, "message": message})

    async def _begin(self) -> bool:
        await self._configured.wait()
        return await self._make_ready(
            {"type": "session.ready", "session_id": self.call_id},
            {"type": "session.error", "code": "invalid_format", "message": "the session is refused"},
        )

    async def _write_turn(self) -> None:
        self._reply_id = "reply_" + secrets.token_hex(6)
        await self.send_json({"type": "reply.started", "reply_id": self._reply_id})

    async def _write_audio_of_turn(self, wire: bytes, fields: dict[str, Any]) -> None:
        data = base64.b64encode(wire).decode()
        await self.send_json({"type": "reply.audio", "reply_id": self._reply_id, **fields, "data": data})

    async def _write_turn_end(self, is_cut: bool) -> None:
        text = self.transcript or "..."
        await self.send_json({"type": "transcript.agent", "text": text, "interrupted": is_cut})
        status = "interrupted" if is_cut else "completed"
        await self.send_json({"type": "reply.done", "reply_id": self._reply_id, "status": status})

    async def _write_interrupt(self) -> None:
        await self.send_json({"type": "input.speech.started"})

    async def _write_end(self) -> None:
        await self.send_json({"type": "session.ended", "session_duration_seconds": 1.0})

    async def _on_message(self, message: dict[str, Any]) -> None:
        event = message["type"]
        if event == "input.audio":
            self._check_ready("session.ready")
            self._receive_base64(message["audio"])
            return
        self.messages.append(message)
        if event == "session.update":
            self._on_settings(message["session"])
        elif not self._configured.is_set():
            raise ValueError(f"{event} before session.update")
        elif event == "tool.result":
            self.tool_results[message["call_id"]] = message["result"]
        elif event == "session.end":
            self.is_ended_by_bridge = True
        elif event != "reply.create":
            raise ValueError(f"unknown message {event!r}")

    def _on_settings(self, settings: dict[str, Any]) -> None:
        for side in ("input", "output"):
            if (audio := settings[side]["format"]) != _FORMAT:
                raise ValueError(f"{side}.format is {audio}, not {_FORMAT}")
        self.settings = settings
        self._configured.set()


class AssemblyAi(Protocol):
    """``GET /v1/ws``"""

    name = "assemblyai"
    socket_path = "/v1/ws"

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with the key."""
        self.check_header(request, "Authorization", f"Bearer {self.account.key}")
        return AssemblyAiSession("sess_" + secrets.token_hex(10), dict(request.query))

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the key: the agents file has the address."""
        return {"ASSEMBLYAI_API_KEY": self.account.key}
