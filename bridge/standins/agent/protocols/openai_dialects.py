"""
Services that speak the protocol of the OpenAI Realtime API at their own addresses.

Sources: docs.x.ai (Voice Agent API), learn.microsoft.com (GPT Realtime API via WebSockets), docs.inworld.ai (Realtime
API, WebSocket).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web

from bridge.standins.agent.protocols.openai import OpenAI, OpenAISession
from bridge.standins.agent.protocols.protocol import Refused
from bridge.standins.agent.session import AgentSession


class Dialect(OpenAI):
    """Base of the services: the header with the key, and the parameters that the socket's URL must have."""

    header: ClassVar[tuple[str, str]]
    parameters: ClassVar[tuple[str, ...]]
    session: ClassVar[type[OpenAISession]] = OpenAISession

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with the key and all parameters."""
        name, scheme = self.header
        self.check_header(request, name, scheme + self.account.key)
        if missing := [name for name in self.parameters if not request.query.get(name)]:
            raise Refused(400, f"the URL has no {missing[0]}")
        return self.session("sess_" + secrets.token_hex(10), {"model": "default", **request.query})

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return nothing: such an agent is a table of a settings file."""
        return {}


class XaiSession(OpenAISession):
    """A session of Grok: it begins with a conversation, and has its voice and turn detection beside ``audio``."""

    async def _begin(self) -> bool:
        created = {"id": "conv_" + secrets.token_hex(10), "object": "realtime.conversation"}
        await self._send_event({"type": "conversation.created", "conversation": created})
        await self._send_event({"type": "ping", "timestamp": 0})
        return await super()._begin()

    async def _on_update(self, update: dict[str, Any]) -> None:
        if "voice" in update["audio"]["output"] or "turn_detection" in update["audio"]["input"]:
            raise ValueError("voice and turn_detection stand beside audio")
        await super()._on_update(update)


class Xai(Dialect):
    """``GET /v1/realtime?model=...``"""

    name = "xai"
    header = ("Authorization", "Bearer ")
    parameters = ("model",)
    session = XaiSession


class AzureOpenAI(Dialect):
    """``GET /openai/v1/realtime?model=...``, whose model is the name of a deployment"""

    name = "azure-openai"
    socket_path = "/openai/v1/realtime"
    header = ("api-key", "")
    parameters = ("model",)


class Inworld(Dialect):
    """``GET /api/v1/realtime/session?key=...&protocol=realtime``, whose key is the client's name of the session"""

    name = "inworld"
    socket_path = "/api/v1/realtime/session"
    header = ("Authorization", "Basic ")
    parameters = ("key", "protocol")
