"""Twilio's REST API as the bridge asks it, against a stand-in that answers in Twilio's ways and in others."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from bridge.twilio.rest import REPLY_MAX_BYTES, TwilioApi

ACCOUNT = "AC" + "1" * 32
CALL = "CA" + "2" * 32
OLD, NEW = "canary-token-old", "canary-token-new"
UNAUTHORIZED = {"code": 20003, "message": "Authenticate", "status": 401}
NOT_FOUND = {"code": 20404, "message": "The requested resource was not found", "status": 404}


class Twilio:
    """Takes the changes of calls; ``answers`` are given one each, the last for ever."""

    def __init__(self) -> None:
        self.tokens = {NEW}
        self.answers: list[web.StreamResponse | str] = []
        self.asked: list[tuple[str, str, list[tuple[str, str]]]] = []
        self.headers: list[dict[str, str]] = []
        self.let_go = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = parse_qsl(await request.text(), keep_blank_values=True, strict_parsing=True)
        self.asked.append((request.method, request.path, form))
        self.headers.append(dict(request.headers))
        login = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        user, _, token = login.partition(":")
        if user != ACCOUNT or token not in self.tokens:
            return web.json_response(UNAUTHORIZED, status=401)
        answer = (
            self.answers.pop(0) if self.answers else web.json_response({"sid": CALL, "status": "in-progress"})
        )
        if answer == "hang":
            await self.let_go.wait()
        if answer == "cut off":
            request.transport.close()
        if answer == "in pieces":
            return await self.in_pieces(request)
        return answer if isinstance(answer, web.StreamResponse) else web.Response()

    async def in_pieces(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse(status=404)
        await reply.prepare(request)
        for piece in (b'{"code":204', b'04,"message":"x"}'):
            await reply.write(piece)
            await asyncio.sleep(0.05)
        return reply

    @property
    def tried(self) -> list[str]:
        """The tokens, in order."""
        logins = [headers["Authorization"].removeprefix("Basic ") for headers in self.headers]
        return [base64.b64decode(login).decode().partition(":")[2] for login in logins]


@pytest.fixture
async def twilio() -> AsyncIterator[Twilio]:
    twilio = Twilio()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", twilio.handle)
    async with TestServer(app) as server:
        twilio.url = str(server.make_url("")).rstrip("/")
        yield twilio
        twilio.let_go.set()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """As the server makes it: with a deadline of its own, which is for agents."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as session:
        yield session


@pytest.fixture
def api(twilio, http, logs):
    """Makes the API; no secret may be in the log at the end."""

    def make(
        url: str = twilio.url, account: str = ACCOUNT, tokens=(NEW,), deadline_s: float = 5.0
    ) -> TwilioApi:
        return TwilioApi(http, url, account, tokens, deadline_s)

    yield make
    text = "\n".join(logs.lines)
    for secret in (OLD, NEW, base64.b64encode(f"{ACCOUNT}:{NEW}".encode()).decode()):
        assert secret not in text


def problems(logs) -> list[str]:
    return [line for line in logs.lines if "Twilio did not change the call" in line]


async def test_hang_up_completes_the_call(api, twilio, logs):
    await api().hang_up(CALL)
    assert twilio.asked == [
        ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json", [("Status", "completed")])
    ]
    assert twilio.headers[0]["Content-Type"] == "application/x-www-form-urlencoded"
    assert twilio.tried == [NEW]
    assert problems(logs) == []


async def test_transfer_gives_the_call_another_twiml(api, twilio, logs):
    await api().transfer(CALL, "+14155550100")
    ((_, path, form),) = twilio.asked
    assert path.endswith(f"/Calls/{CALL}.json")
    ((name, text),) = form
    assert name == "Twiml"
    dial, hangup = ElementTree.fromstring(text)
    assert (dial.tag, dial.text, hangup.tag) == ("Dial", "+14155550100", "Hangup")
    assert problems(logs) == []


