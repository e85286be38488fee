"""The dialogue of an agent in a table: the meaning of its messages, and the messages to it."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.agent import (
    MULAW_8K,
    Audio,
    AudioFormat,
    CallInfo,
    Control,
    Failed,
    Ignored,
    Reply,
    StreamInfo,
    Transfer,
    Troubled,
    Turn,
    Warned,
)
from bridge.agents.described import Description
from bridge.agents.described_dialogue import DescribedDialogue
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.turns import HeardTurn

CALL = CallInfo("CA" + "2" * 32, "+15551234567", "+14155550100")
STREAM_SID = "MZ" + "4" * 32
PAYLOAD = base64.b64encode(bytes(range(160))).decode()
TABLE: dict[str, Any] = {
    "url": "wss://h",
    "to_agent": '{"audio":"{audio}"}',
    "from_agent": {"path": "body.b64", "equal": {"type": "audio"}, "absent_or_equal": {"rate": 8000}},
}
BINARY = {"url": "wss://h", "binary": True}
# Names that try to leave their place in a JSON text.
HOSTILE = [
    '"',
    '","x":"',
    "\\",
    '\\"',
    '"}{"',
    ',"x":1,"y":',
    "{digit}",
    "{audio}",
    "\n",
    "\x00",
    "é\u2028",
    "{}",
]


def dialogue(
    table: dict[str, Any] = TABLE,
    *,
    call: CallInfo = CALL,
    session: dict[str, str] | None = None,
    memory: Memory | None = None,
    **changes: Any,
) -> DescribedDialogue:
    described = Description.model_validate({**table, **changes})
    return DescribedDialogue(described, StreamInfo(call, "AC", STREAM_SID, session or {}, True, memory))


def read(message: object, table: dict[str, Any] = TABLE, **changes: Any) -> object:
    """The one event of a message, which is JSON unless it is bytes."""
    raw = message if isinstance(message, bytes) else orjson.dumps(message)
    (event,) = dialogue(table, **changes).read(raw)
    return event


# The agent


@pytest.mark.parametrize("text", HOSTILE)
def test_one_that_takes_over_is_told_what_was_said_where_its_table_wants_it(text):
    memory = Memory((Said(Speaker.AGENT, "Hello?"), Said(Speaker.CALLER, text)), True)
    first = ['{"context":"{history}"}', '{"context":{history}}']
    for told, history in ((memory, f"Agent: Hello?\nCaller: {text}"), (None, "")):
        messages = dialogue(first=first, memory=told).opening()
        assert [orjson.loads(message) for message in messages] == 2 * [{"context": history}]


def test_json_agent_has_a_finder_and_an_envelope():
    one = dialogue()
    assert not one.is_binary
    assert not one.waits_for_ready
    message = orjson.dumps({"type": "audio", "body": {"b64": PAYLOAD}})
    start, end = one.audio.find(message)
    assert message[start:end] == PAYLOAD.encode()
    assert one.to_agent.wrap_payload(b"AAAA") == b'{"audio":"AAAA"}'
    assert one.keepalive is None


def test_binary_agent_has_neither():
    one = dialogue(BINARY, encoding="pcm16", sample_rate=24000)
    assert one.is_binary
    assert one.audio is None
    assert one.to_agent_format == one.from_agent_format == AudioFormat("pcm16", 24000)


def test_formats_and_the_rest_are_the_tables():
    one = dialogue(ready="go", keepalive='{"type":"alive"}', keepalive_s=2.5)
    assert one.to_agent_format == one.from_agent_format == MULAW_8K
    assert one.waits_for_ready
    assert (one.keepalive, one.keepalive_s) == (b'{"type":"alive"}', 2.5)


# The meaning of messages

MEANINGS = {
    "interrupt": Control.INTERRUPT,
    "ended": Control.ENDED,
    "hang_up": Control.HANG_UP,
    "turn": Turn(),
    "ready": Control.READY,
}


@pytest.mark.parametrize("field", MEANINGS)
def test_literal_text_fits_only_itself(field):
    assert read(b"clear", **{field: "clear"}) == MEANINGS[field]
    for other in (b"clear ", b"Clear", b'"clear"', b"", b"clea"):
        assert read(other, **{field: "clear"}) == Ignored("unknown_type")


@pytest.mark.parametrize("table", [TABLE, BINARY])
@pytest.mark.parametrize("field", MEANINGS)
def test_message_fits_by_the_values_at_its_paths(field, table):
    match = {"type": "event", "event.name": "stop", "event.count": 1, "event.final": True}
    good = {"type": "event", "event": {"name": "stop", "count": 1, "final": True, "more": None}, "x": [1]}
    assert read(good, table, **{field: match}) == MEANINGS[field]
    assert read({"event": good["event"], "type": "event"}, table, **{field: match}) == MEANINGS[field]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"a": {}},
        {"a": {"b": 2}},
        {"a": {"b": "1"}},
        {"a": {"b": None}},
        {"a": {"b": True}},
        {"a": {"b": [1]}},
        {"a": 1},
        {"a": [{"b": 1}]},
        {"a.b": 1},
        [{"a": {"b": 1}}],
        1,
        None,
        b"not json",
        b'{"a":{"b":1}',
        b"\xff",
        b"",
    ],
)
def test_message_with_another_value_there_does_not_fit(message):
    assert read({"a": {"b": 1}}, ended={"a.b": 1}) is Control.ENDED
    assert read(message, ended={"a.b": 1}) == Ignored("unknown_type")


@pytest.mark.parametrize(("wanted", "found"), [(True, 1), (False, 0), (1, True), (0, False), (False, None)])
def test_truth_is_no_number(wanted, found):
    assert read({"a": wanted}, ended={"a": wanted}) is Control.ENDED
    assert read({"a": found}, ended={"a": wanted}) == Ignored("unknown_type")


def test_first_meaning_that_fits_is_the_only_one():
    both = {
        "interrupt": {"type": "x"},
        "ended": {"type": "x"},
        "answers": [{"match": {"type": "x"}, "answer": "{}"}],
    }
    assert read({"type": "x"}, **both) is Control.INTERRUPT


def test_error_is_reported_without_its_text_which_may_contain_speech():
    event = read({"type": "error", "text": "canary"}, error={"type": "error"})
    assert isinstance(event, Failed)
    assert "canary" not in event.detail


@pytest.mark.parametrize(
    ("message", "to_number"),
    [
        ({"type": "transfer", "body": {"to": "+14155550100"}}, "+14155550100"),
        ({"type": "transfer", "body": {"to": 5}}, "5"),
        ({"type": "transfer"}, "None"),
    ],
)
def test_transfer_names_what_stands_at_its_path(message, to_number):
    asked = {"match": {"type": "transfer"}, "to": "body.to"}
    assert read(message, transfer=asked) == Transfer(to_number)
    assert read({"type": "other"}, transfer=asked) == Ignored("unknown_type")


# Answers


@pytest.mark.parametrize(
    ("value", "within", "outside"),
    [
        (7, '"7"', "7"),
        (1.5, '"1.5"', "1.5"),
        (True, '"true"', "true"),
        ("abc", '"abc"', '"abc"'),
        ('a"b\\', r'"a\"b\\"', r'"a\"b\\"'),
        ("", '""', '""'),
        ({"a": "b"}, r'"{\"a\":\"b\"}"', '{"a":"b"}'),
        (["x", 1], r'"[\"x\",1]"', '["x",1]'),
    ],
)
def test_answer_has_values_of_the_message_within_quotes_and_outside(value, within, outside):
    answers = [{"match": {"type": "ping"}, "answer": '{"type":"pong","a":"{event.Id}","b":{event.Id}}'}]
    event = read({"type": "ping", "event": {"Id": value}}, answers=answers)
    assert event == Reply(f'{{"type":"pong","a":{within},"b":{outside}}}'.encode())
    assert orjson.loads(event.message)["b"] == value


def test_each_message_gets_its_own_answer():
    answers = [
        {"match": "ping", "answer": "pong"},
        {"match": {"type": "ping"}, "answer": '{"type":"pong"}'},
        {"match": {"type": "ping", "n": 1}, "answer": "the first that fits has answered"},
    ]
    assert read(b"ping", answers=answers) == Reply(b"pong")
    assert read({"type": "ping", "n": 1}, answers=answers) == Reply(b'{"type":"pong"}')
    assert read({"type": "pong"}, answers=answers) == Ignored("unknown_type")


def test_placeholder_of_what_nobody_has_stays_and_those_of_the_call_follow_the_message():
    answers = [
        {"match": "ping", "answer": '{"a":{no.such}}'},
        {"match": {"t": 1}, "answer": "{t.x} {call_sid} {t}"},
    ]
    assert read(b"ping", answers=answers) == Reply(b'{"a":{no.such}}')
    assert read({"t": 1}, answers=answers) == Reply(f'{{t.x}} "{CALL.call_sid}" 1'.encode())


@pytest.mark.parametrize("depth", [300, 1000, 100_000])
def test_value_too_deep_for_an_answer_is_ignored(depth):
    answers = [{"match": {"type": "ping"}, "answer": '{"a":"{event}","b":{event}}'}]
    message = b'{"type":"ping","event":' + b"[" * depth + b"]" * depth + b"}"
    assert read(message, answers=answers) == Ignored("unknown_type")


# Audio that the finder did not take


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        ({"type": "audio", "body": {"b64": PAYLOAD}}, Audio(PAYLOAD.encode())),
        ({"type": "audio", "body": {"b64": "AAAA", "text": "\n"}}, Audio(b"AAAA")),
        ({"type": "audio", "body": {"b64": "no base64"}}, Audio(b"no base64")),
        ({"type": "audio", "body": {"b64": PAYLOAD}, "rate": 8000}, Audio(PAYLOAD.encode())),
        ({"type": "audio", "body": {"b64": PAYLOAD}, "rate": None}, Audio(PAYLOAD.encode())),
        ({"type": "audio", "body": {"b64": PAYLOAD}, "rate": 16000}, Ignored("unknown_audio")),
        ({"type": "audio", "body": {"b64": PAYLOAD}, "rate": "8000"}, Ignored("unknown_audio")),
        ({"type": "audio", "body": {"b64": None}}, Ignored("unknown_type")),
        ({"type": "audio", "body": {"b64": 5}}, Ignored("unknown_type")),
        ({"type": "audio", "body": PAYLOAD}, Ignored("unknown_type")),
        ({"type": "audio"}, Ignored("unknown_type")),
        ({"type": "other", "body": {"b64": PAYLOAD}}, Ignored("unknown_type")),
        ({"body": {"b64": PAYLOAD}}, Ignored("unknown_type")),
    ],
)
def test_audio_is_read_where_the_table_says(fields, event):
    assert read(fields) == event


def test_audio_is_of_the_tables_format():
    event = read({"type": "audio", "body": {"b64": "AAAA"}}, encoding="pcm16", sample_rate=16000)
    assert event == Audio(b"AAAA", AudioFormat("pcm16", 16000))


def test_binary_agent_has_no_audio_in_its_texts():
    assert read({"type": "audio", "body": {"b64": PAYLOAD}}, BINARY) == Ignored("unknown_type")


# Messages to the agent


def test_first_messages_name_the_call_the_stream_and_the_session():
    first = [
        '{"call":"{call_sid}","from":{from},"to":"{to}"}',
        '{"id":"{session.id}/{stream_sid}","k":"{env.key}"}',
    ]
    assert list(dialogue(first=first, session={"id": "abc"}).opening()) == [
        f'{{"call":"{CALL.call_sid}","from":"{CALL.from_number}","to":"{CALL.to_number}"}}'.encode(),
        f'{{"id":"abc/{STREAM_SID}","k":"{{env.key}}"}}'.encode(),
    ]


def test_without_first_messages_nothing_is_sent():
    assert list(dialogue().opening()) == []


def test_envelope_names_them_on_both_sides_of_the_audio():
    template = '{"from":"{from}","audio":"{audio}","sid":"{stream_sid}","to":{to}}'
    message = dialogue(to_agent=template).to_agent.wrap_payload(b"AAAA")
    assert orjson.loads(message) == {
        "from": CALL.from_number,
        "audio": "AAAA",
        "sid": STREAM_SID,
        "to": CALL.to_number,
    }


@pytest.mark.parametrize(("digit", "sent"), [("5", "5"), ("#", "#"), ("*", "*"), ('"', r"\"")])
def test_key_is_sent_in_the_tables_words(digit, sent):
    shown = list(dialogue(dtmf='{"key":"{digit}","call":"{call_sid}"}').on_dtmf(digit))
    assert shown == [f'{{"key":"{sent}","call":"{CALL.call_sid}"}}'.encode()]


def test_without_words_for_keys_none_is_sent():
    assert list(dialogue().on_dtmf("5")) == []


@pytest.mark.parametrize("name", HOSTILE)
def test_caller_cannot_leave_the_place_of_its_number(name):
    call = CallInfo(CALL.call_sid, name, name)
    template = '{"a":"{from}","b":"5\\" {from} \\\\","c":{to},"d":"\\\\{to}"'
    shown = {"a": name, "b": f'5" {name} \\', "c": name, "d": f"\\{name}"}
    one = dialogue(
        call=call,
        first=[template + "}"],
        dtmf=template + ',"digit":"{digit}"}',
        to_agent=template + ',"audio":"{audio}","e":"{from}"}',
    )
    assert [orjson.loads(message) for message in one.opening()] == [shown]
    assert [orjson.loads(message) for message in one.on_dtmf("5")] == [shown | {"digit": "5"}]
    assert orjson.loads(one.to_agent.wrap_payload(b"AAAA")) == shown | {"audio": "AAAA", "e": name}


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_any_number_stays_in_its_place(name):
    """Any caller's number comes out of the JSON text as it went in, and adds nothing to it."""
    one = dialogue(call=CallInfo(CALL.call_sid, name, ""), first=['{"a":"x {from}","b":{from}}'])
    assert [orjson.loads(message) for message in one.opening()] == [{"a": f"x {name}", "b": name}]


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.text(st.characters(codec="utf-8"), max_size=9),
        lambda below: (
            st.lists(below, max_size=3)
            | st.dictionaries(st.sampled_from(["type", "a", "b"]), below, max_size=3)
        ),
        max_leaves=9,
    ).map(orjson.dumps)
)
def test_any_message_has_one_meaning(message):
    """Any message gives one event, never an exception."""
    changes = {
        "interrupt": {"type": "x", "a.b": 1},
        "error": {"type": True},
        "transfer": {"match": {"type": "t"}, "to": "a.b"},
        "answers": [{"match": {"a": ""}, "answer": '{"x":"{a.b}","y":{type}}'}],
    }
    assert isinstance(read(message, **changes), Control | Audio | Failed | Transfer | Reply | Ignored)


