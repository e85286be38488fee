"""TwiML: well-formed whatever it holds, in the order that Twilio runs it."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.twilio import twiml

XML_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
)


def tags(text: str) -> list[str]:
    return [element.tag for element in ET.fromstring(text)]


def make_stream(**changes) -> str:
    return twiml.stream(
        **{
            "url": "wss://h.example/media/0",
            "parameters": {"token": "a", "token1": "b"},
            "status_callback": "https://h.example/stream/status",
            "resume_url": "https://h.example/voice/resume?s=x",
            **changes,
        }
    )


def test_stream_is_exactly_this():
    assert make_stream() == (
        '<?xml version="1.0" encoding="UTF-8"?><Response><Connect>'
        '<Stream statusCallback="https://h.example/stream/status" url="wss://h.example/media/0">'
        '<Parameter name="token" value="a" /><Parameter name="token1" value="b" />'
        "</Stream></Connect>"
        '<Redirect method="POST">https://h.example/voice/resume?s=x</Redirect></Response>'
    )


def test_announcement_comes_first_in_its_language():
    announced = make_stream(announce="This call is recorded.")
    assert tags(announced) == ["Say", "Connect", "Redirect"]
    say = ET.fromstring(announced)[0]
    assert (say.text, say.attrib) == ("This call is recorded.", {})
    say = ET.fromstring(make_stream(announce="Moin & Tach", language="de-DE"))[0]
    assert (say.text, say.attrib) == ("Moin & Tach", {"language": "de-DE"})


def test_redirect_comes_after_connect():
    assert tags(make_stream()) == ["Connect", "Redirect"]


@given(XML_TEXT, XML_TEXT, XML_TEXT, XML_TEXT)
def test_any_text_in_a_stream_is_escaped(url, name, value, resume_url):
    """Whatever the texts are, they come back from a parser as they were, and nothing else does."""
    root = ET.fromstring(make_stream(url=url, parameters={name: value}, resume_url=resume_url))
    (media,) = root.findall("./Connect/Stream")
    assert media.attrib["url"] == url
    assert [parameter.attrib for parameter in media] == [{"name": name, "value": value}]
    assert (root.findtext("Redirect") or "") == resume_url
    assert [element.tag for element in root] == ["Connect", "Redirect"]


@given(XML_TEXT)
def test_any_text_that_is_said_is_escaped(text):
    root = ET.fromstring(twiml.fallback(f"say:{text}"))
    assert [element.tag for element in root] == ["Say", "Hangup"]
    assert (root.findtext("Say") or "") == text


def test_injected_verbs_stay_text():
    text = "</Say><Dial>+15551234567</Dial><Say>"
    assert tags(twiml.fallback(f"say:{text}")) == ["Say", "Hangup"]
    assert tags(make_stream(resume_url='"/><Dial>1</Dial>')) == ["Connect", "Redirect"]


@pytest.mark.parametrize(
    ("rule", "response"),
    [
        ("say:One: two", "<Response><Say>One: two</Say><Hangup /></Response>"),
        ("dial:+15551234567", "<Response><Dial>+15551234567</Dial><Hangup /></Response>"),
        ("hangup", "<Response><Hangup /></Response>"),
    ],
)
def test_fallback_follows_the_rule_and_then_hangs_up(rule, response):
    assert twiml.fallback(rule) == '<?xml version="1.0" encoding="UTF-8"?>' + response


def test_number_that_is_shown_is_an_attribute_of_each_dial():
    for text in (
        twiml.dial("+15551234567", "+14155550100"),
        twiml.fallback("dial:+15551234567", "+14155550100"),
        twiml.dial_sip("sip:a@b", "https://h.example/voice/dialled", 20, "+14155550100"),
    ):
        assert ET.fromstring(text).find("Dial").get("callerId") == "+14155550100"
    assert "callerId" not in twiml.dial("+1") + twiml.fallback("dial:+1") + twiml.dial_sip("sip:a@b", "x", 20)


def test_text_is_said_in_its_language_and_then_the_call_ends():
    assert twiml.say("Fünf & sechs", "de-DE").endswith(
        '<Response><Say language="de-DE">Fünf &amp; sechs</Say><Hangup /></Response>'
    )
    assert twiml.say("One").endswith("<Response><Say>One</Say><Hangup /></Response>")


def test_reject_and_hangup():
    assert twiml.reject("busy").endswith('<Response><Reject reason="busy" /></Response>')
    assert twiml.reject("rejected").endswith('<Response><Reject reason="rejected" /></Response>')
    assert twiml.hangup().endswith("<Response><Hangup /></Response>")
