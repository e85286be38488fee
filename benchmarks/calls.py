"""Places calls by Twilio's signed webhook, and serves the agents' REST APIs."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from benchmarks.generator.driver import Caller
from bridge.standins.twilio.webhook import Endpoint, post_form, sign, voice_form

WEBHOOKS_AT_ONCE = 32
CALLED = "+15005550006"
# Groups of callers, of one size each.
CALLERS = tuple(f"+1500{group}550100" for group in range(10))


class Refused(Exception):
    """The bridge refused the call; the text describes its answer."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The Twilio account of the calls."""

    sid: str
    auth_token: str

    @classmethod
    def random(cls) -> Account:
        return cls(sid="AC" + secrets.token_hex(16), auth_token=secrets.token_hex(16))


@dataclass
class Placing:
    """The number of the call in progress if calls are placed one at a time."""

    number: int = 0


@dataclass(kw_only=True)
class Webhooks:
    """
    Places calls by the webhook; ``times_ms`` and ``refusals`` record the outcome.

    With ``placing``, calls are placed one at a time. It holds the number of the present call for an agent's service
    whose requests do not contain it. ``tls`` trusts the certificate of an https URL. ``callers`` call in turn.
    """

    url: str
    public_url: str
    account: Account
    tls: ssl.SSLContext | None = None
    placing: Placing | None = None
    callers: Sequence[str] = CALLERS
    times_ms: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._endpoint = Endpoint(self.url, self.public_url)
        self._run = secrets.token_hex(12)

    async def place_calls(self, calls: int, ramp_s: float, begin: Callable[[Caller], None]) -> None:
        """Place ``calls`` calls spread over ``ramp_s``; ``begin`` is called for each call that the bridge accepts."""
        slots = asyncio.Semaphore(1 if self.placing else WEBHOOKS_AT_ONCE)
        started = time.monotonic()
        connector = aiohttp.TCPConnector(ssl=self.tls or True, limit=WEBHOOKS_AT_ONCE)

        async def place(session: aiohttp.ClientSession, number: int) -> None:
            await asyncio.sleep(started + ramp_s * number / calls - time.monotonic())
            async with slots:
                if self.placing:
                    self.placing.number = number
                try:
                    begin(await self._place_call(session, number))
                except (Refused, aiohttp.ClientError, TimeoutError) as error:
                    self.refusals.append(f"call {number}: webhook: {str(error) or type(error).__name__}")

        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(place(session, number) for number in range(calls)))

    async def _place_call(self, session: aiohttp.ClientSession, number: int) -> Caller:
        call_sid = f"CA{self._run}{number:08x}"
        form = voice_form(
            account_sid=self.account.sid,
            call_sid=call_sid,
            caller=self.callers[number % len(self.callers)],
            called=CALLED,
        )
        auth_token = self.account.auth_token
        before = time.perf_counter()
        answer = await post_form(
            session, self._endpoint, self.public_url + "/voice", form, auth_token=auth_token
        )
        self.times_ms.append((time.perf_counter() - before) * 1000)
        if answer.problems or answer.stream_url is None:
            raise Refused(f"{answer.describe()}: {answer.body[:200].strip()}")
        to = urlsplit(answer.stream_url)
        at = urlsplit(self.url)
        return Caller(
            number=number,
            address="127.0.0.1" if at.hostname in (None, "localhost") else str(at.hostname),
            port=at.port or 80,
            host=to.netloc,
            path=to.path,
            signature=sign(auth_token, answer.stream_url),
            account_sid=self.account.sid,
            call_sid=call_sid,
            stream_sid=f"MZ{self._run}{number:08x}",
            parameters=answer.parameters,
        )


@dataclass(kw_only=True)
class DirectCalls:
    """Places calls at a peer. A peer has no webhook, so the path of its media socket identifies the call."""

    port: int
    times_ms: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    async def place_calls(self, calls: int, ramp_s: float, begin: Callable[[Caller], None]) -> None:
        """Call ``begin`` for ``calls`` calls spread over ``ramp_s``."""
        started = time.monotonic()
        for number in range(calls):
            await asyncio.sleep(started + ramp_s * number / calls - time.monotonic())
            begin(
                Caller(
                    number=number,
                    address="127.0.0.1",
                    port=self.port,
                    host=f"127.0.0.1:{self.port}",
                    path=f"/media/load-{number}",
                    signature=None,
                    account_sid="AC" + "0" * 32,
                    call_sid=f"CA{number:032x}",
                    stream_sid=f"MZ{number:032x}",
                    parameters={},
                )
            )


@asynccontextmanager
async def agent_api(
    port: int = 0,
    media_url: str = "",
    placing: Placing | None = None,
    routes: Iterable[web.RouteDef] = (),
) -> AsyncIterator[int]:
    """
    Serve the agents' REST APIs on 127.0.0.1; yields the port. A call id ends in the number of the call.

    Args:
        media_url: Base URL of the sockets, for a service that returns a whole URL.
        placing: Number of the call for requests that do not contain it.
        routes: Served beside the APIs.
    """
    placed = placing or Placing()

    async def number_in(request: web.Request) -> int:
        order = await request.json()
        return int(order["metadata"]["callSid"][-8:], 16)

    async def get_signed_url(_: web.Request) -> web.Response:
        return web.json_response({"signed_url": f"{media_url}/v1/convai/conversation/load-{placed.number}"})

    async def register_call(request: web.Request) -> web.Response:
        return web.json_response({"call_id": f"load-{await number_in(request)}"}, status=201)

    async def create_web_call(request: web.Request) -> web.Response:
        number = await number_in(request)
        # The generator checks the part before the second dash; the rest gives it a real token's length.
        token = f"load-{number}-" + secrets.token_hex(128)
        return web.json_response({"call_id": f"load-{number}", "access_token": token}, status=201)

    application = web.Application()
    application.router.add_post("/v2/create-web-call", create_web_call)
    application.router.add_post("/register-call", register_call)
    application.router.add_get("/v1/convai/conversation/get-signed-url", get_signed_url)
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