# Places of any depth, several parts, several meanings

GEMINI: dict[str, Any] = {
    "url": "wss://h",
    "to_agent": '{"realtimeInput":{"audio":{"data":"{audio}","mimeType":"audio/pcm;rate=16000"}}}',
    "from_agent": {"path": "serverContent.modelTurn.parts[*].inlineData.data"},
    "to_agent_encoding": "pcm16",
    "to_agent_rate": 16000,
    "from_agent_encoding": "pcm16",
    "from_agent_rate": 24000,
    "json_in_binary": True,
    "ready": {"setupComplete": {"exists": True}},
    "interrupt": {"serverContent.interrupted": True},
    "speech_ended": {"serverContent.turnComplete": True},
    "transcript": [
        {
            "match": {"serverContent.inputTranscription.text": {"exists": True}},
            "path": "serverContent.inputTranscription.text",
            "role": "caller",
        }
    ],
}
PCM = AudioFormat("pcm16", 24000)


def all_of(message: object, table: dict[str, Any], **changes: Any) -> list[object]:
    raw = message if isinstance(message, bytes) else orjson.dumps(message)
    return list(dialogue(table, **changes).read(raw))


def test_message_may_have_audio_in_several_parts_of_any_depth():
    parts = [{"inlineData": {"data": "AAAA"}}, {"text": "no audio"}, {"inlineData": {"data": "BBBB"}}]
    assert all_of({"serverContent": {"modelTurn": {"parts": parts}}}, GEMINI) == [
        Audio(b"AAAA", PCM),
        Audio(b"BBBB", PCM),
    ]


