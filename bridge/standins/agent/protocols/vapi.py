"""Vapi's WebSocket transport: a call is created, its reply names the socket; binary mu-law, messages in JSON."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.standins.agent.protocols.protocol import Protocol, Refused, Rest
from bridge.standins.agent.protocols.retell import find_call
from bridge.standins.agent.session import AgentSession

_FORMAT = {"format": "mulaw", "container": "raw", "sampleRate": 8000}


class VapiSession(AgentSession):
    """A call; ``is_ended_by_bridge`` once the bridge has sent ``end-call``."""

    def __init__(self, call_id: str, request: dict[str, Any]) -> None:
        super().__init__(call_id, request)
        self.is_ended_by_bridge = False

    async def send_heard(self, text: str) -> None:
        """Report what the caller said."""
        await self.send_transcript("user", text)

    async def send_transcript(self, role: str, text: str) -> None:
        """Report what the assistant or the caller said."""
        for kind, words in (("partial", text[:2]), ("final", text)):
            message = {"type": "transcript", "role": role, "transcriptType": kind, "transcript": words}
            await self.send_json(message)

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        assert not fields, "binary audio has no fields"
        await self.send_raw(wire)

    async def _write_interrupt(self) -> None:
        await self.send_json({"type": "user-interrupted"})

    async def _on_binary(self, data: bytes) -> None:
        self._receive(data)

    async def _on_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if message != {"type": "end-call"}:
            raise ValueError(f"unknown message {message}")
        self.is_ended_by_bridge = True


class Vapi(Protocol):
    """``POST /call`` and the socket that its reply names."""

    name = "vapi"
    rest = Rest("POST", "/call", 201)
    socket_path = "/transports/{call_id}"

    def register(self, request: web.Request, body: Any, ws_url: str) -> tuple[AgentSession, dict[str, Any]]:
        """Accept a call with the transport."""
        self.check_header(request, "Authorization", f"Bearer {self.account.key}")
        if not isinstance(body, dict):
            raise Refused(400, "the body is not a JSON object")
        self.check_agent(body.get("assistantId"), 404)
        transport = body.get("transport")
        if transport != {"provider": "vapi.websocket", "audioFormat": _FORMAT}:
            raise Refused(400, f"the transport is {transport}")
        session = VapiSession("call_" + secrets.token_hex(10), body)
        url = f"{ws_url}/{session.call_id}"
        reply = {"provider": "vapi.websocket", "websocketCallUrl": url}
        return session, {"id": session.call_id, "type": "vapi.websocketCall", "transport": reply}

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit the request to a created call, whose address is the credential."""
        return find_call(request, sessions)

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the key and the assistant: the agents file has the address."""
        return {"VAPI_API_KEY": self.account.key, "VAPI_ASSISTANT_ID": self.agent_id}
