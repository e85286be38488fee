"""ElevenLabs Agents over their WebSocket: JSON with numbered base64 audio."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from bridge.standins.agent.formats import FORMATS
from bridge.standins.agent.protocols.protocol import Account, Protocol, Refused, Rest
from bridge.standins.agent.session import AgentSession, Told

# Accepted without effect.
_NOTED = {"feedback", "mcp_tool_approval_result", "multimodal_message", "user_activity"}
_NOTED |= {"user_message"}
# The vendor's own words.
_QUOTA = "This request exceeds your quota limit."
_MISSING = "Missing required dynamic variables in first message: {}"
_OVERRIDE = "Override for field '{}' is not allowed by config."


class ToolResult(NamedTuple):
    """The result of a client tool."""

    tool_call_id: str
    result: str
    is_error: bool


class ElevenLabsSession(AgentSession):
    """
    A conversation. It accepts audio from the start, because ElevenLabs' own client does not wait either.

    Attributes:
        client_data_wait_s: Seconds to wait for ``conversation_initiation_client_data``.
        ping_every_s: Seconds between pings; ``pongs`` has the returned event ids, in order.
        tool_results: Results of client tools.
        client_data: The bridge's ``conversation_initiation_client_data``, empty before it.
        has_text_ids: Whether events have texts for their numbers, which the vendor's own client converts.
        announced_format: The format of the agent's audio that is announced; by default the true one.
    """

    is_ready_at_once = False

    def __init__(self, call_id: str, request: dict[str, str], account: Account) -> None:
        super().__init__(
            call_id,
            request,
            from_caller_format=account.from_caller_format,
            to_caller_format=account.to_caller_format,
        )
        self.client_data_wait_s = 0.25
        self.ping_every_s = 2.0
        self.pongs: list[int] = []
        self.tool_results: list[ToolResult] = []
        self.client_data: dict[str, Any] = {}
        self.has_text_ids = False
        self.announced_format = self.to_caller_format
        self._account = account
        self._answered = asyncio.Event()
        self._has_spoken = asyncio.Event()
        self._event_ids = itertools.count(1)
        self._audio_id = 0
        self._ping_ids: set[int] = set()
        self._pending_calls: set[str] = set()

    async def send_ping(self) -> int:
        """Send a ping now; returns its event id."""
        event_id = next(self._event_ids)
        self._ping_ids.add(event_id)
        await self._send("ping", "ping_event", event_id=event_id, ping_ms=50 if self.pongs else None)
        return event_id

    async def send_tool_call(self, tool_name: str, parameters: dict[str, Any]) -> str:
        """Request a call of a client tool; returns its id."""
        tool_call_id = "tool_" + secrets.token_hex(6)
        self._pending_calls.add(tool_call_id)
        await self._send(
            "client_tool_call",
            "client_tool_call",
            tool_name=tool_name,
            tool_call_id=tool_call_id,
            parameters=parameters,
            event_id=next(self._event_ids),
        )
        return tool_call_id

    async def send_goodbye(self, tool_name: str, parameters: dict[str, Any], audio: Iterable[bytes]) -> None:
        """Call a client tool that ends the conversation; its result lets the agent say goodbye."""
        self._answered.clear()
        await self.send_tool_call(tool_name, parameters)
        await self._answered.wait()
        await self.send_frames(audio, paced=False)

    async def send_error(self, error_type: str, code: int, message: str) -> None:
        """Report an error, and close with its code."""
        event = {"code": code, "message": message, "error_type": error_type}
        await self.send_json({"type": "error", "error_event": event})
        await self.close(code, message)

    async def exceed_quota(self) -> None:
        """End because there is no credit left: an error without its usual parts, and a close that says why."""
        await self.send_json({"type": "error", "message": f"received 1002 (protocol error) {_QUOTA}"})
        await self.close(1002, _QUOTA)

    async def reach_limit(self) -> None:
        """End at the agent's longest duration, in the ordinary way."""
        await self.send_error("max_duration_exceeded", 1000, "The conversation exceeds its maximum duration.")

    async def send_said(self, text: str) -> None:
        """Report what the agent says."""
        event_id = next(self._event_ids)
        await self._send("agent_response", "agent_response_event", agent_response=text, event_id=event_id)

    async def send_heard(self, text: str) -> None:
        """Report what the caller said."""
        event_id = next(self._event_ids)
        await self._send(
            "user_transcript", "user_transcription_event", user_transcript=text, event_id=event_id
        )

    async def _begin(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.client_data_wait_s):
                await self._has_spoken.wait()
        if refusal := self._refusal():
            # Without an error before it, as the vendor does.
            await self.close(1008, refusal)
            return False
        event = {
            "conversation_id": self.call_id,
            "agent_output_audio_format": self.announced_format,
            "user_input_audio_format": self.from_caller_format,
        }
        is_ready = await self._make_ready(
            {
                "type": "conversation_initiation_metadata",
                "conversation_initiation_metadata_event": event,
            },
            {"type": "error", "error_event": {"code": 1008, "message": "no", "error_type": "override_error"}},
        )
        if not is_ready:
            await self.close(1008, "override_error")
        return is_ready

    async def _beside(self) -> None:
        while True:
            await asyncio.sleep(self.ping_every_s)
            await self.send_ping()

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        self._audio_id = next(self._event_ids)
        await self._send_audio_event(wire, self._audio_id, fields)

    async def _send_audio_event(self, wire: bytes, event_id: int, fields: dict[str, Any]) -> None:
        audio = base64.b64encode(wire).decode()
        await self._send("audio", "audio_event", **fields, audio_base_64=audio, event_id=event_id)

    async def _write_interrupt(self) -> None:
        await self._send("interruption", "interruption_event", event_id=next(self._event_ids))
        if self._audio_id:
            for _ in range(self.stale_frames):
                await self._send_audio_event(self._encode_stale(), self._audio_id, {})

    async def _send(self, event: str, inside: str, **body: Any) -> None:
        if self.has_text_ids:
            body["event_id"] = str(body["event_id"])
        await self.send_json({"type": event, inside: body})

    def _refusal(self) -> str:
        """Why the agent takes no conversation with this client data; "" if it does."""
        missing = self._account.required_variables - self.client_data.get("dynamic_variables", {}).keys()
        if missing:
            return _MISSING.format(set(missing))
        overrides = set(_paths(self.client_data.get("conversation_config_override", {})))
        if forbidden := overrides - self._account.allowed_overrides:
            return _OVERRIDE.format(min(forbidden).rpartition(".")[2])
        return ""

    async def _on_message(self, message: dict[str, Any]) -> None:
        is_first = not self._has_spoken.is_set()
        self._has_spoken.set()
        if "user_audio_chunk" in message:
            if message.keys() != {"user_audio_chunk"}:
                raise ValueError("audio with other fields beside it")
            self._receive_base64(message["user_audio_chunk"])
            return
        self.messages.append(message)
        event = message["type"]
        if event == "conversation_initiation_client_data":
            if not is_first:
                raise ValueError(f"{event} is not the first message")
            self.client_data = message
        elif event == "contextual_update":
            if not isinstance(message["text"], str):
                raise ValueError(f"the text of an update is {message['text']!r}")
            self.told += [
                Told(speaker.lower(), text)
                for speaker, text in re.findall(r"^(Agent|Caller): (.*)$", message["text"], re.MULTILINE)
            ]
        elif event == "pong":
            self._ping_ids.remove(int(message["event_id"]))
            self.pongs.append(int(message["event_id"]))
        elif event == "client_tool_result":
            result = ToolResult(message["tool_call_id"], message["result"], message["is_error"])
            self._pending_calls.remove(result.tool_call_id)
            if not isinstance(result.result, str) or not isinstance(result.is_error, bool):
                raise ValueError(f"the result of a tool is {result}")
            self.tool_results.append(result)
            self._answered.set()
        elif event not in _NOTED:
            raise ValueError(f"unknown message {event!r}")


