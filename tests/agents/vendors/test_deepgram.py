"""Deepgram's dialogue: its settings, its errors, which all end the session, its last words, and what was said."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from bridge.agents.agent import (
    CallInfo,
    Control,
    Event,
    Failed,
    Ignored,
    Reply,
    Resources,
    StreamInfo,
    Warned,
)
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.vendors.deepgram import AGENT, ERRORS, DeepgramDialogue, DeepgramSettings


@pytest.fixture
def dialogue() -> DeepgramDialogue:
    return DeepgramDialogue({})


def read(dialogue: DeepgramDialogue, **message: Any) -> list[Event]:
    return list(dialogue.read(orjson.dumps(message)))


def error(dialogue: DeepgramDialogue, code: object) -> FailureKind:
    [failed] = read(dialogue, type="Error", code=code, description="")
    assert isinstance(failed, Failed)
    return failed.kind


@pytest.fixture
def ready(dialogue) -> DeepgramDialogue:
    read(dialogue, type="Welcome")
    read(dialogue, type="SettingsApplied")
    return dialogue


def test_error_ends_the_session_with_the_vendors_words_on_one_line(ready):
    failed = Failed("Error FAILED_TO_THINK: no answer", FailureKind.SERVER)
    assert read(ready, type="Error", code="FAILED_TO_THINK", description="no\nanswer") == [failed]


@pytest.mark.parametrize("code", ERRORS)
def test_kind_of_an_error_is_that_of_its_code_at_any_time(code, dialogue):
    assert error(dialogue, code) is ERRORS[code]


def test_unknown_error_is_a_refusal_of_the_settings_until_they_are_applied(dialogue):
    for code in ("NEW", None, ["x"]):
        assert error(dialogue, code) is FailureKind.REFUSED
    read(dialogue, type="Welcome")
    read(dialogue, type="SettingsApplied")
    assert error(dialogue, "NEW") is FailureKind.SERVER


def test_warnings_and_refused_injections_disturb_nothing(ready):
    slow = {"type": "Warning", "code": "SLOW_THINK_REQUEST", "description": "slow"}
    assert read(ready, **slow) == [Warned("Warning SLOW_THINK_REQUEST: slow")]
    refused = {"type": "InjectionRefused", "message": "the user speaks"}
    assert read(ready, **refused) == [Warned("InjectionRefused: the user speaks")]


def ask(dialogue: DeepgramDialogue, *names: str, **arguments: str) -> list[Event]:
    functions = [
        {
            "id": f"id of {name}",
            "name": name,
            "arguments": orjson.dumps(arguments).decode(),
            "client_side": True,
        }
        for name in names
    ]
    return read(dialogue, type="FunctionCallRequest", functions=functions)


def test_function_calls_are_answered_once_and_in_their_order(ready):
    events = ask(ready, "order_pizza", "hang_up", "order_pizza")
    answers = [orjson.loads(event.message) for event in events if isinstance(event, Reply)]
    assert [answer["id"] for answer in answers] == ["id of order_pizza", "id of hang_up"]
    assert all(answer["type"] == "FunctionCallResponse" for answer in answers)
    assert events[2:] == [Control.HANG_UP, Ignored("repeated_tool_call")]


def test_end_of_speech_is_that_of_the_last_words(ready):
    said(ready, "assistant", "One moment.")
    ask(ready, "hang_up")
    # These are the words before the request.
    assert read(ready, type="AgentAudioDone") == []
    said(ready, "assistant", "Goodbye!")
    assert read(ready, type="AgentAudioDone") == [Control.SPEECH_ENDED]


def test_end_of_speech_after_a_request_in_silence_is_that_of_the_last_words(ready):
    ask(ready, "transfer_call", to_number="+14155550100")
    assert read(ready, type="AgentAudioDone") == [Control.SPEECH_ENDED]


def test_keys_are_said_in_the_callers_place_where_that_is_wanted():
    dialogue = DeepgramDialogue({}, takes_keys=True)
    assert dialogue.gathers_keys
    [message] = map(orjson.loads, dialogue.on_dtmf("12#"))
    assert message["type"] == "InjectUserMessage"
    assert message["content"].endswith(" 12#")
    assert not DeepgramDialogue({}).gathers_keys
    assert list(DeepgramDialogue({}).on_dtmf("1")) == []


def test_limit_that_is_near_is_added_to_the_prompt(ready):
    [message] = map(orjson.loads, ready.on_limit_near(59.6))
    assert message["type"] == "UpdatePrompt"
    assert " 60 seconds" in message["prompt"]


HELLO, QUESTION = Said(Speaker.AGENT, "Hello?"), Said(Speaker.CALLER, "When do you open?")
AUDIO = {
    "input": {"encoding": "mulaw", "sample_rate": 8000},
    "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
}
AGENT_ID = "6d1a4d5e-6b41-4b9b-8a43-0d3f9f0c1d2e"
WHOLE = {
    "type": "Settings",
    "tags": ["phone"],
    "mip_opt_out": True,
    "flags": {"history": True},
    "experimental": True,
    "audio": {"input": {"encoding": "linear16", "sample_rate": 48000}},
    "agent": AGENT_ID,
}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"language": "en"}, {"agent": {"language": "en"}}),
        (AGENT_ID, {"agent": AGENT_ID}),
        (WHOLE, WHOLE),
    ],
)
def test_settings_are_an_agent_an_id_or_a_whole_message_with_our_audio(given, sent):
    [settings] = read(DeepgramDialogue(given), type="Welcome")
    assert orjson.loads(settings.message) == {**sent, "type": "Settings", "audio": AUDIO}


def test_reusable_agent_that_takes_over_learns_by_its_prompt_what_was_said():
    dialogue = DeepgramDialogue(AGENT_ID, Memory((HELLO, QUESTION), True))
    [settings] = read(dialogue, type="Welcome")
    assert orjson.loads(settings.message)["agent"] == AGENT_ID
    ready, *first = read(dialogue, type="SettingsApplied")
    assert ready is Control.READY
    prompt, question = (orjson.loads(reply.message) for reply in first)
    assert prompt["type"] == "UpdatePrompt"
    assert prompt["prompt"].endswith("\nAgent: Hello?")
    assert question == {"type": "InjectUserMessage", "content": "When do you open?"}


def settings_of(tmp_path, text: str) -> DeepgramSettings:
    path = tmp_path / "agent.json"
    path.write_text(text, encoding="utf-8")
    return DeepgramSettings.model_validate({"deepgram_api_key": "key", "deepgram_agent_file": str(path)})


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "1",
        "null",
        '{"type":"Settings"}',
        '{"type":"Settings","agent":1}',
        '{"type":"Update","agent":{}}',
        "{",
    ],
)
def test_file_that_is_no_agent_is_refused(tmp_path, text):
    with pytest.raises(ValidationError):
        settings_of(tmp_path, text)


async def test_prompt_has_the_values_of_the_call(tmp_path):
    text = '{"think": {"prompt": "{form.CallerName!} calls from {from}, says {env.KEY}."}, "greeting": "Hi {value.x}"}'
    agent = AGENT.describe(settings_of(tmp_path, text), Resources(None, 8, {"env.KEY": "canary"}))
    assert agent.names == {"form.CallerName", "value.x"}
    assert agent.required == {"form.CallerName"}
    call = CallInfo("CA1", "+1555", "+1556", {"form.CallerName": '{env.KEY} "Zoë"'})
    dialogue = agent.dialogue(StreamInfo(call, "AC1", "MZ1", {}, True), lambda: 1)
    [settings] = read(dialogue, type="Welcome")
    assert orjson.loads(settings.message)["agent"] == {
        "think": {"prompt": '{env.KEY} "Zoë" calls from +1555, says canary.'},
        "greeting": "Hi ",
    }


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
