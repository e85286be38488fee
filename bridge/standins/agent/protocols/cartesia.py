"""Cartesia's managed agents: JSON with base64 mu-law, in turns."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.standins.agent.protocols.protocol import Protocol, Refused
from bridge.standins.agent.protocols.turns import TurnSession
from bridge.standins.agent.session import AgentSession


class CartesiaSession(TurnSession):
    """
    A conversation.

    Attributes:
        audio_settings: ``audio`` of the bridge's ``session_create``, empty before it arrives.
        digits: Keys of the caller.
        tool_results: Results of client tools, by id.
        confirmed_format: Stated in ``session_ready`` in place of the one that was asked for; None states that.
    """

    is_ready_at_once = False

    def __init__(self, call_id: str, request: dict[str, str]) -> None:
        super().__init__(call_id, request)
        self.audio_settings: dict[str, Any] = {}
        self.digits: list[str] = []
        self.tool_results: dict[str, dict[str, Any]] = {}
        self.confirmed_format: str | None = None
        self._configured = asyncio.Event()
        self._turn = 0

    async def send_tool_call(self, name: str, parameters: dict[str, Any]) -> str:
        """Request a client tool; returns the call's id."""
        call_id = "call_" + secrets.token_hex(6)
        call = {
            "tool_call_id": call_id,
            "tool_name": name,
            "parameters": parameters,
            "expects_response": True,
        }
        await self.send_json({"type": "client_tool_call", **call})
        return call_id

    async def send_heard(self, text: str) -> None:
        """Report what the caller said."""
        await self._send_turn("user", text)

    async def send_error(self, code: str, message: str, *, fatal: bool) -> None:
        """Report an error; one that is not ``fatal`` leaves the session open."""
        await self.send_json({"type": "error", "code": code, "message": message, "fatal": fatal})

    async def _begin(self) -> bool:
        await self._configured.wait()
        audio = dict(self.audio_settings)
        if self.confirmed_format is not None:
            audio["input_format"] = self.confirmed_format
        return await self._make_ready(
            {"type": "session_ready", "call_id": self.call_id, "audio": audio},
            {"type": "error", "code": "invalid_config", "message": "the session is refused", "fatal": True},
        )

    async def _write_turn(self) -> None:
        self._turn += 1
        await self.send_json({"type": "turn_started", "turn": self._turn, "role": "assistant"})

    async def _write_audio_of_turn(self, wire: bytes, fields: dict[str, Any]) -> None:
        await self.send_json({"type": "audio_output", **fields, "audio": base64.b64encode(wire).decode()})

    async def _write_turn_end(self, is_cut: bool) -> None:
        await self._send_turn("assistant", self.transcript or "...", is_cut=is_cut)

    async def _send_turn(self, role: str, text: str, *, is_cut: bool = False) -> None:
        turn = {"turn": self._turn, "role": role, "text": text, "interrupted": is_cut, "tool_calls": []}
        await self.send_json({"type": "turn_ended", **turn})

    async def _write_interrupt(self) -> None:
        await self.send_json({"type": "audio_output_clear"})

    async def _on_message(self, message: dict[str, Any]) -> None:
        event = message["type"]
        if event == "audio_input":
            self._check_ready("session_ready")
            self._receive_base64(message["audio"])
            return
        self.messages.append(message)
        if event == "session_create":
            self.audio_settings = message["audio"]
            if self.audio_settings["input_format"] != "mulaw_8000":
                raise ValueError(f"the format is {self.audio_settings['input_format']!r}")
            self._configured.set()
        elif not self._configured.is_set():
            raise ValueError(f"{event} before session_create")
        elif event == "dtmf_input":
            self.digits.append(message["digit"])
        elif event == "client_tool_result":
            self.tool_results[message["tool_call_id"]] = message
        else:
            raise ValueError(f"unknown message {event!r}")


class Cartesia(Protocol):
    """``GET /v1/agents/websocket/AGENT_ID``"""

    name = "cartesia"
    socket_path = "/v1/agents/websocket/{agent_id}"

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with the key and a version."""
        self.check_header(request, "X-API-Key", self.account.key)
        self.check_agent(request.match_info["agent_id"], 404)
        if "cartesia_version" not in request.query:
            raise Refused(400, "no cartesia_version")
        return CartesiaSession("ac_" + secrets.token_hex(10), dict(request.query))

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the key and the agent: the agents file has the address."""
        return {"CARTESIA_API_KEY": self.account.key, "CARTESIA_AGENT_ID": self.agent_id}
