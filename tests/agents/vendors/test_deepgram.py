"""Deepgram's dialogue: its errors, which all end the session, and what was said."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bridge.agents.agent import Control, Event, Failed, Reply
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.vendors.deepgram import DeepgramDialogue


@pytest.fixture
def dialogue() -> DeepgramDialogue:
    return DeepgramDialogue({})


def read(dialogue: DeepgramDialogue, **message: Any) -> list[Event]:
    return list(dialogue.read(orjson.dumps(message)))


def test_every_error_ends_the_session_and_one_before_it_is_ready_refuses_the_settings(dialogue):
    error = {"type": "Error", "description": "what the caller said", "code": "FAILED_TO_THINK"}
    assert read(dialogue, **error) == [Failed("error FAILED_TO_THINK", FailureKind.REFUSED)]
    read(dialogue, type="Welcome")
    read(dialogue, type="SettingsApplied")
    assert read(dialogue, **error) == [Failed("error FAILED_TO_THINK", FailureKind.SERVER)]


def said(dialogue: DeepgramDialogue, role: str, content: str) -> list[Event]:
    return read(dialogue, type="ConversationText", role=role, content=content)


def test_conversation_texts_say_what_was_said_and_who_speaks(dialogue):
    assert said(dialogue, "assistant", "Hello?") == [Said(Speaker.AGENT, "Hello?")]
    assert dialogue.is_speaking
    read(dialogue, type="AgentAudioDone")
    assert not dialogue.is_speaking
    assert said(dialogue, "user", "Yes.") == [Said(Speaker.CALLER, "Yes.")]
    said(dialogue, "assistant", "Good.")
    read(dialogue, type="UserStartedSpeaking")
    assert not dialogue.is_speaking
    assert said(dialogue, "system", "Be brief.") == []


HELLO, QUESTION = Said(Speaker.AGENT, "Hello?"), Said(Speaker.CALLER, "When do you open?")
HISTORY_HELLO = {"type": "History", "role": "assistant", "content": "Hello?"}
HISTORY_QUESTION = {"type": "History", "role": "user", "content": "When do you open?"}


@pytest.mark.parametrize(
    ("memory", "history", "answered"),
    [
        (Memory((HELLO, QUESTION), True), [HISTORY_HELLO], "When do you open?"),
        (Memory((QUESTION, HELLO), True), [HISTORY_QUESTION, HISTORY_HELLO], "Please go on."),
        (Memory((QUESTION, HELLO), False), [HISTORY_QUESTION, HISTORY_HELLO], None),
        (Memory((), False), None, None),
    ],
)
def test_one_that_takes_over_knows_what_was_said_and_does_not_greet(memory, history, answered):
    before = {"type": "History", "role": "user", "content": "before"}
    agent = {"greeting": "Hi!", "language": "en", "context": {"messages": [before]}}
    dialogue = DeepgramDialogue(agent, memory)
    [settings] = read(dialogue, type="Welcome")
    messages = [before, *(history or [])]
    assert orjson.loads(settings.message)["agent"] == {"language": "en", "context": {"messages": messages}}
    inject = {"type": "InjectUserMessage", "content": answered}
    told = [Reply(orjson.dumps(inject))] if answered else []
    assert read(dialogue, type="SettingsApplied") == [Control.READY, *told]
    assert agent["greeting"] == "Hi!"
