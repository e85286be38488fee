"""Retell as documented: ``register-call`` with the web and Twilio sockets, and SIP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web

from bridge.standins.agent.formats import FORMATS, MULAW, pcm
from bridge.standins.agent.protocols.protocol import Account, Protocol, Refused, Rest
from bridge.standins.agent.protocols.retell import check_variables, find_call, new_call_id
from bridge.standins.agent.protocols.retell_twilio import RetellTwilioSession
from bridge.standins.agent.session import AgentSession
from bridge.standins.audio import SAMPLE_RATE_HZ

_TEXTS = ("from_number", "to_number")


class RetellWebSession(AgentSession):
    """
    A call on the web socket: binary samples, and the texts ``clear``, ``ping`` and ``pong``.

    Attributes:
        pings: Number of ``ping`` texts from the bridge.
        wants_updates: Whether the bridge has asked for transcripts, by ``enable_update``.
        transcript: The utterances so far, each with its role.
    """

    def __init__(self, call_id: str, request: dict[str, Any], audio_format: str) -> None:
        super().__init__(call_id, request, from_caller_format=audio_format, to_caller_format=audio_format)
        self.pings = 0
        self.wants_updates = False
        self.transcript: list[tuple[str, str]] = []

    async def send_said(self, text: str, *, is_finished: bool = True) -> None:
        """Report what the agent says; the caller's turn follows once that is finished."""
        await self._update("agent", text, "user_turn" if is_finished else "agent_turn")

    async def send_heard(self, text: str, *, is_finished: bool = True) -> None:
        """Report what the caller says; the agent's turn follows once that is finished."""
        await self._update("user", text, "agent_turn" if is_finished else "user_turn")

    async def _update(self, role: str, text: str, turn: str) -> None:
        if self.transcript and self.transcript[-1][0] == role and text.startswith(self.transcript[-1][1]):
            # The utterance grows.
            self.transcript.pop()
        self.transcript.append((role, text))
        if self.wants_updates:
            lines = [{"role": role, "content": content} for role, content in self.transcript]
            await self.send_json({"event_type": "update", "transcript": lines, "turntaking": turn})

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        assert not fields, "binary audio has no fields"
        await self.send_raw(wire)

    async def _write_interrupt(self) -> None:
        await self.send_raw("clear")

    async def _on_text(self, text: str) -> None:
        if text != "ping":
            raise ValueError("a text other than ping")
        self.pings += 1
        await self.send_raw("pong")

    async def _on_binary(self, data: bytes) -> None:
        self._receive(data)


class SipCall(AgentSession):
    """A call that is registered here and then dialled over SIP; it has no socket."""


class _Registering(Protocol):
    """Base of the documented registrations."""

    def _checked(self, request: web.Request, body: Any) -> dict[str, Any]:
        self.check_header(request, "Authorization", f"Bearer {self.account.key}")
        if not isinstance(body, dict):
            raise Refused(400, "the body is not a JSON object")
        self.check_agent(body.get("agent_id"), 422)
        for name in _TEXTS:
            if not isinstance(body.get(name, ""), str):
                raise Refused(400, f"{name} is {body[name]!r}, not a text")
        if not isinstance(body.get("metadata", {}), dict):
            raise Refused(400, f"metadata is {body['metadata']!r}, not an object")
        check_variables(body)
        return body

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the REST API, and the socket if there is one."""
        settings = {
            "BRIDGE_AGENT": self.name,
            "RETELL_API_KEY": self.account.key,
            "RETELL_AGENT_ID": self.agent_id,
            "RETELL_API_URL": url,
        }
        return settings | ({"RETELL_WS_URL": ws_url} if self.socket_path else {})


class _RegisterCall(_Registering):
    """``POST /register-call``, then ``/audio-websocket/CALL_ID``; the call id is the credential."""

    rest = Rest("POST", "/register-call", 201)
    socket_path = "/audio-websocket/{call_id}"
    audio_websocket_protocol: ClassVar[str]

    def register(self, request: web.Request, body: Any, ws_url: str) -> tuple[AgentSession, dict[str, Any]]:
        """Accept a registration of supported audio."""
        body = self._checked(request, body)
        spoken = body.get("audio_websocket_protocol")
        if spoken != self.audio_websocket_protocol:
            raise Refused(
                422, f"audio_websocket_protocol is {spoken!r}, not {self.audio_websocket_protocol!r}"
            )
        encoding, rate_hz = body.get("audio_encoding"), body.get("sample_rate")
        names = {("mulaw", SAMPLE_RATE_HZ): MULAW} | {("s16le", hz): pcm(hz) for hz in FORMATS.values()}
        audio_format = names.get((encoding, rate_hz)) if type(rate_hz) is int else None
        if audio_format not in self.formats:
            raise Refused(422, f"audio of {encoding!r} at {rate_hz!r} Hz is not spoken here")
        session = self._session(new_call_id(), body, audio_format)
        return session, {**body, "call_id": session.call_id, "call_status": "registered"}

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with a registered call id."""
        return find_call(request, sessions)

    def _session(self, call_id: str, body: dict[str, Any], audio_format: str) -> AgentSession:
        raise NotImplementedError


class RetellWeb(_RegisterCall):
    """The socket for browsers, with binary samples."""

    name = "retell-web"
    audio_websocket_protocol = "web"
    formats = frozenset(FORMATS)

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        if account.from_caller_format != account.to_caller_format:
            raise ValueError("the audio format of retell-web must be the same both ways")

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with a registered call id, and note whether it wants transcripts."""
        session = super().admit(request, sessions)
        assert isinstance(session, RetellWebSession)
        session.wants_updates = request.query.get("enable_update") == "true"
        return session

    def _session(self, call_id: str, body: dict[str, Any], audio_format: str) -> AgentSession:
        return RetellWebSession(call_id, body, audio_format)

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the encoding too, unless it is mu-law."""
        settings = super().environment(url, ws_url)
        if (audio_format := self.account.from_caller_format) != MULAW:
            settings["RETELL_WEB_ENCODING"] = "s16le"
            settings["RETELL_WEB_SAMPLE_RATE"] = str(FORMATS[audio_format])
        return settings


class RetellTwilio(_RegisterCall):
    """The socket for Twilio itself, with Twilio's own messages."""

    name = "retell-twilio"
    audio_websocket_protocol = "twilio"

    def _session(self, call_id: str, body: dict[str, Any], audio_format: str) -> AgentSession:
        return RetellTwilioSession(call_id, body)


class RetellSip(_Registering):
    """``POST /v2/register-phone-call``; the audio goes over SIP and bypasses the bridge."""

    name = "retell-sip"
    rest = Rest("POST", "/v2/register-phone-call", 201)

    def register(self, request: web.Request, body: Any, ws_url: str) -> tuple[AgentSession, dict[str, Any]]:
        """Accept a registration; unknown fields are ignored."""
        body = self._checked(request, body)
        if body.get("direction", "inbound") not in ("inbound", "outbound"):
            raise Refused(400, f"direction is {body['direction']!r}, not inbound or outbound")
        session = SipCall(new_call_id(), body)
        echoed = ("metadata", "retell_llm_dynamic_variables", "direction", *_TEXTS)
        return session, {
            "call_type": "phone_call",
            "call_id": session.call_id,
            "agent_id": body["agent_id"],
            "agent_version": 0,
            "call_status": "registered",
            **{name: body[name] for name in echoed if name in body},
        }
