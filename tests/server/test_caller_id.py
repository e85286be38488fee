"""Caller id: which number a dialled party is shown, and in which TwiML."""

from xml.etree import ElementTree

import pytest
from webhook_bench import CALL, RINGING, SETTINGS, Bench, parameters_of, twilio

from bridge.agents.agent import CallInfo
from bridge.call.ends import Outcome
from bridge.server.caller_id import WITHHELD, caller_id
from bridge.twilio.rest import TwilioApi

OWN, CALLED, SET = "+15551234567", "+14155550100", "+4930123456"
WITHOUT_NUMBER = ["", "client:alice", "sip:bob@office.example", "anonymous", "+1555", *sorted(WITHHELD)]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("callers", "called", "default", "shown"),
    [
        ([OWN], CALLED, "", None),
        ([OWN], CALLED, SET, None),
        ([OWN], "client:app", SET, None),
        (WITHOUT_NUMBER, CALLED, "", CALLED),
        (WITHOUT_NUMBER, CALLED, SET, SET),
        (WITHOUT_NUMBER, "sip:desk@office.example", SET, SET),
        (WITHOUT_NUMBER, "sip:desk@office.example", "", None),
        (WITHOUT_NUMBER, "", "", None),
    ],
)
def test_number_is_shown_only_in_place_of_one_that_the_caller_has_not(callers, called, default, shown):
    for caller in callers:
        assert caller_id(CallInfo(CALL, caller, called), default) == shown, caller


def dial_of(text: str) -> dict[str, str]:
    """The attributes of the TwiML's Dial."""
    (dial,) = ElementTree.fromstring(text).iter("Dial")
    return dial.attrib


def request(path: str, caller: str, query: str = "", **fields: str):
    form = {**dict(RINGING), "From": caller, "To": CALLED, "CallStatus": "in-progress", **fields}
    return twilio(path, list(form.items()), query=query)


CALLERS = pytest.mark.parametrize(("caller", "shown"), [(OWN, None), ("client:alice", CALLED)])


@CALLERS
async def test_operators_fallback_shows_it(caller, shown):
    bench = Bench(BRIDGE_FALLBACK="dial:+4930999999")
    bench.calls.stop_admitting()
    response = await bench.webhooks.voice(request("/voice", caller))
    assert dial_of(response.body).get("callerId") == shown


@CALLERS
async def test_dialled_agent_is_shown_it(caller, shown):
    bench = Bench()
    bench.sessions.names, bench.sessions.dialled = ("sip",), {"sip"}
    response = await bench.webhooks.voice(request("/voice", caller))
    assert dial_of(response.body).get("callerId") == shown


@CALLERS
async def test_transfer_by_the_webhook_after_the_socket_shows_it(caller, shown):
    bench = Bench()
    answer = await bench.webhooks.voice(request("/voice", caller))
    bench.calls.finish(CALL, Outcome.TRANSFERRED, 0.0, "+4930999999")
    query = ElementTree.fromstring(answer.body).findtext("Redirect").partition("?")[2].partition("#")[0]
    assert parameters_of(answer)
    response = await bench.webhooks.resume(request("/voice/resume", caller, query))
    assert dial_of(response.body).get("callerId") == shown


async def test_operators_number_wins_over_the_called_one():
    bench = Bench(BRIDGE_FALLBACK="dial:+4930999999", BRIDGE_CALLER_ID=SET)
    bench.calls.stop_admitting()
    response = await bench.webhooks.voice(request("/voice", "client:alice"))
    assert dial_of(response.body)["callerId"] == SET


@CALLERS
async def test_transfer_by_the_rest_api_shows_it(live_server, monkeypatch, caller, shown):
    asked: list[str] = []

    async def change(api, call_sid, form):
        asked.append(form["Twiml"])

    monkeypatch.setattr(TwilioApi, "_change", change)
    live = await live_server(agent={"protocol": "openai"}, BRIDGE_TRANSFER_TO="+4930")
    async with live.bridged(caller=caller, called=CALLED) as (phone, session):
        await session.send_function_call("transfer_call", {"to_number": "+4930999999"})
        await phone.closed.wait()
        assert [dial_of(text).get("callerId") for text in asked] == [shown]


def test_number_of_the_route_is_shown_for_every_caller():
    for caller in (OWN, *WITHOUT_NUMBER):
        assert caller_id(CallInfo(CALL, caller, CALLED), "+15550001111", SET) == SET
