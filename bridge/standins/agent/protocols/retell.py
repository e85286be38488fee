"""Retell by ``create-web-call``, then JSON with base64 audio, as in this project's first bridge."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.standins.agent.protocols.protocol import Protocol, Refused, Rest
from bridge.standins.agent.session import AgentSession
from bridge.standins.audio import SAMPLE_RATE_HZ

_EXPECTED = {"audio_websocket_protocol": "twilio", "audio_encoding": "mulaw", "sample_rate": SAMPLE_RATE_HZ}
# The only message of a bridge on this socket, without its audio.
_TO_AGENT = {"type": "audio", "audio_encoding": "mulaw", "sample_rate": SAMPLE_RATE_HZ}


def new_call_id() -> str:
    """Return a random call id."""
    return "call_" + secrets.token_hex(16)


def find_call(request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
    """Return the registered call named in the path of the socket; raises `Refused`."""
    session = sessions.get(request.match_info["call_id"])
    if session is None:
        raise Refused(404, "unknown call id")
    return session


def check_variables(body: dict[str, Any]) -> None:
    """Raise `Refused` unless the dynamic variables, if there are any, are texts by name."""
    variables = body.get("retell_llm_dynamic_variables", {})
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise Refused(400, f"retell_llm_dynamic_variables is {json.dumps(variables)}, not texts by name")


class RetellSession(AgentSession):
    """A call; ``access_token`` opens its socket. After ``call_ended`` the bridge closes."""

    def __init__(self, call_id: str, access_token: str, request: dict[str, Any]) -> None:
        super().__init__(call_id, request)
        self.access_token = access_token

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        await self.send_json({"type": "audio", **fields, "data": base64.b64encode(wire).decode()})

    async def _write_interrupt(self) -> None:
        await self.send_json({"type": "interrupt"})

    async def _write_end(self) -> None:
        await self.send_json({"type": "call_ended"})

    async def _on_message(self, message: dict[str, Any]) -> None:
        data = message.pop("data")
        if message != _TO_AGENT:
            raise ValueError(f"{json.dumps(message)} around the data, not {json.dumps(_TO_AGENT)}")
        self._receive_base64(data)


class Retell(Protocol):
    """``POST /v2/create-web-call`` and ``GET /audio-websocket/CALL_ID``."""

    name = "retell"
    rest = Rest("POST", "/v2/create-web-call", 201)
    socket_path = "/audio-websocket/{call_id}"

    def register(self, request: web.Request, body: Any, ws_url: str) -> tuple[AgentSession, dict[str, Any]]:
        """Accept a registration with the bridge's metadata."""
        self.check_header(request, "Authorization", f"Bearer {self.account.key}")
        if not isinstance(body, dict):
            raise Refused(400, "the body is not a JSON object")
        if self.account.agent_id is not None:
            self.check_agent(body.get("agent_id"), 404)
        for name, value in _EXPECTED.items():
            if body.get(name) != value:
                raise Refused(422, f"{name} is {body.get(name)!r}, not {value!r}")
        check_variables(body)
        metadata = body.get("metadata")
        if not isinstance(metadata, dict) or not metadata.keys() >= {"callSid", "from"}:
            raise Refused(422, f"metadata is {metadata!r}; callSid and from are expected")
        characters = self.account.token_characters
        session = RetellSession(new_call_id(), secrets.token_urlsafe(characters)[:characters], body)
        return session, {
            "call_type": "web_call",
            "call_id": session.call_id,
            "access_token": session.access_token,
            "agent_id": body["agent_id"],
            "call_status": "registered",
            "metadata": metadata,
        }

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with the call's access token."""
        session = find_call(request, sessions)
        assert isinstance(session, RetellSession)
        if request.headers.get("Authorization") != f"Bearer {session.access_token}":
            raise Refused(401, "the access token is missing or wrong")
        return session

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the REST API and the socket."""
        return {
            "BRIDGE_AGENT": self.name,
            "RETELL_API_KEY": self.account.key,
            "RETELL_AGENT_ID": self.agent_id,
            "RETELL_API_URL": url,
            "RETELL_WS_URL": ws_url,
        }
