"""Answers of the user's webhook: what each field may be, and what a wrong one costs."""

import json

import orjson
import pytest

from bridge.agents.sessions import VALUES_BYTES
from bridge.server.answer import Answer, BadAnswer, read_answer

KNOWN = frozenset({"openai", "front-desk"})


def read(answer) -> Answer:
    found, idle = read_answer(json.dumps(answer).encode(), KNOWN.__contains__)
    assert idle == []
    return found


def refusal(body: bytes) -> tuple[str, str]:
    with pytest.raises(BadAnswer) as caught:
        read_answer(body, KNOWN.__contains__)
    return caught.value.kind, str(caught.value)


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ({}, Answer()),
        ({"agents": None, "values": None, "dial": None, "say": None, "reject": None}, Answer()),
        ({"reject": False}, Answer()),
        ({"agents": ["front-desk", "openai"]}, Answer(agents=("front-desk", "openai"))),
        ({"dial": "+14155550100"}, Answer(dial="+14155550100")),
        ({"dial": "sip:desk@pbx.example.com"}, Answer(dial="sip:desk@pbx.example.com")),
        (
            {"dial": "sips:+4930@pbx.example.com:5061;transport=tls?x-a=b&x-c=%20"},
            Answer(dial="sips:+4930@pbx.example.com:5061;transport=tls?x-a=b&x-c=%20"),
        ),
        ({"say": "We are closed."}, Answer(say="We are closed.")),
        ({"say": "Geschlossen.", "language": "de-DE"}, Answer(say="Geschlossen.", language="de-DE")),
        ({"say": "關門", "language": "cmn-Hant-TW"}, Answer(say="關門", language="cmn-Hant-TW")),
        ({"reject": True}, Answer(reject="rejected")),
        ({"reject": "busy"}, Answer(reject="busy")),
        ({"reject": "rejected"}, Answer(reject="rejected")),
        ({"values": {"a": "x"}, "agents": ["openai"]}, Answer(agents=("openai",), values={"a": "x"})),
    ],
)
def test_answer_is_read(answer, meaning):
    assert read(answer) == meaning


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_answer_without_a_body_leaves_the_call_to_the_routes(body):
    assert read_answer(body, KNOWN.__contains__) == (Answer(), [])


def test_values_become_texts_as_json_writes_them():
    values = {
        "name": "Zoë \x00 \N{BELL} {env.KEY}",
        "no": 7,
        "large": 2**63,
        "part": -0.5,
        "yes": True,
        "not": False,
        "gone": None,
    }
    assert read({"values": values}).values == {
        "name": "Zoë \x00 \N{BELL} {env.KEY}",
        "no": "7",
        "large": "9223372036854775808",
        "part": "-0.5",
        "yes": "true",
        "not": "false",
    }


@pytest.mark.parametrize(
    ("fields", "meaning", "idle"),
    [
        ({"dial": "+4930123456", "agents": ["openai"]}, Answer(dial="+4930123456"), ["agents"]),
        # An agent that has no effect need not be known.
        ({"agents": ["nobody"], "reject": "busy"}, Answer(reject="busy"), ["agents"]),
        ({"say": "x", "dial": "+4930123456"}, Answer(dial="+4930123456"), ["say"]),
        (
            {"agents": ["openai"], "say": "x", "dial": "+4930123456", "reject": True},
            Answer(reject="rejected"),
            ["agents", "say", "dial"],
        ),
        ({"reject": False, "agents": ["openai"]}, Answer(agents=("openai",)), []),
        ({"language": "de", "agents": ["openai"]}, Answer(agents=("openai",)), ["language"]),
        ({"agent": "openai", "note": 1, "gone": None}, Answer(), ["agent", "note"]),
        ({"a\nb" + 300 * "c": 1}, Answer(), ["a b" + 197 * "c"]),
        ({str(n): n for n in range(9)}, Answer(), ["0", "1", "2", "3", "4"]),
    ],
)
def test_fields_without_effect_are_named(fields, meaning, idle):
    assert read_answer(json.dumps(fields).encode(), KNOWN.__contains__) == (meaning, idle)


WRONG = {
    "agents": ["openai", [], ["openai", 1], [["openai"]], {"openai": 1}, 9 * ["openai"], True],
    "values": [
        *([], "x", 1, {"a": {}}, {"a": []}, {"a": {"b": "c"}}, {"": "x"}, {"a b": "x"}, {"a.b": "x"}),
        *({"é": "x"}, {65 * "a": "x"}, {"a": VALUES_BYTES * "x"}, {"a": 400 * "\x01"}),
        {str(n): 1 for n in range(65)},
    ],
    "dial": [
        *(
            "",
            "4930123456",
            "+0301234567",
            "+49",
            "+49 30 123456",
            "+" + 16 * "1",
            4930123456,
            ["+4930123456"],
        ),
        *("sip:", "sip:host", "sip:@host", "sip:me@", "sip:me@host x", "SIP:me@host", "tel:+4930123456"),
        *("http://host", 'sip:me@host"', "sip:me@host<", "sip:m e@host", "sip:me@host\n", "sip:mé@host"),
        *("sip:me@host?", "sip:me@" + 121 * "h", "sip:me@host;" + 250 * "p", "sip:me@host?" + 1024 * "x"),
        "client:me",
    ],
    "say": ["", " ", 1, ["x"], {"text": "x"}, 4097 * "x", "a\x00b", "a\x1fb", "\ufffe", True],
    "language": ["", "d", "de_DE", "de-DE;x", 1, "de\n"],
    "reject": ["", "yes", 1, 0, "Busy", ["busy"], {}],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_wrong_field_makes_the_whole_answer_wrong_and_says_what_would_be_right(name, value):
    kind, problem = refusal(json.dumps({"say": "x", name: value}).encode())
    assert kind == "wrong"
    assert problem.startswith(name)
    assert "must" in problem


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        *((body, "not_json") for body in (b"<html>", b"{", b'{"a":1,}', b"\xff", b'{"say":"\xff"}', b"NaN")),
        (b"[" * 60000, "not_json"),
        *((body, "wrong") for body in (b"null", b"[]", b'"openai"', b"1", b"true")),
        (b'{"agents":["nobody"]}', "unknown_agent"),
        (b'{"agents":["openai","nobody"],"values":{"a":"b"}}', "unknown_agent"),
        (b'{"agents":[""]}', "unknown_agent"),
    ],
)
def test_answer_that_cannot_be_followed_has_its_kind(body, kind):
    assert refusal(body)[0] == kind


def test_problem_repeats_no_value_and_breaks_no_line():
    for fields in ({"values": {"a": {"canary": 1}}}, {"dial": "canary"}, {"say": "canary\x00"}):
        assert "canary" not in refusal(json.dumps(fields).encode())[1]
    assert refusal(b'{"agents":["a\\nb"]}')[1] == "agents: unknown agent a b"


def test_answer_survives_the_way_through_the_store():
    answer = read({"agents": ["openai"], "values": {"a": "b"}})
    fields = orjson.loads(orjson.dumps({**_fields_of(answer), "added": 1}))
    assert Answer.of(fields) == answer


def _fields_of(answer: Answer) -> dict[str, object]:
    return {name: getattr(answer, name) for name in Answer.__slots__}
