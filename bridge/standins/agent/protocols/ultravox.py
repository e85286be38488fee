"""Ultravox by its server WebSocket: a call is created, its reply names the socket; binary samples, messages in JSON."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.standins.agent.formats import pcm
from bridge.standins.agent.protocols.protocol import Protocol, Refused, Rest
from bridge.standins.agent.protocols.retell import find_call
from bridge.standins.agent.session import AgentSession

_RATES_HZ = (8000, 16000, 24000)


class UltravoxSession(AgentSession):
    """
    A call.

    Attributes:
        texts: Texts that the bridge sends as the caller's.
        tool_results: Results of client tools, by id.
        is_hung_up_by_bridge: Whether ``hang_up`` came.
    """

    def __init__(self, call_id: str, request: dict[str, Any], rate_hz: int) -> None:
        super().__init__(call_id, request, from_caller_format=pcm(rate_hz), to_caller_format=pcm(rate_hz))
        self.texts: list[str] = []
        self.tool_results: dict[str, dict[str, Any]] = {}
        self.is_hung_up_by_bridge = False

    async def send_tool_call(self, name: str, parameters: dict[str, Any]) -> str:
        """Request a client tool; returns the invocation's id."""
        call_id = "inv_" + secrets.token_hex(6)
        call = {"toolName": name, "invocationId": call_id, "parameters": parameters}
        await self.send_json({"type": "client_tool_invocation", **call})
        return call_id

    async def send_heard(self, text: str) -> None:
        """Report what the caller said."""
        await self.send_transcript("user", text)

    async def send_transcript(self, role: str, text: str) -> None:
        """Report what the agent or the caller said."""
        words = {"type": "transcript", "role": role, "medium": "voice", "ordinal": 1}
        await self.send_json({**words, "delta": text[:2], "final": False})
        await self.send_json({**words, "text": text, "final": True})

    async def send_state(self, state: str) -> None:
        """Report that the agent listens, thinks or speaks."""
        await self.send_json({"type": "state", "state": state})

    async def _begin(self) -> bool:
        await self.send_json({"type": "call_started", "callId": self.call_id})
        await self.send_state("idle")
        return True

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        assert not fields, "binary audio has no fields"
        await self.send_raw(wire)

    async def _write_interrupt(self) -> None:
        await self.send_json({"type": "playback_clear_buffer"})

    async def _on_binary(self, data: bytes) -> None:
        self._receive(data)

    async def _on_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        match message["type"]:
            case "user_text_message":
                self.texts.append(message["text"])
            case "client_tool_result":
                self.tool_results[message["invocationId"]] = message
            case "hang_up":
                self.is_hung_up_by_bridge = True
            case unknown:
                raise ValueError(f"unknown message {unknown!r}")


class Ultravox(Protocol):
    """``POST /api/agents/AGENT_ID/calls`` and the socket that its reply names."""

    name = "ultravox"
    rest = Rest("POST", "/api/agents/{agent_id}/calls", 201)
    socket_path = "/calls/{call_id}/server_web_socket"

    def register(self, request: web.Request, body: Any, ws_url: str) -> tuple[AgentSession, dict[str, Any]]:
        """Accept a call whose medium is a server's WebSocket."""
        self.check_header(request, "X-API-Key", self.account.key)
        self.check_agent(request.match_info["agent_id"], 404)
        medium = body.get("medium", {}).get("serverWebSocket", {}) if isinstance(body, dict) else {}
        rate_hz = medium.get("inputSampleRate")
        if rate_hz not in _RATES_HZ or medium.get("outputSampleRate", rate_hz) != rate_hz:
            raise Refused(400, f"the medium is {medium}")
        session = UltravoxSession("uv_" + secrets.token_hex(10), body, rate_hz)
        return session, {
            "callId": session.call_id,
            "joinUrl": f"{ws_url}/{session.call_id}/server_web_socket",
            "endReason": None,
        }

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit the request to a created call, whose address is the credential."""
        return find_call(request, sessions)

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the key and the agent: the agents file has the address."""
        return {"ULTRAVOX_API_KEY": self.account.key, "ULTRAVOX_AGENT_ID": self.agent_id}
