"""A voice agent service that speaks Retell's REST and audio socket; it takes any number of calls."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
import ssl as tls
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import aiohttp
from aiohttp import web

from .agent_session import AgentSession
from .audio import SPOKEN, speech
from .behaviours import Behaviour, conversation
from .inject import Injector

SESSION_TIMEOUT_S = 10.0
_EXPECTED = {"audio_websocket_protocol": "twilio", "audio_encoding": "mulaw", "sample_rate": 8000}


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """An answer in place of the usual one; without a body, a 2xx of the REST API has the usual body."""

    status: int = 201
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


def sign_retell_webhook(body: bytes | str, api_key: str, now_ms: int) -> str:
    """Return the ``x-retell-signature`` of a webhook body."""
    raw = body.encode() if isinstance(body, str) else body
    digest = hmac.new(api_key.encode(), raw + str(now_ms).encode(), hashlib.sha256).hexdigest()
    return f"v={now_ms},d={digest}"


class AgentService:
    """
    Plays Retell: ``POST /v2/create-web-call`` and ``GET /audio-websocket/CALL_ID``.

    Args:
        port: 0 takes any free one.
        key: The bearer token of the REST API.
        agent_id: The only agent there is; None takes any.
        behaviour: What the agent does in a call.
        token_characters: Length of the access tokens.
        open_delay_s: Before the upgrade of an audio socket completes.
        inject: Kind of fault in the audio that is sent.
        ssl: Serve https and wss.

    Attributes:
        rest_answers: Given first, one each, in place of the usual answer to a registration.
        upgrade_answers: Likewise for upgrades of the audio socket.
        requests: The bodies of all registrations, good and bad.
        sessions: Registered calls by call id, in order.
        faults: What the bridge did against the protocol outside of a call.

    ``behaviour``, ``open_delay_s`` and the answers may be changed while it runs.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = "key_standin",
        agent_id: str | None = "agent_standin",
        behaviour: Behaviour = conversation,
        token_characters: int = 320,
        open_delay_s: float = 0.0,
        rest_answers: Iterable[HttpAnswer] = (),
        upgrade_answers: Iterable[HttpAnswer] = (),
        inject: str | None = None,
        ssl: tls.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.key = key
        self.agent_id = agent_id
        self.behaviour = behaviour
        self.token_characters = token_characters
        self.open_delay_s = open_delay_s
        self.rest_answers = deque(rest_answers)
        self.upgrade_answers = deque(upgrade_answers)
        self.requests: list[Any] = []
        self.sessions: dict[str, AgentSession] = {}
        self.faults: list[str] = []
        # Called with every call as its socket opens, before the agent says a word.
        self.on_session: Callable[[AgentSession], None] | None = None
        self._inject = inject
        self._ssl = ssl
        self._runner: web.AppRunner | None = None
        self._new: asyncio.Queue[AgentSession] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; ``port`` is the real one afterwards."""
        # Reading them takes a tenth of a second, which must not fall into the first call.
        for name in SPOKEN:
            speech(name)
        app = web.Application()
        app.router.add_post("/v2/create-web-call", self._register)
        app.router.add_get("/audio-websocket/{call_id}", self._upgrade)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port, ssl_context=self._ssl).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Cut the calls that are left and listen no more."""
        for session in self.sessions.values():
            if session.opened.is_set() and not session.closed.is_set():
                session.abort()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The base of the REST API."""
        return f"{'https' if self._ssl else 'http'}://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """The base of the audio socket."""
        return f"{'wss' if self._ssl else 'ws'}://{self.host}:{self.port}/audio-websocket"

    def environment(self) -> dict[str, str]:
        """Return the settings that point a bridge here."""
        return {
            "BRIDGE_AGENT": "retell",
            "RETELL_API_KEY": self.key,
            "RETELL_AGENT_ID": self.agent_id or "agent_standin",
            "RETELL_API_URL": self.url,
            "RETELL_WS_URL": self.ws_url,
        }

    async def next_session(self, timeout_s: float = SESSION_TIMEOUT_S) -> AgentSession:
        """Return the next call whose audio socket opens, or has opened and was not returned before."""
        async with asyncio.timeout(timeout_s):
            return await self._new.get()

    async def post_webhook(self, url: str, event: str, call_id: str, **call: Any) -> int:
        """Post one of Retell's webhooks, signed; returns the status of the answer."""
        body = json.dumps({"event": event, "call": {"call_id": call_id, **call}}).encode()
        headers = {
            "Content-Type": "application/json",
            "x-retell-signature": sign_retell_webhook(body, self.key, time.time_ns() // 1_000_000),
        }
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=body, headers=headers) as response,
        ):
            return response.status

    async def _register(self, request: web.Request) -> web.Response:
        raw = await request.read()
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        self.requests.append(body)
        status, problem = self._judge(request, body)
        if problem:
            self.faults.append(f"create-web-call: {problem}")
            return web.json_response({"status": "error", "message": problem}, status=status)
        answer = self.rest_answers.popleft() if self.rest_answers else HttpAnswer()
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        if answer.body is not None or not 200 <= answer.status < 300:
            return web.Response(status=answer.status, body=answer.body or b"{}", headers=answer.headers)
        call_id = "call_" + secrets.token_hex(16)
        access_token = secrets.token_urlsafe(self.token_characters)[: self.token_characters]
        inject = Injector(self._inject) if self._inject else None
        self.sessions[call_id] = AgentSession(call_id, access_token, body, inject)
        return web.json_response(
            {
                "call_type": "web_call",
                "call_id": call_id,
                "access_token": access_token,
                "agent_id": body["agent_id"],
                "call_status": "registered",
                "metadata": body.get("metadata", {}),
            },
            status=answer.status,
            headers=answer.headers,
        )

    def _judge(self, request: web.Request, body: Any) -> tuple[int, str]:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return 401, "the API key is missing or wrong"
        if not isinstance(body, dict):
            return 400, "the body is not a JSON object"
        if self.agent_id is not None and body.get("agent_id") != self.agent_id:
            return 404, f"no agent {body.get('agent_id')!r}"
        for name, value in _EXPECTED.items():
            if body.get(name) != value:
                return 422, f"{name} is {body.get(name)!r}, not {value!r}"
        metadata = body.get("metadata")
        if not isinstance(metadata, dict) or not metadata.keys() >= {"callSid", "from"}:
            return 422, f"metadata is {metadata!r}; callSid and from are expected"
        return 200, ""

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        session = self.sessions.get(request.match_info["call_id"])
        if session is None:
            self.faults.append("audio-websocket: unknown call id")
            return web.Response(status=404)
        if request.headers.get("Authorization") != f"Bearer {session.access_token}":
            self.faults.append("audio-websocket: the access token is missing or wrong")
            return web.Response(status=401)
        if session.opened.is_set():
            self.faults.append("audio-websocket: opened twice for one call")
            return web.Response(status=409)
        answer = self.upgrade_answers.popleft() if self.upgrade_answers else None
        if answer is not None:
            await asyncio.sleep(answer.delay_s)
            if answer.status != 101:
                return web.Response(status=answer.status, body=answer.body or b"", headers=answer.headers)
        if self.open_delay_s:
            await asyncio.sleep(self.open_delay_s)
        transport = cast(asyncio.Transport, request.transport)
        socket: web.WebSocketResponse[bool] = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self._new.put_nowait(session)
        if self.on_session is not None:
            self.on_session(session)
        with contextlib.suppress(ConnectionError):
            await session.run(socket, transport, self.behaviour)
        return socket
