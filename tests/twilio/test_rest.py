"""Twilio's REST API as the bridge asks it, against a stand-in that answers in Twilio's ways and in others."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from xml.etree import ElementTree

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from bridge.standins.twilio.rest import Account, TwilioRest
from bridge.twilio.rest import REPLY_MAX_BYTES, TwilioApi
from bridge.twilio.rest_request import RestAccount

ACCOUNT = "AC" + "1" * 32
CALL = "CA" + "2" * 32
OLD, NEW = "canary-token-old", "canary-token-new"
KEY, SECRET = "SK" + "3" * 32, "canary-secret"


@pytest.fixture
async def twilio() -> AsyncIterator[TwilioRest]:
    async with TwilioRest(Account(sid=ACCOUNT, auth_tokens=[NEW], keys={KEY: SECRET})) as twilio:
        twilio.add_call(CALL)
        yield twilio
    assert twilio.violations == []


def tried(twilio: TwilioRest) -> list[str]:
    """The passwords, in order."""
    return [asked.password for asked in twilio.asked]


class Held:
    """An answer that comes once it is let go."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        await self.let_go.wait()
        return web.json_response({})


async def cut_off(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def in_pieces(request: web.Request) -> web.StreamResponse:
    reply = web.StreamResponse(status=404)
    await reply.prepare(request)
    for piece in (b'{"code":204', b'04,"message":"x"}'):
        await reply.write(piece)
        await asyncio.sleep(0.05)
    return reply


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """As the server makes it: with a deadline of its own, which is for agents."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.05)) as session:
        yield session


@pytest.fixture
def api(twilio, http, logs):
    """Makes the API; no secret may be in the log at the end."""

    def make(url: str = twilio.url, tokens=(NEW,), key=(), deadline_s: float = 5.0) -> TwilioApi:
        logins = [key] if key else [(ACCOUNT, token) for token in tokens]
        return TwilioApi(http, RestAccount(url, ACCOUNT, logins), deadline_s)

    yield make
    text = "\n".join(logs.lines)
    for secret in (OLD, NEW, SECRET, base64.b64encode(f"{ACCOUNT}:{NEW}".encode()).decode()):
        assert secret not in text


def problems(logs) -> list[str]:
    return [line for line in logs.lines if "Twilio did not change the call" in line]


async def test_hang_up_completes_the_call(api, twilio, logs):
    await api().hang_up(CALL)
    (asked,) = twilio.asked
    assert (asked.method, asked.path) == ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json")
    assert asked.form == {"Status": "completed"}
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert tried(twilio) == [NEW]
    assert twilio.calls[CALL]["status"] == "completed"
    assert problems(logs) == []


async def test_transfer_gives_the_call_another_twiml(api, twilio, logs):
    await api().transfer(CALL, "+14155550100")
    (asked,) = twilio.asked
    assert asked.path.endswith(f"/Calls/{CALL}.json")
    dial, hangup = ElementTree.fromstring(asked.form.pop("Twiml"))
    assert asked.form == {}
    assert (dial.tag, dial.text, hangup.tag) == ("Dial", "+14155550100", "Hangup")
    assert problems(logs) == []


async def test_transfer_shows_the_callees_phone_another_number(api, twilio):
    await api().transfer(CALL, "+14155550100", "+4930123456")
    (asked,) = twilio.asked
    assert ElementTree.fromstring(asked.form["Twiml"]).find("Dial").attrib == {"callerId": "+4930123456"}


async def test_recording_has_a_channel_for_each_side(api, twilio, logs):
    sid = await api().record(CALL)
    (asked,) = twilio.asked
    assert (asked.method, asked.path) == (
        "POST",
        f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}/Recordings.json",
    )
    assert asked.form == {"RecordingChannels": "dual"}
    assert (twilio.recordings[sid]["call_sid"], twilio.recordings[sid]["channels"]) == (CALL, 2)
    assert logs.lines == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (web.json_response({"code": 21220}, status=400), "status 400, code 21220"),
        (web.json_response({"code": 20404}, status=404), "status 404, code 20404"),
        (web.json_response({"sid": "RE1"}, status=201), "status 201, code None"),
        (web.json_response({"sid": 1}, status=201), "status 201, code None"),
        (web.Response(status=201), "status 201, code None"),
    ],
)
async def test_recording_that_does_not_begin_is_logged(api, twilio, logs, answer, problem):
    twilio.answers = [answer]
    assert await api().record(CALL) == ""
    (line,) = logs.lines
    assert "WARNING" in line
    assert "Twilio does not record the call" in line
    assert f"problem='{problem}'" in line


async def test_key_takes_the_place_of_the_auth_token(api, twilio, logs):
    await api(key=(KEY, SECRET)).hang_up(CALL)
    (asked,) = twilio.asked
    assert (asked.user, asked.password) == (KEY, SECRET)
    assert f"/Accounts/{ACCOUNT}/" in asked.path
    assert twilio.calls[CALL]["status"] == "completed"
    assert problems(logs) == []


async def test_token_that_is_refused_is_followed_by_the_next(api, twilio, logs):
    await api(tokens=(OLD, NEW)).hang_up(CALL)
    assert tried(twilio) == [OLD, NEW]
    assert problems(logs) == []


async def test_refusal_of_all_tokens_is_logged_once(api, twilio, logs):
    twilio.account.auth_tokens.clear()
    await api(tokens=(OLD, NEW)).transfer(CALL, "+14155550100")
    assert tried(twilio) == [OLD, NEW]
    (line,) = problems(logs)
    assert "WARNING" in line
    assert "problem='status 401, code 20003'" in line
    assert f"call_sid='{CALL}'" in line
    assert "asked=['Twiml']" in line


@pytest.mark.parametrize("status", ["completed", "canceled", "no-answer"])
async def test_finished_call_needs_no_end(api, twilio, logs, status):
    twilio.calls[CALL]["status"] = status
    await api(tokens=(NEW, OLD)).hang_up(CALL)
    assert tried(twilio) == [NEW]
    assert problems(logs) == []


@pytest.mark.parametrize("answer", [None, in_pieces])
async def test_call_that_is_not_there_is_no_problem(api, twilio, logs, answer):
    twilio.calls.clear()
    twilio.answers = [answer] if answer else []
    await api(tokens=(NEW, OLD)).hang_up(CALL)
    assert tried(twilio) == [NEW]
    assert problems(logs) == []


async def test_transfer_of_a_finished_call_is_logged(api, twilio, logs):
    twilio.calls[CALL]["status"] = "completed"
    await api().transfer(CALL, "+14155550100")
    (line,) = problems(logs)
    assert "problem='status 400, code 21220'" in line


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (500, b"", "status 500, code None"),
        (500, b"<html>oops</html>", "status 500, code None"),
        (503, b"[1]", "status 503, code None"),
        (404, b"null", "status 404, code None"),
        (404, b'"code"', "status 404, code None"),
        (404, b'{"code":"20404"}', "status 404, code None"),
        (500, b'{"code":20404}', "status 500, code 20404"),
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
    held = Held()
    twilio.answers = [held]
    await api(deadline_s=0.3).hang_up(CALL)
    held.let_go.set()
    (line,) = problems(logs)
    assert "no answer within 0.3 s" in line


async def test_deadline_is_its_own_and_not_that_of_the_agents(api, twilio, logs):
    held = Held()
    twilio.answers = [held]
    asking = asyncio.ensure_future(api().hang_up(CALL))
    await asyncio.wait({asking}, timeout=0.2)
    assert not asking.done()
    held.let_go.set()
    await asking
    assert problems(logs) == []


async def test_connection_that_is_refused_or_cut_off_is_logged(api, twilio, logs):
    await api(url=f"http://127.0.0.1:{unused_port()}").hang_up(CALL)
    twilio.answers = [cut_off] * 3
    await api().hang_up(CALL)
    refused, cut = problems(logs)
    assert "problem='ClientConnectorError'" in refused
    assert "problem='ServerDisconnectedError'" in cut


async def test_without_an_account_nothing_is_asked(api, twilio, logs):
    await api(tokens=()).hang_up(CALL)
    assert twilio.asked == []
    (line,) = problems(logs)
    assert "no account is set" in line
