"""Two minimal agents of no vendor, counterparts of agents described in a settings file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.standins.agent.protocols.protocol import Protocol
from bridge.standins.agent.protocols.retell import new_call_id
from bridge.standins.agent.session import AgentSession


class BinarySession(AgentSession):
    """Mu-law as binary frames both ways; texts from the agent are an interrupt and the end."""

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        assert not fields, "binary audio has no fields"
        await self.send_raw(wire)

    async def _write_interrupt(self) -> None:
        await self.send_json({"type": "interrupt"})

    async def _write_end(self) -> None:
        await self.send_json({"type": "end"})

    async def _on_binary(self, data: bytes) -> None:
        self._receive(data)

    async def _on_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        raise ValueError("a text; only audio is expected")


class JsonSession(AgentSession):
    """Mu-law as base64 in a nested object, both ways."""

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        body = {"b64": base64.b64encode(wire).decode()}
        await self.send_json({"kind": "audio", **fields, "body": body})

    async def _write_interrupt(self) -> None:
        await self.send_json({"kind": "stop_talking"})

    async def _write_end(self) -> None:
        await self.send_json({"kind": "bye"})

    async def _on_message(self, message: dict[str, Any]) -> None:
        if (
            message.keys() != {"kind", "body"}
            or message["kind"] != "audio"
            or message["body"].keys() != {"b64"}
        ):
            self.messages.append(message)
            raise ValueError("only audio is expected")
        self._receive_base64(message["body"]["b64"])


class _Plain(Protocol):
    """``GET /agent``, with no credentials."""

    socket_path = "/agent"

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return no settings: the settings file of the agent has the address."""
        return {}


class Binary(_Plain):
    """Binary audio."""

    name = "binary"

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit every request."""
        return BinarySession(new_call_id(), dict(request.query))


class Json(_Plain):
    """Audio in JSON."""

    name = "json"

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit every request."""
        return JsonSession(new_call_id(), dict(request.query))
