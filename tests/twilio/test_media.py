"""Twilio's messages: each documented one exactly, the fast way equal to the slow one, and what is refused."""

import base64
import contextlib
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _codec import is_base64
from bridge.twilio import media as twilio
from bridge.twilio.media import BadMessage, Connected, Dtmf, Mark, Media, Start, Stop

STREAM = "MZ" + "0" * 32
ACCOUNT = "AC" + "1" * 32
CALL = "CA" + "2" * 32
PAYLOAD = base64.b64encode(bytes(range(160))).decode()

CONNECTED = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
START = {
    "event": "start",
    "sequenceNumber": "1",
    "start": {
        "accountSid": ACCOUNT,
        "streamSid": STREAM,
        "callSid": CALL,
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"token": "abc", "token1": "def"},
    },
    "streamSid": STREAM,
}
MEDIA = {
    "event": "media",
    "sequenceNumber": "3",
    "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": PAYLOAD},
    "streamSid": STREAM,
}
DTMF = {
    "event": "dtmf",
    "streamSid": STREAM,
    "sequenceNumber": "5",
    "dtmf": {"track": "inbound_track", "digit": "1"},
}
MARK = {"event": "mark", "sequenceNumber": "4", "streamSid": STREAM, "mark": {"name": "g7-000123"}}
STOP = {
    "event": "stop",
    "sequenceNumber": "5",
    "stop": {"accountSid": ACCOUNT, "callSid": CALL},
    "streamSid": STREAM,
}


def parse(fields: object, stream_sid: str | None = STREAM) -> twilio.Message:
    return twilio.parse(orjson.dumps(fields), stream_sid)


def reason(message: bytes, stream_sid: str | None = STREAM) -> str:
    with pytest.raises(BadMessage) as caught:
        twilio.parse(message, stream_sid)
    return str(caught.value)


def changed(fields: dict, path: str, value: object) -> bytes:
    """The message with one field replaced, or left out for ``...``."""
    copy = json.loads(json.dumps(fields))
    *parents, last = path.split(".")
    at = copy
    for name in parents:
        at = at[name]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return orjson.dumps(copy)


# From Twilio


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (CONNECTED, Connected()),
        ({**CONNECTED, "version": "0.2.0"}, Connected()),
        (START, Start(STREAM, CALL, ACCOUNT, True, {"token": "abc", "token1": "def"})),
        (MEDIA, Media(PAYLOAD.encode())),
        (DTMF, Dtmf("1")),
        (MARK, Mark("g7-000123")),
        (STOP, Stop()),
    ],
)
def test_each_documented_message(fields, message):
    assert parse(fields) == message
    assert parse({**fields, "new": {"field": [1]}}) == message
    assert twilio.parse(json.dumps(fields, indent=3).encode(), STREAM) == message


def test_start_and_connected_are_read_before_the_stream_is_known():
    assert isinstance(parse(CONNECTED, None), Connected)
    assert isinstance(parse(START, None), Start)


@pytest.mark.parametrize("parameters", [..., None, [], "x", {}])
def test_start_without_parameters_has_none(parameters):
    message = twilio.parse(changed(START, "start.customParameters", parameters), None)
    assert message.custom_parameters == {}


def test_only_text_parameters_are_taken():
    message = twilio.parse(
        changed(START, "start.customParameters", {"a": "x", "b": 1, "c": None, "d": {}}), None
    )
    assert message.custom_parameters == {"a": "x"}


@pytest.mark.parametrize(
    ("path", "value", "is_mulaw"),
    [
        ("encoding", "audio/x-mulaw", True),
        ("encoding", "audio/l16", False),
        ("encoding", ..., False),
        ("sampleRate", 16000, False),
        ("sampleRate", "8000", False),
        ("channels", 2, False),
        ("channels", ..., False),
        ("bitsPerSample", 8, True),
    ],
)
def test_only_mulaw_of_8_khz_and_one_channel_is_taken_as_such(path, value, is_mulaw):
    assert twilio.parse(changed(START, f"start.mediaFormat.{path}", value), None).is_mulaw_8k is is_mulaw


