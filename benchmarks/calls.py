"""What surrounds the media of a call: Twilio's signed webhook and the agent's REST API."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from xml.etree import ElementTree

import aiohttp
from aiohttp import web
from twilio.request_validator import RequestValidator

from benchmarks.generator.driver import Caller

WEBHOOK_TIMEOUT_S = 15  # Twilio's own
WEBHOOKS_AT_ONCE = 32


class Refused(Exception):
    """The bridge did not take the call; the text says how it said so."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The Twilio account whose calls these are."""

    sid: str
    auth_token: str

    @classmethod
    def random(cls) -> Account:
        return cls(sid="AC" + secrets.token_hex(16), auth_token=secrets.token_hex(16))


@dataclass
class Placing:
    """The call that is being placed, where they are placed one at a time."""

    number: int = 0


@dataclass(kw_only=True)
class Webhooks:
    """
    Places calls by the webhook; ``times_ms`` and ``refusals`` tell how that went.

    With ``placing``, one at a time: it tells which, to an agent's service that is not told.
    """

    url: str
    public_url: str
    account: Account
    placing: Placing | None = None
    times_ms: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._validator = RequestValidator(self.account.auth_token)
        self._run = secrets.token_hex(12)

    async def place_calls(self, calls: int, ramp_s: float, begin: Callable[[Caller], None]) -> None:
        """Place ``calls`` calls spread over ``ramp_s``; ``begin`` gets each one that the bridge takes."""
        slots = asyncio.Semaphore(1 if self.placing else WEBHOOKS_AT_ONCE)
        started = time.monotonic()
        connector = aiohttp.TCPConnector(limit=WEBHOOKS_AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT_S)

        async def place(session: aiohttp.ClientSession, number: int) -> None:
            await asyncio.sleep(started + ramp_s * number / calls - time.monotonic())
            async with slots:
                if self.placing:
                    self.placing.number = number
                try:
                    begin(await self._place_call(session, number))
                except (Refused, aiohttp.ClientError, TimeoutError) as error:
                    self.refusals.append(f"call {number}: webhook: {str(error) or type(error).__name__}")

        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(place(session, number) for number in range(calls)))

    async def _place_call(self, session: aiohttp.ClientSession, number: int) -> Caller:
        call_sid = f"CA{self._run}{number:08x}"
        form = webhook_form(self.account.sid, call_sid)
        signature = self._validator.compute_signature(self.public_url + "/voice", form)
        before = time.perf_counter()
        headers = {"X-Twilio-Signature": signature}
        async with session.post(self.url + "/voice", data=form, headers=headers) as response:
            body = await response.text()
        self.times_ms.append((time.perf_counter() - before) * 1000)
        if response.status != 200:
            raise Refused(f"status {response.status}: {body[:100].strip()}")
        stream_url, parameters = parse_twiml(body)
        to = urlsplit(stream_url)
        at = urlsplit(self.url)
        return Caller(
            number=number,
            address="127.0.0.1" if at.hostname in (None, "localhost") else str(at.hostname),
            port=at.port or 80,
            host=to.netloc,
            path=to.path,
            signature=self._validator.compute_signature(stream_url, {}),
            account_sid=self.account.sid,
            call_sid=call_sid,
            stream_sid=f"MZ{self._run}{number:08x}",
            parameters=parameters,
        )


@dataclass(kw_only=True)
class DirectCalls:
    """Places calls at a peer, which has no webhook: at the media socket, whose path says which call it is."""

    port: int
    times_ms: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    async def place_calls(self, calls: int, ramp_s: float, begin: Callable[[Caller], None]) -> None:
        """Begin ``calls`` calls spread over ``ramp_s``."""
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


def webhook_form(account_sid: str, call_sid: str) -> dict[str, str]:
    """Return the form of an inbound call. Source: Twilio's voice webhook, as captured from a real call."""
    caller, called = "+15005550100", "+15005550006"
    place = {"City": "SAN FRANCISCO", "Country": "US", "State": "CA", "Zip": ""}
    form = {
        "AccountSid": account_sid,
        "ApiVersion": "2010-04-01",
        "CallSid": call_sid,
        "CallStatus": "ringing",
        "Called": called,
        "Caller": caller,
        "Direction": "inbound",
        "From": caller,
        "StirVerstat": "TN-Validation-Passed-A",
        "To": called,
    }
    for side in ("Called", "Caller", "From", "To"):
        form |= {side + name: value for name, value in place.items()}
    return form


def parse_twiml(body: str) -> tuple[str, Mapping[str, str]]:
    """
    Find the media URL and the parameters that the bridge wants back in ``start``.

    Raises:
        Refused: If there is no ``<Connect><Stream>``: the answer of a bridge that is full or has no agent.
    """
    try:
        stream = ElementTree.fromstring(body).find("./Connect/Stream")
    except ElementTree.ParseError as error:
        raise Refused(f"the answer is not XML: {error}") from error
    if stream is None or not stream.get("url"):
        raise Refused(f"no stream in the answer: {body[:200]}")
    parameters = {p.get("name", ""): p.get("value", "") for p in stream.findall("Parameter")}
    return stream.get("url", ""), parameters


@asynccontextmanager
async def agent_api(port: int = 0, media_url: str = "", placing: Placing | None = None) -> AsyncIterator[int]:
    """
    Serve the agents' REST APIs on 127.0.0.1; yields the port. A call id ends in the number of the call.

    Args:
        media_url: Base URL of the sockets, for a service that gives the whole URL.
        placing: Tells the number where the request does not.
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
        # The generator checks what is before the second dash; the rest makes it as long as a real one.
        token = f"load-{number}-" + secrets.token_hex(128)
        return web.json_response({"call_id": f"load-{number}", "access_token": token}, status=201)

    application = web.Application()
    application.router.add_post("/v2/create-web-call", create_web_call)
    application.router.add_post("/register-call", register_call)
    application.router.add_get("/v1/convai/conversation/get-signed-url", get_signed_url)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