def test_two_ways_may_have_two_formats_and_json_in_binary_messages():
    one = dialogue(GEMINI)
    assert (one.to_agent_format, one.from_agent_format) == (AudioFormat("pcm16", 16000), PCM)
    assert (one.is_binary, one.is_binary_from_agent, one.reads_binary) == (False, False, True)
    assert one.audio is None


@pytest.mark.parametrize(("binary", "ways"), [("to_agent", (True, False)), ("from_agent", (False, True))])
def test_audio_may_be_binary_one_way(binary, ways):
    one = dialogue(binary=binary)
    assert (one.is_binary, one.is_binary_from_agent) == ways


def test_key_that_exists_is_a_match():
    assert all_of({"setupComplete": {}}, GEMINI) == [Control.READY]
    assert all_of({"setupComplete": None}, GEMINI) == [Ignored("unknown_type")]
    absent = {"a": {"exists": False}, "b": 1}
    assert read({"b": 1}, ended=absent) is Control.ENDED
    assert read({"b": 1, "a": 0}, ended=absent) == Ignored("unknown_type")


def test_message_may_mean_more_than_its_audio():
    turn = {"parts": [{"inlineData": {"data": "AAAA"}}]}
    heard = {"inputTranscription": {"text": " Hello? "}}
    assert all_of({"serverContent": {"modelTurn": turn, "turnComplete": True, **heard}}, GEMINI) == [
        Said(Speaker.CALLER, "Hello?"),
        Audio(b"AAAA", PCM),
        Control.SPEECH_ENDED,
    ]
    assert all_of({"serverContent": {"modelTurn": turn, "interrupted": True}}, GEMINI) == [Control.INTERRUPT]


