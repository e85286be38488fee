"""TwiML of a vendor: what is taken from a reply, and what would end the call at Twilio."""

import json

import pytest

from bridge.agents.agent import SessionError
from bridge.agents.places import path_of
from bridge.agents.vendor_twiml import NESTED_MAX, TWIML_MAX_BYTES, vendor_twiml
from bridge.twilio import twiml

TWIML = (
    '<Response><Connect><Stream url="wss://v.example/1"><Parameter name="ü"/></Stream></Connect></Response>'
)
DECLARED = f'<?xml version="1.0" encoding="UTF-8"?>\n{TWIML}'


@pytest.mark.parametrize(
    ("reply", "path", "text"),
    [
        (TWIML, "", TWIML),
        (DECLARED, "", DECLARED),
        (f"\ufeff{DECLARED}\n", "", DECLARED),
        (f"\n  {DECLARED}", "", DECLARED),
        (json.dumps(TWIML), "", TWIML),
        (json.dumps({"twiml": DECLARED}), "twiml", DECLARED),
        (json.dumps({"id": 1, "details": {"twiml": f" {TWIML}"}}), "details.twiml", TWIML),
        (json.dumps({"parts": [{}, {"twiml": TWIML}]}), "parts[1].twiml", TWIML),
        ("<Response/>", "", "<Response/>"),
    ],
)
def test_twiml_is_the_reply_or_stands_in_its_json(reply, path, text):
    assert vendor_twiml(reply.encode(), path_of(path) if path else None) == text


def nested(levels: int) -> bytes:
    return b"<Response>" + (levels - 1) * b"<a>" + (levels - 1) * b"</a>" + b"</Response>"


def long(size: int) -> bytes:
    return b"<Response>" + (size - 21) * b"x" + b"</Response>"


@pytest.mark.parametrize(
    ("reply", "path", "reason"),
    [
        (b"", "", "reply is not TwiML: no element found"),
        (b"sorry", "", "reply is not TwiML: syntax error"),
        (b"<Response>", "", "reply is not TwiML: no element found"),
        (b"<Response/><Response/>", "", "reply is not TwiML: junk after document element"),
        (b"<Response>\x07</Response>", "", "reply is not TwiML: not well-formed"),
        (b"<Response>&x;</Response>", "", "reply is not TwiML: undefined entity"),
        (b"\xff\xfe<\0", "", "reply is not TwiML"),
        (b"<html><body/></html>", "", "the root of the reply's XML is not <Response>"),
        (b"<response/>", "", "the root of the reply's XML is not <Response>"),
        (b'<!DOCTYPE Response [<!ENTITY a "aa">]><Response>&a;</Response>', "", "TwiML with a document type"),
        (nested(NESTED_MAX + 1), "", f"TwiML of more than {NESTED_MAX} levels"),
        (nested(20_000), "", f"TwiML of more than {TWIML_MAX_BYTES} bytes"),
        (nested(2_000), "", f"TwiML of more than {NESTED_MAX} levels"),
        (long(TWIML_MAX_BYTES + 1), "", f"TwiML of more than {TWIML_MAX_BYTES} bytes"),
        (b"<Response/>", "twiml", "reply is not JSON"),
        (b'"', "", "reply is not JSON"),
        (b"{}", "twiml", "reply has no TwiML at twiml"),
        (b'{"a":[1]}', "a.twiml", "reply has no TwiML at a.twiml"),
        (b'{"a":{"twiml":5}}', "a.twiml", "reply has no TwiML at a.twiml"),
        (b"[]", "a", "reply has no TwiML at a"),
        (b'{"twiml":"<Respons/>"}', "twiml", "the root of the reply's XML is not <Response>"),
        (b'{"twiml":"\\ud800"}', "twiml", "reply is not JSON"),
    ],
)
def test_reply_that_twilio_would_refuse_is_refused_with_the_reason(reply, path, reason):
    with pytest.raises(SessionError) as caught:
        vendor_twiml(reply, path_of(path) if path else None)
    assert reason in str(caught.value)


@pytest.mark.parametrize("reply", [nested(NESTED_MAX), long(TWIML_MAX_BYTES)])
def test_most_that_is_taken_leaves_room_for_what_the_bridge_adds(reply):
    answer = twiml.followed_by(vendor_twiml(reply, None), "https://h.example/voice/dialled?s=" + 3000 * "x")
    assert len(answer.encode()) <= 64 * 1024
    assert answer.endswith("</Redirect></Response>")
