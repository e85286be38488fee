"""A voice agent service in the protocol of one vendor, for any number of calls."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import ssl as tls
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

import aiohttp
from aiohttp import web

from bridge.standins.agent.behaviours import Behaviour, conversation
from bridge.standins.agent.faults import NO_FAULTS, Faults, HttpAnswer
from bridge.standins.agent.protocols import PROTOCOLS
from bridge.standins.agent.protocols.protocol import DEFAULT_ACCOUNT, Account, Refused
from bridge.standins.agent.session import AgentSession
from bridge.standins.audio import SPOKEN, speech
from bridge.standins.inject import Injector

SESSION_TIMEOUT_S = 10.0


def sign_retell_webhook(body: bytes | str, api_key: str, now_ms: int) -> str:
    """Return the ``x-retell-signature`` of a webhook body."""
    raw = body.encode() if isinstance(body, str) else body
    digest = hmac.new(api_key.encode(), raw + str(now_ms).encode(), hashlib.sha256).hexdigest()
    return f"v={now_ms},d={digest}"


class AgentService:
    """
    Plays an agent service: its REST API, if it has one, and its socket.

    Args:
        protocol: One of ``protocols.PROTOCOLS``.
        port: 0 takes a free one; ``port`` is the real one after `start`.
        account: Access rules and audio formats.
        behaviour: The agent's part in a call.
        faults: Deliberate misbehaviour, for all calls.
        ssl: Serve https and wss.

    Attributes:
        rest_answers, upgrade_answers: Queues of the remaining answers; they begin with those of ``faults``.
        requests: The bodies of all registrations, refused ones included, or the query where there is no body.
        sessions: Calls by call id, in the order of their registration or, without one, of their socket.
        violations: Descriptions of the bridge's errors outside of a call.

    Answers may be added to the two queues while the service runs.
    """

    def __init__(
        self,
        *,
        protocol: str = "retell",
        host: str = "127.0.0.1",
        port: int = 0,
        account: Account = DEFAULT_ACCOUNT,
        behaviour: Behaviour = conversation,
        faults: Faults = NO_FAULTS,
        ssl: tls.SSLContext | None = None,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
        self.host = host
        self.port = port
        self.account = account
        self.behaviour = behaviour
        self.faults = faults
        self.rest_answers = deque(faults.rest_answers)
        self.upgrade_answers = deque(faults.upgrade_answers)
        self.requests: list[Any] = []
        self.sessions: dict[str, AgentSession] = {}
        self.violations: list[str] = []
        # Called with every call as its socket opens, before the agent sends anything.
        self.on_session: Callable[[AgentSession], None] | None = None
        self._protocol = PROTOCOLS[protocol](account)
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
        """Listen."""
        # Reading them takes a tenth of a second, which would delay the first call.
        for name in SPOKEN:
            speech(name)
        app = web.Application()
        if rest := self._protocol.rest:
            app.router.add_route(rest.method, rest.path, self._register)
        if self._protocol.socket_path:
            app.router.add_get(self._protocol.socket_path, self._upgrade)
        app.router.add_route("*", "/{path:.*}", self._not_found)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port, ssl_context=self._ssl).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Abort the remaining calls and stop listening."""
        for session in self.sessions.values():
            if session.opened.is_set() and not session.closed.is_set():
                session.abort()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def protocol(self) -> str:
        """The name of the protocol."""
        return self._protocol.name

    @property
    def url(self) -> str:
        """The base of the REST API."""
        return f"{'https' if self._ssl else 'http'}://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """The URL of the socket, without the part that names the call."""
        return f"{'wss' if self._ssl else 'ws'}://{self.host}:{self.port}{self._protocol.socket_prefix}"

    def environment(self) -> dict[str, str]:
        """Return the settings that point a bridge here; none for an agent that needs a settings file."""
        return self._protocol.environment(self.url, self.ws_url)

    async def next_session(self, timeout_s: float = SESSION_TIMEOUT_S) -> AgentSession:
        """
        Return the next call with an open socket, each call once.

        A call without a socket (SIP) counts from its registration.
        """
        async with asyncio.timeout(timeout_s):
            return await self._new.get()

    async def post_webhook(
        self, url: str, event: str, call_id: str, *, ssl: tls.SSLContext | bool = True, **call: Any
    ) -> int:
        """Post a signed webhook of Retell, and check the certificate by ``ssl``; returns the HTTP status."""
        body = json.dumps({"event": event, "call": {"call_id": call_id, **call}}).encode()
        headers = {
            "Content-Type": "application/json",
            "x-retell-signature": sign_retell_webhook(body, self.account.key, time.time_ns() // 1_000_000),
        }
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=body, headers=headers, ssl=ssl) as response,
        ):
            return response.status

    async def _register(self, request: web.Request) -> web.Response:
        rest = self._protocol.rest
        assert rest is not None
        body = await _json_of(request) if request.can_read_body else dict(request.query) or None
        self.requests.append(body)
        try:
            session, reply = self._protocol.register(request, body, self.ws_url)
        except Refused as refused:
            return self._refuse(rest.path.rpartition("/")[2], refused)
        answer = self.rest_answers.popleft() if self.rest_answers else HttpAnswer(status=rest.status)
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        if answer.body is not None or not 200 <= answer.status < 300:
            return web.Response(status=answer.status, body=answer.body or b"{}", headers=answer.headers)
        self.sessions[session.call_id] = session
        if self._protocol.socket_path is None:
            self._announce(session)
        return web.json_response(reply, status=answer.status, headers=answer.headers)

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        label = self._protocol.socket_prefix.rpartition("/")[2]
        try:
            session = self._protocol.admit(request, self.sessions)
            if session.opened.is_set():
                raise Refused(409, "opened twice for one call")
        except Refused as refused:
            return self._refuse(label, refused)
        answer = self.upgrade_answers.popleft() if self.upgrade_answers else None
        if answer is not None:
            await asyncio.sleep(answer.delay_s)
            if answer.status != 101:
                return web.Response(status=answer.status, body=answer.body or b"", headers=answer.headers)
        if self.faults.open_delay_s:
            await asyncio.sleep(self.faults.open_delay_s)
        transport = cast(asyncio.Transport, request.transport)
        socket: web.WebSocketResponse[bool] = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self.sessions.setdefault(session.call_id, session)
        session.faults = self.faults
        session.injector = Injector(self.faults.inject) if self.faults.inject else None
        self._announce(session)
        with contextlib.suppress(ConnectionError):
            await session.run(socket, transport, self.behaviour)
        return socket

    def _announce(self, session: AgentSession) -> None:
        self._new.put_nowait(session)
        if self.on_session is not None:
            self.on_session(session)

    async def _not_found(self, request: web.Request) -> web.Response:
        return self._refuse(f"{request.method} {request.path}", Refused(404, "there is no such thing here"))

    def _refuse(self, label: str, refused: Refused) -> web.Response:
        self.violations.append(f"{label}: {refused}")
        return web.json_response({"status": "error", "message": str(refused)}, status=refused.status)


async def _json_of(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except ValueError:
        return None