def test_match_may_be_a_list_of_alternatives():
    interrupt = [{"type": "started"}, {"type": ["done", "stopped"], "status": "interrupted"}, "clear"]
    for message in (
        {"type": "started"},
        {"type": "done", "status": "interrupted"},
        {"type": "stopped", "status": "interrupted"},
        b"clear",
    ):
        assert read(message, interrupt=interrupt) is Control.INTERRUPT
    assert read({"type": "done", "status": "completed"}, interrupt=interrupt) == Ignored("unknown_type")


# Items and turns

ITEMS: dict[str, Any] = {
    **TABLE,
    "from_agent": {"path": "body.b64", "equal": {"type": "audio"}},
    "interrupt": {"type": "stop"},
    "item": "item",
    "turn_id": "turn",
    "heard": '{"type":"truncate","item":"{item}","ms":{heard_ms}}',
}


def audio_of(item: object, turn: object) -> bytes:
    return orjson.dumps({"type": "audio", "body": {"b64": "AAAA"}, "item": item, "turn": turn})


NATIVELY = [Control.INSPECT_AUDIO, Control.RELAY_AUDIO]


def test_audio_of_the_same_item_and_turn_is_found_natively_and_of_others_is_read():
    one = dialogue(ITEMS)
    assert one.audio is None
    assert list(one.read(audio_of("a", 1))) == [Turn('"a"'), Audio(b"AAAA"), *NATIVELY]
    assert one.audio.find(audio_of("a", 1)) is not None
    for other in (audio_of("b", 1), audio_of("a", 2), audio_of("a", "1")):
        assert one.audio.find(other) is None
    assert list(one.read(audio_of("a", 1))) == [Audio(b"AAAA")]
    assert list(one.read(audio_of("a", 2))) == [Audio(b"AAAA"), *NATIVELY]
    assert list(one.read(audio_of("b", 2))) == [Turn('"b"'), Audio(b"AAAA"), *NATIVELY]