def _paths(value: Any, path: str = "") -> Iterable[str]:
    """The dotted paths of the values in an object."""
    if not isinstance(value, dict):
        return (path,)
    return [below for name, part in value.items() for below in _paths(part, f"{path}.{name}".lstrip("."))]


class ElevenLabs(Protocol):
    """
    ``GET /v1/convai/conversation?agent_id=...``, with the key or with a signed URL.

    Without a key the agent is public and needs neither.
    """

    name = "elevenlabs"
    rest = Rest("GET", "/v1/convai/conversation/get-signed-url", 200)
    socket_path = "/v1/convai/conversation"
    formats = frozenset(FORMATS)

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._signed: dict[str, AgentSession] = {}

    def register(self, request: web.Request, body: Any, ws_url: str) -> tuple[AgentSession, dict[str, Any]]:
        """Return a signed URL, which opens one conversation."""
        self.check_header(request, "xi-api-key", self.account.key)
        session = self._new(request)
        signature = "cvtkn_" + secrets.token_hex(16)
        self._signed[signature] = session
        query = urlencode({"agent_id": session.request["agent_id"], "conversation_signature": signature})
        return session, {"signed_url": f"{ws_url}?{query}"}

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with a signed URL of this agent or with the key."""
        if signature := request.query.get("conversation_signature"):
            session = self._signed.get(signature)
            if session is None or session.request["agent_id"] != request.query.get("agent_id"):
                raise Refused(401, "the URL is not signed here")
            return session
        self.check_header(request, "xi-api-key", self.account.key)
        return self._new(request)

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the key if there is one, the agent, the socket and the REST API."""
        settings = {
            "BRIDGE_AGENT": self.name,
            "ELEVENLABS_API_KEY": self.account.key,
            "ELEVENLABS_AGENT_ID": self.agent_id,
            "ELEVENLABS_WS_URL": ws_url,
            "ELEVENLABS_API_URL": url,
        }
        return {name: value for name, value in settings.items() if value}

    def _new(self, request: web.Request) -> ElevenLabsSession:
        self.check_agent(request.query.get("agent_id"), 404)
        return ElevenLabsSession("conv_" + secrets.token_hex(10), dict(request.query), self.account)
