"""Webhooks that are sent again, as the connection overrides in their URLs say."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from bridge.standins.twilio.webhook import Endpoint, post_form, sign

PUBLIC_URL = "https://voice.example.com"
TWIML = "<Response><Hangup/></Response>"


class Answers:
    """Answers with these statuses in turn; the last one stays."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.requests: list[web.Request] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, text=TWIML, content_type="text/xml")


@contextlib.asynccontextmanager
async def served(answers: Answers, port: int | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/voice", answers.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port or 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def post(url: str, fragment: str = ""):
    async with aiohttp.ClientSession() as session:
        public = f"{PUBLIC_URL}/voice?s=x{fragment}"
        return await post_form(
            session, Endpoint(url, PUBLIC_URL), public, {"CallSid": "CA1"}, auth_token="auth"
        )


@pytest.mark.parametrize(
    ("fragment", "statuses", "requests", "status"),
    [
        ("", (503, 200), 1, 503),
        ("#rc=2&rp=5xx", (503, 200), 2, 200),
        ("#rc=2&rp=5xx", (503, 502, 200), 3, 200),
        ("#rc=2&rp=5xx", (503,), 3, 503),
        ("#rc=2&rp=5xx", (403, 200), 1, 403),
        ("#rc=2&rp=ct,4xx", (403, 200), 2, 200),
        ("#rc=1&rp=all", (500, 200), 2, 200),
        ("#rc=0&rp=all", (500, 200), 1, 500),
    ],
)
async def test_failed_request_is_sent_again_by_count_and_policy(fragment, statuses, requests, status):
    answers = Answers(*statuses)
    async with served(answers) as url:
        assert (await post(url, fragment)).status == status
    assert len(answers.requests) == requests


async def test_fragment_is_neither_sent_nor_signed():
    answers = Answers(200)
    async with served(answers) as url:
        await post(url, "#rc=2")
    (request,) = answers.requests
    assert request.raw_path == "/voice?s=x"
    assert request.headers["X-Twilio-Signature"] == sign(
        "auth", f"{PUBLIC_URL}/voice?s=x", {"CallSid": "CA1"}
    )


@pytest.mark.parametrize("fragment", ["", "#rc=2&rp=ct"])
async def test_refused_connection_is_tried_again(fragment, monkeypatch):
    answers = Answers(200)
    port = unused_port()
    tries: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        connect = aiohttp.TCPConnector.connect

        async def connect_later(connector, request, *arguments, **named):
            tries.append(request.url.path)
            if len(tries) == 2:
                await stack.enter_async_context(served(answers, port))
            return await connect(connector, request, *arguments, **named)

        monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect_later)
        assert (await post(f"http://127.0.0.1:{port}", fragment)).status == 200
    assert len(tries) == 2


async def test_connection_that_stays_refused_is_an_error():
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(f"http://127.0.0.1:{unused_port()}", "#rc=1&rp=ct")


@pytest.mark.parametrize(
    ("fragment", "problem"),
    [
        ("#rc=2&rp=sometimes", "11243: 'sometimes' is no retry policy"),
        ("#rc=6", "11200: the override rc=6 is not from 0 to 5"),
        ("#ct=50", "11200: the override ct=50 is not from 100 to 10000"),
        ("#tt=x", "11200: the override tt=x is not from 100 to 15000"),
    ],
)
async def test_bad_overrides_are_an_error_of_twilios(fragment, problem):
    async with served(Answers(200)) as url:
        assert (await post(url, fragment)).problems == [problem]