def test_agent_learns_how_much_of_the_item_was_heard():
    one = dialogue(ITEMS)
    assert one.tracks_heard
    assert list(one.on_interrupt([HeardTurn("", 700, is_all=False)])) == []
    turns = [next(iter(one.read(audio_of(item, 1)))) for item in ('a"b', 7, "c")]
    heard = [HeardTurn(turn.name, ms, is_all=ms == 20) for turn, ms in zip(turns, (20, 700, 0), strict=True)]
    assert [orjson.loads(message) for message in one.on_interrupt(heard)] == [
        {"type": "truncate", "item": "7", "ms": 700},
        {"type": "truncate", "item": "c", "ms": 0},
    ]


def test_item_that_is_still_being_made_is_cut_where_the_agent_says_when_it_is_complete():
    one = dialogue(ITEMS, speech_ended={"type": "done"})

    def cut(*names: str) -> list[str]:
        heard = [HeardTurn(f'"{name}"', 20, is_all=True) for name in names]
        return [orjson.loads(message)["item"] for message in one.on_interrupt(heard)]

    list(one.read(audio_of("a", 1)))
    assert (cut("a"), cut("a")) == (["a"], [])
    list(one.read(audio_of("b", 2)))
    assert list(one.read(b'{"type":"done"}')) == [Control.SPEECH_ENDED]
    assert cut("b") == []
    list(one.read(audio_of("c", 3)))
    assert cut("b", "c") == ["c"]


