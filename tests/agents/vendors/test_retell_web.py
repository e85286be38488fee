"""Transcripts of Retell's web socket: what is new in each, and when an utterance is finished."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.agent import MULAW_8K, Control, Ignored
from bridge.agents.succession import Said, Speaker
from bridge.agents.vendors.retell_web import WebDialogue

AGENT, CALLER = Speaker.AGENT, Speaker.CALLER
ROLES = {AGENT: "agent", CALLER: "user"}


def update(*lines: tuple[str, str], turn: str | None = None) -> bytes:
    fields = {"event_type": "update", "transcript": [{"role": role, "content": text} for role, text in lines]}
    return json.dumps(fields | ({"turntaking": turn} if turn else {})).encode()


def read(*messages: bytes) -> list[object]:
    dialogue = WebDialogue(MULAW_8K)
    return [event for message in messages for event in dialogue.read(message)]


def test_utterances_are_finished_once_it_is_the_others_turn():
    hello, question = ("agent", "Hello."), ("user", "When do you open?")
    assert read(
        update(("agent", "Hel"), turn="agent_turn"),
        update(hello, turn="user_turn"),
        update(hello, ("user", "When do"), turn="user_turn"),
        update(hello, ("user", "When do you"), turn="user_turn"),
        update(hello, question, turn="agent_turn"),
        update(hello, question, ("agent", "At"), turn="agent_turn"),
        update(hello, question, ("agent", "At nine."), turn="user_turn"),
    ) == [
        Said(AGENT, "Hello."),
        # The caller has begun, and waits for an answer.
        Said(CALLER, ""),
        Said(CALLER, "When do you open?"),
        Said(AGENT, "At nine."),
    ]


def test_without_a_turn_all_are_finished():
    assert read(update(("agent", "Hello."), ("user", "Hi"))) == [Said(AGENT, "Hello."), Said(CALLER, "Hi")]


def test_utterance_that_grows_after_its_end_is_not_a_second_one():
    assert read(
        update(("agent", "Hello."), turn="user_turn"), update(("agent", "Hello. It is me."), turn="user_turn")
    ) == [Said(AGENT, "Hello.")]


SAID = st.lists(st.tuples(st.sampled_from([AGENT, CALLER]), st.uuids().map(str)), min_size=1, max_size=12)


@given(SAID, st.integers(2, 5), st.booleans())
def test_each_is_found_once_in_whole_and_in_the_last_few(said, last, is_whole):
    messages = []
    for end in range(1, len(said) + 1):
        lines = said[:end] if is_whole else said[max(0, end - last) : end]
        messages.append(update(*((ROLES[speaker], text) for speaker, text in lines)))
    assert read(*messages) == [Said(speaker, text) for speaker, text in said]


@pytest.mark.parametrize(
    ("message", "events"),
    [
        (b"clear", [Control.INTERRUPT]),
        (b"pong", []),
        (b'{"event_type":"metadata","metadata":{}}', []),
        (b'{"event_type":"update"}', [Ignored("unknown_type")]),
        (b'{"event_type":"update","transcript":"x"}', [Ignored("unknown_type")]),
        (b'{"event_type":"update","transcript":[1,{},{"role":"x","content":"y"},{"role":"agent"}]}', []),
        (b'{"event_type":"update","transcript":[{"role":["agent"],"content":"y"}],"turntaking":[]}', []),
        (b"[]", [Ignored("unknown_type")]),
        (b"hello", [Ignored("unknown_type")]),
    ],
)
def test_other_messages(message, events):
    assert read(message) == events