@pytest.mark.parametrize("media_format", [..., None, "audio/x-mulaw", [], {}])
def test_missing_media_format_is_not_mulaw(media_format):
    assert not twilio.parse(changed(START, "start.mediaFormat", media_format), None).is_mulaw_8k


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b'{"event":"stop",}', "not_json"),
        (b'{"event":NaN}', "not_json"),
        (b'{"event":"\\ud800"}', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b"[]", "not_object"),
        (b"1", "not_object"),
        (b"null", "not_object"),
        (b"{}", "unknown_event"),
        (b'{"event":null}', "unknown_event"),
        (b'{"event":["media"]}', "unknown_event"),
        (b'{"event":"Media"}', "unknown_event"),
        (changed(MEDIA, "event", "video"), "unknown_event"),
        (changed(MEDIA, "streamSid", "MZ1"), "other_stream"),
        (changed(MARK, "streamSid", ...), "other_stream"),
        (changed(STOP, "streamSid", None), "other_stream"),
        (changed(DTMF, "streamSid", "MZ1"), "other_stream"),
        (changed(MEDIA, "media", ...), "missing_field"),
        (changed(MEDIA, "media", PAYLOAD), "missing_field"),
        (changed(MEDIA, "media.payload", ...), "missing_field"),
        (changed(MEDIA, "media.payload", None), "missing_field"),
        (changed(MEDIA, "media.payload", 5), "missing_field"),
        (changed(MEDIA, "media.track", "outbound"), "other_track"),
        (changed(MEDIA, "media.track", None), "other_track"),
        (changed(MARK, "mark", []), "missing_field"),
        (changed(MARK, "mark.name", ...), "missing_field"),
        (changed(DTMF, "dtmf.digit", 1), "missing_field"),
        (changed(START, "start", ...), "missing_field"),
        (changed(START, "start.callSid", ...), "bad_sid"),
        (changed(START, "start.callSid", 5), "bad_sid"),
        (changed(START, "start.callSid", "CA1\n"), "bad_sid"),
        (changed(START, "start.callSid", ""), "bad_sid"),
        (changed(START, "start.accountSid", "A" * 65), "bad_sid"),
        (changed(START, "start.streamSid", 'MZ"'), "bad_sid"),
    ],
)
def test_bad_message_is_refused_with_its_reason(message, problem):
    assert reason(message) == problem


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.integers() | st.booleans(), st.lists).map(json.dumps)
)
def test_any_bytes_give_a_message_or_bad_message(message):
    """Any bytes give a message or BadMessage, never another exception."""
    with contextlib.suppress(BadMessage):
        twilio.parse(message if isinstance(message, bytes) else message.encode(), STREAM)


# The fast way

VALUES = st.sampled_from(
    [
        PAYLOAD,
        "",
        "AAAA",
        "A",
        "AA==",
        "!!!!",
        "a\\/b=",
        "media",
        "inbound",
        "outbound",
        STREAM,
        "payload",
        5,
        None,
        True,
    ]
)
NAMES = st.sampled_from(["event", "streamSid", "media", "track", "payload", "chunk", "x"])
SPACES = st.sampled_from(["", "", " ", "\n\t", " \r\n", "\ufeff"])


@st.composite
def media_texts(draw: st.DrawFn) -> bytes:
    """Texts near to a media message: members changed, repeated, reordered, spelt with escapes, spaced."""

    def text(value: object) -> str:
        spelt = json.dumps(value)
        if isinstance(value, str) and value and draw(st.integers(0, 99)) == 99:
            at = draw(st.integers(0, len(value) - 1))
            spelt = json.dumps(value[:at])[:-1] + f"\\u{ord(value[at]):04x}" + json.dumps(value[at + 1 :])[1:]
        return spelt

    def members(fields: dict[str, object]) -> str:
        pairs = list(fields.items())
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
            pairs.insert(draw(st.integers(0, len(pairs))), (draw(NAMES), draw(VALUES)))
        if draw(st.integers(0, 4)) == 4:
            pairs = draw(st.permutations(pairs))
        space = draw(SPACES)
        return (
            "{"
            + ",".join(
                f"{space}{text(name)}:{space}{members(value) if isinstance(value, dict) else text(value)}"
                for name, value in pairs
            )
            + space
            + "}"
        )

    fields = {**MEDIA, "media": {**MEDIA["media"], "payload": draw(st.just(PAYLOAD) | VALUES)}}
    if draw(st.integers(0, 4)) == 0:
        fields["customParameters"] = {"payload": PAYLOAD, "event": "media", "streamSid": STREAM}
    return members(fields).encode()


@given(media_texts())
def test_what_the_fast_way_finds_the_slow_way_reads_too(message):
    """A payload is found only where the full parser reads the same payload, and it is base64."""
    span = twilio.media_finder(STREAM).find(message)
    if span is not None:
        payload = message[span[0] : span[1]]
        assert twilio.parse(message, STREAM) == Media(payload)
        assert is_base64(payload)


@pytest.mark.parametrize("dumps", [orjson.dumps, lambda fields: json.dumps(fields).encode()])
def test_plain_media_goes_the_fast_way(dumps):
    message = dumps(MEDIA)
    start, end = twilio.media_finder(STREAM).find(message)
    assert message[start:end] == PAYLOAD.encode()


@pytest.mark.parametrize(
    "message",
    [
        changed(MEDIA, "streamSid", "MZ1"),
        changed(MEDIA, "media.track", "outbound"),
        changed(MEDIA, "media.payload", "not base64"),
        changed(MEDIA, "event", "mark"),
        orjson.dumps(MARK),
        orjson.dumps(START),
    ],
)
def test_all_else_is_left_to_the_slow_way(message):
    assert twilio.media_finder(STREAM).find(message) is None


# To Twilio


def test_messages_to_twilio_have_exactly_the_documented_keys():
    media = twilio.media_envelope(STREAM).wrap_payload(PAYLOAD.encode())
    assert orjson.loads(media) == {"event": "media", "streamSid": STREAM, "media": {"payload": PAYLOAD}}
    assert twilio.clear(STREAM) == b'{"event":"clear","streamSid":"%s"}' % STREAM.encode()
    mark = b'{"event":"mark","streamSid":"%s","mark":{"name":"a\\"b"}}' % STREAM.encode()
    assert twilio.mark(STREAM, 'a"b') == mark