def test_agent_without_items_learns_how_much_of_the_present_turn_was_heard():
    one = dialogue({**TABLE, "interrupt": "stop", "heard": '{"ms":{heard_ms}}'})
    heard = [HeardTurn("", 100, is_all=False), HeardTurn("", 30, is_all=False)]
    assert list(one.on_interrupt(heard)) == [b'{"ms":30}']
    assert list(one.on_interrupt([HeardTurn("", 100, is_all=True)])) == []


def test_audio_of_an_interrupted_turn_is_discarded_until_another_begins():
    one = dialogue(ITEMS)
    list(one.read(audio_of("a", 1)))
    assert list(one.read(b'{"type":"stop"}')) == [Control.INTERRUPT, Control.INSPECT_AUDIO]
    one.on_interrupt([])
    assert list(one.read(audio_of("a", 1))) == [Ignored("void_audio")]
    assert list(one.read(audio_of("b", 2)))[-2:] == NATIVELY
    assert list(one.read(audio_of("a", 1))) == [Ignored("void_audio")]
    assert one.audio.find(audio_of("b", 2)) is not None


@pytest.mark.parametrize("odd", ["\u00e9", '"', None, [1], True, 1.5])
def test_item_that_the_finder_cannot_look_for_is_read(odd):
    one = dialogue(ITEMS)
    assert Audio(b"AAAA") in list(one.read(audio_of(odd, 1)))
    assert one.audio is None


# What the agent reports


def test_errors_are_fatal_or_leave_the_session_open_or_are_warnings():
    table = {
        **TABLE,
        "error": {"type": "error", "fatal": True},
        "trouble": {"type": "error"},
        "warning": {"type": "warning"},
        "error_text": "message",
        "error_kinds": {"quota": {"code": [402, "quota"]}, "credentials": {"code": 401}},
    }
    text = "two\nlines"
    fatal = {"type": "error", "fatal": True, "message": text}
    assert read(fatal, table) == Failed("error: two lines")
    assert read({**fatal, "code": 402}, table) == Failed("error: two lines", FailureKind.QUOTA)
    assert read({"type": "error", "code": 401}, table) == Troubled("error message", FailureKind.CREDENTIALS)
    assert read({"type": "error", "message": 5}, table) == Troubled("error: 5", FailureKind.SERVER)
    assert read({"type": "warning", "message": 900 * "x"}, table) == Warned(f"warning: {200 * 'x'}")


def test_error_before_the_agent_is_ready_is_a_refusal_unless_its_kind_is_known():
    one = dialogue(
        ready={"type": "ready"}, error={"type": "error"}, error_kinds={"server": {"code": "fault"}}
    )
    refused, fault = b'{"type":"error"}', b'{"type":"error","code":"fault"}'
    assert list(one.read(refused)) == [Failed("error message", FailureKind.REFUSED)]
    assert list(one.read(fault)) == [Failed("error message", FailureKind.SERVER)]
    assert list(one.read(b'{"type":"ready"}')) == [Control.READY]
    assert list(one.read(refused)) == [Failed("error message", FailureKind.LOST)]


