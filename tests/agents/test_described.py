"""The model of a table: what is found natively means the same when it is read."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.agent import Audio, AudioFormat, CallInfo, StreamInfo
from bridge.agents.described import Description
from bridge.agents.described_dialogue import DescribedDialogue

STREAM = StreamInfo(CallInfo("CA1", "+1", "+2"), "AC", "MZ", {}, True)
TABLE: dict[str, Any] = {"url": "wss://h", "to_agent": "{audio}"}


def described(path: str, equal: dict[str, Any], **more: Any) -> Description:
    return Description.model_validate({**TABLE, "from_agent": {"path": path, "equal": equal}, **more})


@pytest.mark.parametrize(
    ("path", "equal", "more", "is_native"),
    [
        ("b64", {"type": "audio"}, {}, True),
        ("body.b64", {"type": "audio", "body.n": 1}, {}, True),
        ("b64", {}, {}, True),
        (
            "b64",
            {"type": "audio"},
            {"interrupt": {"type": "stop"}, "ended": [{"type": ["a", "b"]}, "bye"]},
            True,
        ),
        # The finder has no words for these.
        ("a.b.c", {"type": "audio"}, {}, False),
        ("a[0]", {"type": "audio"}, {}, False),
        ("b64", {"a[0]": "audio"}, {}, False),
        ("b64", {"type": ["audio", "sound"]}, {}, False),
        ("b64", {"type": True}, {}, False),
        ("b64", {"type": {"exists": True}}, {}, False),
        # A message with audio may mean these too.
        ("b64", {}, {"interrupt": {"type": "stop"}}, False),
        ("b64", {"type": "audio"}, {"interrupt": {"stop": True}}, False),
        (
            "b64",
            {"type": "audio"},
            {"answers": [{"match": {"type": "audio", "ack": 1}, "answer": "a"}]},
            False,
        ),
        ("b64", {"type": "audio"}, {"ended": '{"type":"audio","b64":"AAAA"}'}, False),
    ],
)
def test_audio_is_found_natively_only_where_nothing_else_can_be_meant(path, equal, more, is_native):
    assert (described(path, equal, **more).finder is not None) is is_native


VALUES = st.sampled_from(["audio", "stop", "", 0, 1, True, None, "AAAA", [1], {"b": 1}])
PATHS = st.sampled_from(["type", "b64", "body.b64", "body.n", "x", "a[0]", "body"])
WANTED = st.sampled_from(
    ["audio", "stop", 0, 1, True, {"exists": True}, {"exists": False}, ["audio", "stop"]]
)
SHAPES = st.dictionaries(PATHS, WANTED, min_size=1, max_size=2)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "type": VALUES,
        "b64": VALUES,
        "x": VALUES,
        "a[0]": VALUES,
        "body": st.fixed_dictionaries({}, optional={"b64": VALUES, "n": VALUES}) | VALUES,
    },
)


@given(
    PATHS,
    st.dictionaries(PATHS, WANTED, max_size=2),
    st.dictionaries(PATHS, WANTED, max_size=1),
    SHAPES,
    SHAPES,
    MESSAGES.map(orjson.dumps) | st.binary(max_size=60),
)
def test_message_that_is_found_natively_is_read_as_that_audio_alone(
    path, equal, allowed, stop, answer, message
):
    place = {"path": path, "equal": equal, "absent_or_equal": allowed}
    others = {"interrupt": stop, "answers": [{"match": answer, "answer": "{}"}]}
    table = Description.model_validate({**TABLE, "from_agent": place, **others})
    found = table.finder.find(message) if table.finder is not None else None
    if found is not None:
        audio = Audio(message[found[0] : found[1]], AudioFormat("mulaw", 8000))
        assert list(DescribedDialogue(table, STREAM).read(message)) == [audio]
