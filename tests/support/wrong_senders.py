"""What wrong set-ups send to a bridge: requests, upgrades, streams and other bytes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web
from certificates import distrust
from live import ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL, Live, random_call_sid, soon
from live_raw import connected, upgrade_request
from multidict import CIMultiDict

from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.twilio.caller import Caller
from bridge.standins.twilio.webhook import FORM_TYPE, sign, voice_form

Sender = Callable[[Live], Awaitable[None]]
Before = Callable[[Live, Caller], Awaitable[None]]
OTHER_TOKEN = "canary-other-token-11"
OTHER_ACCOUNT = "AC" + 32 * "b"


def form_of(**fields: str) -> dict[str, str]:
    """The form of a call; ``fields`` replace its own."""
    numbers = {"caller": "+14155550123", "called": "+14155550100"}
    return {**voice_form(account_sid=ACCOUNT_SID, call_sid=random_call_sid(), **numbers), **fields}


def webhook(
    asked: str = f"{PUBLIC_URL}/voice",
    path: str = "/voice",
    *,
    method: str = "POST",
    token: str = AUTH_TOKEN,
    form: Mapping[str, str] | None = None,
    body: bytes | None = None,
    signatures: int = 1,
    **headers: str,
) -> Sender:
    """
    A webhook of Twilio's.

    Args:
        asked: The URL that Twilio knows and signs; its host is the header Host.
        path: As it arrives.
        body: In place of the signed form.
        signatures: How often its header arrives.
        headers: More of them, or others, with _ for -.
    """

    async def send(live: Live) -> None:
        fields = form_of() if form is None else form
        host = asked.partition("://")[2].partition("/")[0]
        sent = CIMultiDict({"Host": host, "Content-Type": FORM_TYPE})
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        for _ in range(signatures):
            sent.add("X-Twilio-Signature", sign(token, asked, fields))
        data = urlencode(fields).encode() if body is None else body
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, live.url + path, data=data, headers=sent, ssl=live.ssl) as response,
        ):
            assert response.status >= 400

    return send


def get(path: str, **headers: str) -> Sender:
    """A GET that is refused; in ``headers``, _ stands for -."""

    async def send(live: Live) -> None:
        status, _ = await live.get(path, **{name.replace("_", "-"): value for name, value in headers.items()})
        assert status >= 400

    return send


def upgrade(change: Callable[[str], str] = str, *, token: str = AUTH_TOKEN, **headers: str) -> Sender:
    """
    The upgrade of a call's media socket.

    Args:
        change: Of the URL that Twilio asks for and signs.
        headers: More of them, or others, with _ for -.
    """

    async def send(live: Live) -> None:
        async with live.answered() as caller:
            url = change(_stream_url(caller))
            signature = sign(token, url)
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            arriving = url.replace("ws://", "wss://")
            with contextlib.suppress(aiohttp.WSServerHandshakeError):
                await caller.open_stream(arriving, signature=signature, headers=fields)
                raise AssertionError("the upgrade was accepted")

    return send


def raw_upgrade(*changes: tuple[bytes, bytes]) -> Sender:
    """The upgrade of a call's media socket, with bytes of it replaced."""

    async def send(live: Live) -> None:
        async with live.answered() as caller, connected(live.server.port) as socket:
            request = upgrade_request(caller)
            for before, after in changes:
                assert before in request
                request = request.replace(before, after)
            await socket.send(request)
            assert (await soon(socket.reader.readline())).startswith(b"HTTP/1.1 4")
            await socket.gone()

    return send


def stream(
    parameters: Mapping[str, str] | None = None, *, before: Before | None = None, **changed: Any
) -> Sender:
    """
    A media socket that opens, and whose ``start`` is refused.

    Args:
        parameters: In place of those of the TwiML.
        before: What happens between the TwiML and its socket; of the call whose TwiML it is.
        changed: Fields of ``start``.
    """

    async def send(live: Live) -> None:
        async with live.answered() as caller, live.caller(call_sid=caller.call_sid) as other:
            assert caller.answer is not None
            other.answer = caller.answer
            if before is not None:
                await before(live, caller)
            await other.open_stream(greet=False)
            await other.send_raw(other.writer.connected())
            given = other.answer.parameters if parameters is None else parameters
            await other.send_raw(other.writer.start(given, **changed))
            await soon(other.closed.wait())
            assert other.close_code == 1008

    return send


async def opened(live: Live, caller: Caller) -> None:
    """The call gets its media socket."""
    await caller.open_stream()
    await live.session_of(caller)


async def over(live: Live, caller: Caller) -> None:
    """The call gets its media socket, and the caller hangs up."""
    await opened(live, caller)
    await caller.send_stop()
    await soon(caller.closed.wait())


async def answered_again(live: Live, caller: Caller) -> None:
    """Twilio finds the socket gone before its ``start``, and is given another one."""
    await caller.follow_redirect()


async def stream_with_the_token_of_another_call(live: Live) -> None:
    """One TwiML's parameters at the address of another one's socket."""
    async with live.answered() as other:
        assert other.answer is not None
        await stream(other.answer.parameters)(live)


async def no_stream(live: Live) -> None:
    """A call whose media socket never comes."""
    async with live.answered():
        async with asyncio.timeout(10):
            while live.admitted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def stream_error(live: Live) -> None:
    """Twilio's report that it could not open the media socket."""
    async with live.answered() as caller:
        await caller.post_stream_status("stream-error", "31920 - Stream - WebSocket - Handshake Error")


def raw(data: bytes) -> Sender:
    """Bytes that are no request."""

    async def send(live: Live) -> None:
        async with connected(live.server.port) as socket:
            await socket.send(data)
            await socket.gone()

    return send


async def hello_of_tls(live: Live) -> None:
    """A client that speaks TLS to a port without it."""
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await soon(asyncio.open_connection("127.0.0.1", live.server.port, ssl=ssl.create_default_context()))


async def distrusts(live: Live) -> None:
    """A client that knows nothing of the authority of the bridge's certificate."""
    await asyncio.to_thread(distrust, live.server.port)


def agent_refuses(status: int, *, at_upgrade: bool = False) -> Sender:
    """A call whose agent's service refuses the session, or its socket."""

    async def send(live: Live) -> None:
        answers = live.agent.upgrade_answers if at_upgrade else live.agent.rest_answers
        answers.append(HttpAnswer(status=status))
        async with live.caller() as caller:
            await caller.post_voice()
            if at_upgrade:
                await caller.open_stream()
                await soon(caller.closed.wait())

    return send


async def call(live: Live) -> None:
    """A call that gets its TwiML, whatever it is."""
    async with live.caller() as caller:
        await caller.post_voice()


@contextlib.asynccontextmanager
async def answer_webhook(**answer: Any) -> AsyncIterator[str]:
    """A webhook of the user's own that gives always the same answer; yields its address."""

    async def handle(request: web.Request) -> web.Response:
        return web.Response(**answer)

    app = web.Application()
    app.router.add_route("*", "/answer", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/answer"
    finally:
        await runner.cleanup()


def _stream_url(caller: Caller) -> str:
    assert caller.answer is not None and caller.answer.stream_url is not None
    return caller.answer.stream_url