# Arguments that are JSON in a text

FUNCTION: dict[str, Any] = {
    "match": {"type": "call", "item.name": "transfer_call"},
    "to": "item.arguments.to.number",
    "json": True,
    "refused": '{"type":"result","id":"{item.call_id}","output":"not allowed"}',
    "accepted": '{"type":"result","id":"{item.call_id}","output":"ok, {call_sid}"}',
}


def test_number_may_stand_in_json_within_a_text():
    item = {"name": "transfer_call", "call_id": "c1", "arguments": '{"to":{"number":"+4930123"}}'}
    event = read({"type": "call", "item": item}, transfer=FUNCTION)
    assert (event.to_number, len(event.refusal), len(event.acceptance)) == ("+4930123", 1, 1)
    assert orjson.loads(event.refusal[0]) == {"type": "result", "id": "c1", "output": "not allowed"}
    assert orjson.loads(event.acceptance[0])["output"] == f"ok, {CALL.call_sid}"


@pytest.mark.parametrize("arguments", ["", "{", "[]", "5", None, '{"to":"x"}', {"to": 1}])
def test_arguments_without_a_number_are_no_number(arguments):
    item = {"name": "transfer_call", "arguments": arguments}
    assert read({"type": "call", "item": item}, transfer=FUNCTION).to_number == "None"


# What was said, and what means nothing

SAID = [
    {"match": {"type": "user", "final": True}, "path": "text", "role": "caller"},
    {"match": {"type": "user"}, "path": "text", "role": "caller", "partial": True},
    {"match": {"type": "reply"}, "path": "parts[*].text", "role": "agent"},
]


def test_final_words_are_said_and_partial_ones_only_understood():
    assert read({"type": "user", "final": True, "text": " Hi. "}, transcript=SAID) == Said(
        Speaker.CALLER, "Hi."
    )
    reply = {"type": "reply", "parts": [{"text": "Hello, "}, {"x": 1}, {"text": "you."}]}
    assert read(reply, transcript=SAID) == Said(Speaker.AGENT, "Hello, you.")
    for silent in ({"type": "user", "text": "H"}, {"type": "reply", "parts": []}, {"type": "reply"}):
        assert all_of(silent, TABLE, transcript=SAID) == []


def test_messages_that_mean_nothing_are_not_counted():
    ignored = [{"type": ["state", "debug"]}, "ping"]
    for known in ({"type": "state"}, {"type": "debug"}, b"ping"):
        assert all_of(known, TABLE, ignored=ignored) == []
    assert all_of({"type": "other"}, TABLE, ignored=ignored) == [Ignored("unknown_type")]


# Messages to the agent at other times


def test_messages_when_it_is_ready_when_it_closes_and_when_its_time_is_nearly_over():
    one = dialogue(
        ready={"type": "ready"},
        on_ready=['{"greet":"{to}"}'],
        closing=['{"bye":{call_sid}}'],
        limit_near='{"left":{left_s}}',
        session_limit_s=600.0,
        keepalive='{"call":"{call_sid}"}',
        silence_fill_ms=100,
    )
    ready = b'{"type":"ready"}'
    assert list(one.read(ready)) == [Reply(f'{{"greet":"{CALL.to_number}"}}'.encode()), Control.READY]
    assert list(one.read(ready)) == [Control.READY]
    assert list(one.closing()) == [f'{{"bye":"{CALL.call_sid}"}}'.encode()]
    assert list(one.on_limit_near(59.7)) == [b'{"left":60}']
    assert one.keepalive == f'{{"call":"{CALL.call_sid}"}}'.encode()
    assert (one.session_limit_s, one.silence_fill_ms) == (600.0, 100)


def test_keys_may_be_sent_together():
    one = dialogue(keys='{"text":"{keys}"}')
    assert one.gathers_keys
    assert list(one.on_dtmf("12#")) == [b'{"text":"12#"}']
    assert not dialogue(dtmf="{digit}").gathers_keys