async def test_transfer_shows_the_callees_phone_another_number(api, twilio):
    await api().transfer(CALL, "+14155550100", "+4930123456")
    ((_, _, ((_, text),)),) = twilio.asked
    assert ElementTree.fromstring(text).find("Dial").attrib == {"callerId": "+4930123456"}


async def test_token_that_is_refused_is_followed_by_the_next(api, twilio, logs):
    await api(tokens=(OLD, NEW)).hang_up(CALL)
    assert twilio.tried == [OLD, NEW]
    assert problems(logs) == []


async def test_refusal_of_all_tokens_is_logged_once(api, twilio, logs):
    twilio.tokens.clear()
    await api(tokens=(OLD, NEW)).transfer(CALL, "+14155550100")
    assert twilio.tried == [OLD, NEW]
    (line,) = problems(logs)
    assert "WARNING" in line
    assert "problem='status 401, code 20003'" in line
    assert f"call_sid='{CALL}'" in line
    assert "asked=['Twiml']" in line


@pytest.mark.parametrize("answer", [web.json_response(NOT_FOUND, status=404), "in pieces"])
async def test_call_that_is_over_already_is_no_problem(api, twilio, logs, answer):
    twilio.answers = [answer]
    await api(tokens=(NEW, OLD)).hang_up(CALL)
    assert twilio.tried == [NEW]
    assert problems(logs) == []


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (500, b"", "status 500, code None"),
        (500, b"<html>oops</html>", "status 500, code None"),
        (503, b"[1]", "status 503, code None"),
        (404, b"null", "status 404, code None"),
        (404, b'"code"', "status 404, code None"),
        (404, b'{"code":"20404"}', "status 404, code 20404"),
        (400, b'{"code":21220,"message":"Call is not in-progress"}', "status 400, code 21220"),
        (429, b'{"code":20429}', "status 429, code 20429"),
        (500, b" " * (16 * REPLY_MAX_BYTES) + b'{"code":20404}', "status 500, code None"),
        (301, b"", "status 301, code None"),
    ],
)
async def test_refusal_is_logged_and_asked_no_second_time(api, twilio, logs, status, body, problem):
    twilio.answers = [web.Response(status=status, body=body, headers={"Location": twilio.url})]
    await api(tokens=(NEW, OLD)).hang_up(CALL)
    (line,) = problems(logs)
    assert f"problem='{problem}'" in line
    assert len(twilio.asked) == 1


async def test_answer_that_does_not_come_is_given_up_at_the_deadline(api, twilio, logs):
    twilio.answers = ["hang"]
    await api(deadline_s=0.3).hang_up(CALL)
    (line,) = problems(logs)
    assert "no answer within 0.3 s" in line


async def test_deadline_is_its_own_and_not_that_of_the_agents(api, twilio, logs):
    twilio.answers = ["hang"]
    asking = asyncio.ensure_future(api().hang_up(CALL))
    await asyncio.wait({asking}, timeout=0.2)
    assert not asking.done()
    twilio.let_go.set()
    await asking
    assert problems(logs) == []


async def test_connection_that_is_refused_or_cut_off_is_logged(api, twilio, logs):
    await api(url=f"http://127.0.0.1:{unused_port()}").hang_up(CALL)
    twilio.answers = ["cut off"] * 3
    await api().hang_up(CALL)
    refused, cut_off = problems(logs)
    assert "problem='ClientConnectorError'" in refused
    assert "problem='ServerDisconnectedError'" in cut_off


@pytest.mark.parametrize(("account", "tokens"), [("", (NEW,)), (ACCOUNT, ())])
async def test_without_an_account_nothing_is_asked(api, twilio, logs, account, tokens):
    await api(account=account, tokens=tokens).hang_up(CALL)
    assert twilio.asked == []
    (line,) = problems(logs)
    assert "no account is set" in line
