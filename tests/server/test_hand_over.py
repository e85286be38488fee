"""Hand-over: the TwiML of each way, what follows it, and when an agent counts as reached."""

from __future__ import annotations

import time
from xml.etree import ElementTree

import pytest
from webhook_bench import CALL, RINGING, SETTINGS, Bench, twilio, verbs

from bridge.agents.hand_over import HandOver, SipAddress, VendorStream, VendorTwiml, VendorWebhook
from bridge.http.messages import Response
from bridge.server.hand_over import ANSWERED_S, twiml_of, was_answered
from bridge.standins.twilio.twiml import TwimlAnswer, read_twiml
from bridge.twilio.tokens import ResumeState

ACTION, STATUS = "https://h.example/voice/dialled?s=x&y", "https://h.example/stream/status"
STREAM = VendorStream("wss://vendor.example/join/1", {"caller": "+15551234567"})
TWIML = VendorTwiml('<Response><Connect><Stream url="wss://vendor.example/call"/></Connect></Response>')
ENDED = {"CallStatus": "in-progress"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


def read(how: HandOver, caller_id: str | None = None) -> TwimlAnswer:
    answer = read_twiml(200, "text/xml", twiml_of(how, ACTION, STATUS, 20, caller_id))
    assert answer.problems == []
    return answer


# TwiML


def test_sip_address_is_dialled_and_then_the_bridge_is_asked():
    text = twiml_of(SipAddress("sip:a@b;transport=tls"), ACTION, STATUS, 20, "+14155550100")
    (dial,) = ElementTree.fromstring(text)
    assert dial.attrib == {
        "action": ACTION,
        "answerOnBridge": "true",
        "callerId": "+14155550100",
        "method": "POST",
        "timeout": "20",
    }
    assert dial.findtext("Sip") == "sip:a@b;transport=tls"


def test_stream_of_a_vendor_has_its_parameters_and_then_the_bridge_is_asked():
    answer = read(STREAM)
    assert answer.verbs == ["Connect", "Redirect"]
    assert (answer.stream_url, answer.parameters) == (STREAM.url, STREAM.parameters)
    assert (answer.status_callback, answer.redirect_url) == (STATUS, ACTION)


def test_twiml_of_a_vendor_stays_as_it_is_and_then_the_bridge_is_asked():
    answer = read(
        VendorTwiml(
            '<?xml version="1.0" encoding="UTF-8"?>\n<!-- theirs --><Response><Say language="de-DE">Grüß &amp; Gott'
            '</Say><Connect><Stream url="wss://v.example"><Parameter name="a" value="&lt;&quot;"/></Stream></Connect>'
            "</Response>"
        )
    )
    assert answer.verbs == ["Say", "Connect", "Redirect"]
    assert (answer.say, answer.parameters, answer.redirect_url) == ("Grüß & Gott", {"a": '<"'}, ACTION)


def test_webhook_of_a_vendor_has_the_call_for_good():
    answer = read(VendorWebhook("https://vendor.example/twilio?a=1&b=2"))
    assert (answer.verbs, answer.redirect_url) == (["Redirect"], "https://vendor.example/twilio?a=1&b=2")


# What follows


@pytest.mark.parametrize(
    ("status", "since_s", "answered"),
    [
        ("completed", 0, True),
        ("answered", 0, True),
        ("no-answer", 3600, False),
        ("failed", 3600, False),
        ("", ANSWERED_S - 0.1, False),
        ("", ANSWERED_S, True),
    ],
)
def test_agent_was_answered_by_twilios_word_or_else_by_the_clock(status, since_s, answered):
    assert was_answered(status, since_s) is answered


def bench_of(how: HandOver) -> Bench:
    bench = Bench()
    bench.sessions.names = ("vendor", "media")
    bench.sessions.handed_over = {"vendor": how}
    return bench


async def ask(bench: Bench, query: str, **fields: str) -> Response:
    form = {**dict(RINGING), **fields}
    return await bench.webhooks.dialled(twilio("/voice/dialled", list(form.items()), query=query))


@pytest.mark.parametrize("how", [STREAM, TWIML])
async def test_vendor_whose_stream_ends_at_once_is_followed_by_the_next_agent(how):
    bench = bench_of(how)
    answer = read_twiml(
        200, "text/xml", (await bench.webhooks.voice(twilio("/voice", RINGING))).body.decode()
    )
    assert answer.verbs == ["Connect", "Redirect"]
    assert bench.calls.admitted == 0
    query = answer.redirect_url.partition("?")[2].partition("#")[0]
    assert verbs(await ask(bench, query, **ENDED)) == ["Connect", "Redirect"]
    assert bench.sessions.tried == [("vendor", "media"), ("media",)]


async def test_last_vendor_whose_stream_ends_at_once_is_followed_by_the_fallback():
    bench = bench_of(STREAM)
    state = ResumeState(CALL, 0, int(time.time()), [])
    assert verbs(await ask(bench, f"s={bench.tokens.seal_resume(state)}", **ENDED)) == ["Say", "Hangup"]


async def test_conversation_at_a_vendors_stream_is_followed_by_the_end_of_the_call():
    bench = bench_of(STREAM)
    state = ResumeState(CALL, 0, int(time.time()) - 60, ["media"])
    assert verbs(await ask(bench, f"s={bench.tokens.seal_resume(state)}", **ENDED)) == ["Hangup"]
    assert bench.asked == []


async def test_values_of_the_call_go_on_to_the_agent_after_a_hand_over():
    bench = bench_of(STREAM)
    bench.sessions.values = {"param.tenant": "7"}
    answer = await bench.webhooks.voice(twilio("/voice", RINGING, query="tenant=7"))
    redirect = ElementTree.fromstring(answer.body).findtext("Redirect")
    await ask(bench, redirect.partition("?")[2].partition("#")[0], **ENDED)
    assert [call.values.get("param.tenant") for call in bench.asked] == ["7", "7"]
