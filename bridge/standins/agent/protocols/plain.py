"""Two minimal agents of no vendor, counterparts of agents described in a settings file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web

from bridge.standins.agent.protocols.protocol import Protocol
from bridge.standins.agent.protocols.retell import new_call_id
from bridge.standins.agent.session import AgentSession


class PlainSession(AgentSession):
    """
    Base of the two; they differ in the form of their audio and in the key under which a message has its name.

    Attributes:
        announced_format: Announced before the first audio; None announces nothing.
    """

    key: ClassVar[str]

    def __init__(self, call_id: str, request: dict[str, str]) -> None:
        super().__init__(call_id, request)
        self.announced_format: str | None = None

    async def send_report(self, name: str, code: str, message: str) -> None:
        """Report an "error", which the agent does not survive, or a "trouble", which it may."""
        await self._send(name, code=code, message=message)

    async def send_heard(self, text: str) -> None:
        """Report what the caller said."""
        await self._send("heard", text=text)

    async def _begin(self) -> bool:
        if self.faults.fail_ready:
            await self.send_report("error", "invalid_settings", "The settings are refused.")
            return False
        if self.announced_format is not None:
            await self._send("ready", format=self.announced_format)
        return True

    async def _send(self, name: str, **fields: Any) -> None:
        await self.send_json({self.key: name, **fields})


class BinarySession(PlainSession):
    """Mu-law as binary frames both ways; the agent sends texts too."""

    key = "type"

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        assert not fields, "binary audio has no fields"
        await self.send_raw(wire)

    async def _write_interrupt(self) -> None:
        await self._send("interrupt")

    async def _write_end(self) -> None:
        await self._send("end")

    async def _on_binary(self, data: bytes) -> None:
        self._receive(data)

    async def _on_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        raise ValueError("a text; only audio is expected")


class JsonSession(PlainSession):
    """Mu-law as base64 in a nested object, both ways."""

    key = "kind"

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        await self._send("audio", **fields, body={"b64": base64.b64encode(wire).decode()})

    async def _write_interrupt(self) -> None:
        await self._send("stop_talking")

    async def _write_end(self) -> None:
        await self._send("bye")

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
