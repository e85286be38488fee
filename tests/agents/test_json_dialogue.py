"""The common parts of dialogues in JSON: messages that are not JSON, and the decision on a model's tool calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.agent import CallInfo, Control, Event, Ignored, Reply, StreamInfo, Transfer
from bridge.agents.json_dialogue import NOT_JSON, JsonDialogue, on_tool_call, parse, shape_of
from bridge.agents.vendors.deepgram import DeepgramDialogue
from bridge.agents.vendors.elevenlabs import ElevenLabsDialogue
from bridge.agents.vendors.retell_twilio import TwilioDialogue

# Of a message: what orjson writes, less the levels of an answer around a part of it.
MOST_LEVELS = 254 - 16
STREAM = StreamInfo(CallInfo("CA", "+1", "+2"), "AC", "MZ", {}, True)
NOT_ALLOWED = "transfers to this number are not allowed"
NOT_KNOWN = "this function is not known here"


class Echo(JsonDialogue):
    """Returns each message as it was parsed."""

    def read_fields(self, fields: Any) -> Iterable[Event]:
        return (Reply(orjson.dumps(fields)),)


def refusal(why: str) -> tuple[bytes, ...]:
    return (why.encode(),)


@pytest.mark.parametrize("text", ["null", "[]", "3", '"x"', '{"a":{"b":1}}'])
def test_any_json_value_is_parsed(text):
    assert parse(text) == parse(text.encode()) != NOT_JSON
    assert list(Echo().read(text.encode())) == [Reply(text.encode())]


@given(st.binary())
def test_any_other_bytes_are_ignored_and_counted(message):
    """Any bytes are a JSON value or ignored, never an exception."""
    (event,) = Echo().read(message)
    assert isinstance(event, Reply) or event == Ignored("not_json")
    assert (event == Ignored("not_json")) is (parse(message) is NOT_JSON)


def nested(levels: int, kinds: str) -> str:
    """A value of so many levels, arrays and objects in turn as `kinds` says, with some breadth in each array."""
    opened = [kinds[level % len(kinds)] for level in range(levels)]
    opening = "".join("[1,[],{}," if kind == "[" else '{"b":1,"a":' for kind in opened[:-2])
    inmost = "".join(reversed([{"[": "]", "{": "}"}[kind] for kind in opened[:-2]]))
    return f"{opening}[[2]]{inmost}"


@pytest.mark.parametrize("kinds", ["[", "{", "[{", "{{["])
def test_value_of_the_most_levels_is_parsed_and_a_deeper_one_is_not(kinds):
    for levels in (2, MOST_LEVELS - 1, MOST_LEVELS):
        value = parse(nested(levels, kinds))
        assert parse(nested(levels, kinds).encode()) == value != NOT_JSON
        assert orjson.loads(orjson.dumps({"item": [{"answer": value}]})) == {"item": [{"answer": value}]}
    for levels in (MOST_LEVELS + 1, 255, 1000, 1025, 5000):
        text = nested(levels, kinds)
        assert parse(text) is parse(text.encode()) is NOT_JSON
        assert list(Echo().read(text.encode())) == [Ignored("not_json")]


def test_wide_value_is_parsed_whatever_its_brackets():
    value = [[{"a": []}]] * 5000
    assert parse(orjson.dumps(value)) == value


@pytest.mark.parametrize(
    "dialogue", [ElevenLabsDialogue(), DeepgramDialogue({}), TwilioDialogue(STREAM, lambda: 1)]
)
@pytest.mark.parametrize(
    ("message", "reason"),
    [(b"{", "not_json"), (b"\xff", "not_json"), (b"[]", "unknown_type"), (b"null", "unknown_type")],
)
def test_message_of_no_meaning_is_counted_by_its_reason(dialogue, message, reason):
    assert list(dialogue.read(message)) == [Ignored(reason)]


@pytest.mark.parametrize(
    ("name", "arguments", "event"),
    [
        ("hang_up", {}, Control.HANG_UP),
        ("hang_up", {"reason": "done"}, Control.HANG_UP),
        ("transfer_call", {"to_number": "+1"}, Transfer("+1", refusal(NOT_ALLOWED))),
        ("transfer_call", {"to_number": "no number"}, Transfer("no number", refusal(NOT_ALLOWED))),
        ("transfer_call", {"to_number": 5}, Reply(NOT_KNOWN.encode())),
        ("transfer_call", {}, Reply(NOT_KNOWN.encode())),
        ("hang_up", NOT_JSON, Reply(NOT_KNOWN.encode())),
        ("hang_up", [], Reply(NOT_KNOWN.encode())),
        ("drop_tables", {}, Reply(NOT_KNOWN.encode())),
        (None, {}, Reply(NOT_KNOWN.encode())),
        (["hang_up"], {}, Reply(NOT_KNOWN.encode())),
    ],
)
def test_tool_call_is_decided_by_its_name_and_arguments(name, arguments, event):
    assert list(on_tool_call(name, arguments, refusal)) == [event]


def test_unknown_call_that_nobody_can_answer_is_counted():
    assert list(on_tool_call("x", {}, lambda why: ())) == [Ignored("unknown_function")]


@pytest.mark.parametrize("arguments", ["", "{}", "not json", "[]", None])
def test_deepgrams_model_hangs_up_whatever_the_arguments(arguments):
    function = {"id": "1", "name": "hang_up", "arguments": arguments, "client_side": True}
    request = {"type": "FunctionCallRequest", "functions": [function]}
    _, event = DeepgramDialogue({}).read(orjson.dumps(request))
    assert event is Control.HANG_UP


def test_elevenlabs_tool_may_come_without_parameters():
    call = {"tool_name": "hang_up", "tool_call_id": "1"}
    message = {"type": "client_tool_call", "client_tool_call": call}
    _, event = ElevenLabsDialogue().read(orjson.dumps(message))
    assert event is Control.HANG_UP


@pytest.mark.parametrize(
    ("message", "shape"),
    [
        (b'{"type":"speech","text":"my secret","n":1}', "type=speech keys: type, text, n"),
        (b'{"event":"a\\nb","kind":"k"}', "event=a b kind=k keys: event, kind"),
        (b'{"type":{"a":1}}', "keys: type"),
        (b"hello", "5 bytes, not JSON"),
        (b"[1]", "3 bytes, list"),
        (b'{"type":"%s"}' % (b"x" * 1000), f"type={'x' * 195}"),
    ],
)
def test_shape_of_a_message_is_bounded_and_says_nothing_of_the_call(message, shape):
    assert shape_of(message) == shape
