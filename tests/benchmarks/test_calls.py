"""The load's webhook side: refusals, the generator's line of a call, the agents' REST APIs."""

from __future__ import annotations

import re

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.calls import Account, Webhooks, agent_api
from benchmarks.generator.driver import Caller


@pytest.mark.parametrize(
    "body", ['<Response><Reject reason="busy"/></Response>', "<Response><Connect/></Response>", "", "not XML"]
)
async def test_answer_without_a_stream_is_a_refusal(body: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type="text/xml")

    application = web.Application()
    application.router.add_post("/voice", answer)
    begun: list[Caller] = []
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        webhooks = Webhooks(url=url, public_url=url, account=Account.random())
        await webhooks.place_calls(1, 0, begun.append)
    assert not begun
    assert [refusal.partition(": ")[0] for refusal in webhooks.refusals] == ["call 0"]


def caller(**changes: object) -> Caller:
    fields: dict[str, object] = {
        "number": 7,
        "address": "127.0.0.1",
        "port": 3000,
        "host": "voice.example.com",
        "path": "/media/x",
        "signature": None,
        "account_sid": "AC1",
        "call_sid": "CA1",
        "stream_sid": "MZ1",
        "parameters": {"token": "a\tb"},
    }
    return Caller(**{**fields, **changes})  # type: ignore[arg-type]


def test_caller_line_has_ten_fields_and_escapes_in_json() -> None:
    fields = caller().to_line().rstrip("\n").split("\t")
    assert len(fields) == 10
    assert fields[5] == "-"
    assert fields[9] == '{"token":"a\\tb"}'


def test_caller_line_refuses_a_tab() -> None:
    with pytest.raises(ValueError, match="tab"):
        caller(path="/media/x\ty").to_line()


async def test_agent_api_puts_the_call_number_into_the_session() -> None:
    async with agent_api() as port, aiohttp.ClientSession() as session:
        order = {"agent_id": "a", "metadata": {"callSid": "CA" + "0" * 29 + "01f"}}
        async with session.post(f"http://127.0.0.1:{port}/v2/create-web-call", json=order) as response:
            answer = await response.json()
            assert response.status == 201
    assert answer["call_id"] == "load-31"
    assert re.fullmatch(r"load-31-[0-9a-f]{256}", answer["access_token"])
