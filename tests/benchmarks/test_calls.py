"""The load's webhook side: what it signs and what it reads from the TwiML."""

from __future__ import annotations

import re

import aiohttp
import pytest

from benchmarks.calls import Refused, agent_api, parse_twiml, webhook_form
from benchmarks.generator.driver import Caller


def test_stream_url_and_parameters_are_read_as_xml() -> None:
    url, parameters = parse_twiml(
        '<?xml version="1.0"?><Response><Connect><Stream url="wss://h/media/a&amp;b">'
        '<Parameter name="token" value="x&lt;y"/><Parameter value="2" name="token1"/></Stream></Connect>'
        '<Redirect method="POST">https://h/voice/resume</Redirect></Response>'
    )
    assert url == "wss://h/media/a&b"
    assert parameters == {"token": "x<y", "token1": "2"}


@pytest.mark.parametrize("body", ['<Response><Reject reason="busy"/></Response>', "", "not XML"])
def test_answer_without_a_stream_is_a_refusal(body: str) -> None:
    with pytest.raises(Refused):
        parse_twiml(body)


def test_form_has_the_fields_that_the_bridge_must_check() -> None:
    form = webhook_form("AC1", "CA2")
    assert (form["AccountSid"], form["CallSid"]) == ("AC1", "CA2")
    # Empty values are signed too: real webhooks have them.
    assert form["ToZip"] == ""


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
