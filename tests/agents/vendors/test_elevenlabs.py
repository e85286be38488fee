"""ElevenLabs' dialogue: its beginning, its errors, its tools, and which audio belongs to an interrupted turn."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from bridge.agents.agent import (
    MULAW_8K,
    Audio,
    AudioFormat,
    CallInfo,
    Control,
    Corrected,
    Event,
    Failed,
    Ignored,
    Resources,
    StreamInfo,
)
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.vendors import elevenlabs
from bridge.agents.vendors.elevenlabs import AGENT, ERRORS, ElevenLabsDialogue, ElevenLabsSettings


def read(dialogue: ElevenLabsDialogue, **message: Any) -> list[Event]:
    return list(dialogue.read(orjson.dumps(message)))


def audio(dialogue: ElevenLabsDialogue, event_id: Any) -> list[Event]:
    event = {"audio_base_64": "AAAA", "event_id": event_id}
    return read(dialogue, type="audio", audio_event=event)


def interrupt(dialogue: ElevenLabsDialogue, event_id: Any) -> list[Event]:
    return read(dialogue, type="interruption", interruption_event={"event_id": event_id})


def test_audio_up_to_an_interruption_is_dropped_and_later_audio_is_relayed_again():
    dialogue = ready()
    assert interrupt(dialogue, 5) == [Control.INTERRUPT, Control.INSPECT_AUDIO]
    assert audio(dialogue, 4) == audio(dialogue, 5) == [Ignored("void_audio")]
    assert audio(dialogue, 6) == [Audio(b"AAAA", MULAW_8K), Control.RELAY_AUDIO]


def test_audio_of_any_number_is_relayed_before_the_first_interruption():
    dialogue = ready()
    for event_id in (0, 1):
        assert audio(dialogue, event_id) == [Audio(b"AAAA", MULAW_8K), Control.RELAY_AUDIO]


def test_interruption_that_arrives_late_brings_nothing_back():
    dialogue = ready()
    interrupt(dialogue, 5)
    interrupt(dialogue, 3)
    assert audio(dialogue, 4) == [Ignored("void_audio")]


def test_responses_and_transcripts_say_what_was_said():
    dialogue = ElevenLabsDialogue()
    response = {"agent_response": " At nine, but on Sundays. ", "event_id": 1}
    said = Said(Speaker.AGENT, "At nine, but on Sundays.")
    assert read(dialogue, type="agent_response", agent_response_event=response) == [said]
    correction = {
        "original_agent_response": "At nine, but on Sundays.",
        "corrected_agent_response": "At nine, ...",
    }
    event = {"type": "agent_response_correction", "agent_response_correction_event": correction}
    assert read(dialogue, **event) == [Corrected("At nine, ...")]
    transcript = {"user_transcript": "Yes."}
    event = {"type": "user_transcript", "user_transcription_event": transcript}
    assert read(dialogue, **event) == [Said(Speaker.CALLER, "Yes.")]


def test_one_that_takes_over_is_told_what_was_said():
    begin = {"type": "conversation_initiation_client_data"}
    said = (Said(Speaker.AGENT, "Hello?"), Said(Speaker.CALLER, 'What is "open"?'))
    first, told = map(orjson.loads, ElevenLabsDialogue(Memory(said, True)).opening())
    assert (first, told["type"]) == (begin, "contextual_update")
    assert told["text"].endswith('\nAgent: Hello?\nCaller: What is "open"?')
    for memory in (None, Memory((), True)):
        assert [orjson.loads(message) for message in ElevenLabsDialogue(memory).opening()] == [begin]


BEGIN = {
    "conversation_id": "c1",
    "agent_output_audio_format": "ulaw_8000",
    "user_input_audio_format": "ulaw_8000",
}


def begin(dialogue: ElevenLabsDialogue, **changed: Any) -> list[Event]:
    kind = "conversation_initiation_metadata"
    return read(dialogue, type=kind, conversation_initiation_metadata_event={**BEGIN, **changed})


def ready() -> ElevenLabsDialogue:
    dialogue = ElevenLabsDialogue()
    assert begin(dialogue) == [Control.READY]
    return dialogue


def test_formats_are_read_once_and_before_the_first_frame():
    dialogue = ElevenLabsDialogue()
    assert audio(dialogue, 1) == [Ignored("audio_before_its_format")]
    assert begin(dialogue, agent_output_audio_format="pcm_16000") == [Control.READY]
    assert dialogue.from_agent_format == AudioFormat("pcm16", 16000)
    assert dialogue.to_agent_format == MULAW_8K
    assert begin(dialogue) == []
    assert dialogue.from_agent_format == AudioFormat("pcm16", 16000)


@pytest.mark.parametrize("name", ["pcm_44100", None, 8000, ["ulaw_8000"]])
def test_format_that_is_not_spoken_here_is_a_refusal(name):
    [failed] = begin(ElevenLabsDialogue(), agent_output_audio_format=name)
    assert isinstance(failed, Failed)
    assert failed.kind is FailureKind.REFUSED
    assert failed.detail.endswith("set the agent to ulaw_8000")


def test_numbers_of_events_may_come_as_texts():
    dialogue = ready()
    assert interrupt(dialogue, "7") == [Control.INTERRUPT, Control.INSPECT_AUDIO]
    assert audio(dialogue, 7) == audio(dialogue, "6") == [Ignored("void_audio")]
    assert audio(dialogue, "x") == audio(dialogue, None) == [Ignored("missing_field")]
    assert audio(dialogue, "8") == [Audio(b"AAAA", MULAW_8K), Control.RELAY_AUDIO]
    for event_id in (9, "9"):
        [pong] = read(dialogue, type="ping", ping_event={"event_id": event_id})
        assert orjson.loads(pong.message) == {"type": "pong", "event_id": event_id}


def failed(**error: Any) -> Failed:
    [event] = read(ready(), type="error", error_event=error)
    assert isinstance(event, Failed)
    return event


@pytest.mark.parametrize("name", ERRORS)
def test_kind_of_an_error_is_that_of_its_type(name):
    assert failed(code=1000, error_type=name).kind is ERRORS[name]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 1002, "error_type": "llm_timeout"}, FailureKind.SERVER),
        ({"code": 1008, "error_type": "new"}, FailureKind.REFUSED),
        ({"code": 1011}, FailureKind.SERVER),
        ({"code": 3000}, FailureKind.CREDENTIALS),
        ({"code": 1002, "reason": "This request exceeds your quota limit."}, FailureKind.QUOTA),
        ({"code": "1008", "error_type": 5}, FailureKind.SERVER),
        ({}, FailureKind.SERVER),
    ],
)
def test_kind_of_an_error_without_a_telling_type_is_that_of_its_code_or_words(error, kind):
    assert failed(**error).kind is kind


def test_error_is_worded_for_a_log():
    shown = "error 1008 override_error Override for field 'prompt' is not allowed"
    error = {
        "code": 1008,
        "error_type": "override_error",
        "message": "Override for field 'prompt'\nis not allowed",
    }
    assert failed(**error) == Failed(shown, FailureKind.REFUSED)
    words = "received 1002 (protocol error) This request exceeds your quota limit."
    [flat] = read(ready(), type="error", message=words)
    assert flat.kind is FailureKind.QUOTA
    assert flat.detail.startswith("error received 1002")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (1002, "", FailureKind.SERVER),
        (1002, "This request exceeds your quota limit.", FailureKind.QUOTA),
        (1008, "Missing required dynamic variables in first message: {'name'}", FailureKind.REFUSED),
        (1011, "", FailureKind.SERVER),
        (3000, "Could not authorize the conversation.", FailureKind.CREDENTIALS),
        (1006, "", FailureKind.LOST),
        (None, "", FailureKind.LOST),
    ],
)
def test_kind_of_a_close_is_that_of_its_code_or_words(code, reason, kind):
    assert ready().on_close(code, reason) is kind


def test_client_tool_that_hangs_up_is_answered_first_and_once():
    call = {"tool_name": "hang_up", "tool_call_id": "t1", "parameters": {}, "event_id": 4}
    dialogue = ready()
    result, hang_up = read(dialogue, type="client_tool_call", client_tool_call=call)
    answer = orjson.loads(result.message)
    assert (answer.pop("result") != "", hang_up) == (True, Control.HANG_UP)
    assert answer == {"type": "client_tool_result", "tool_call_id": "t1", "is_error": False}
    repeated = read(dialogue, type="client_tool_call", client_tool_call=call)
    assert repeated == [Ignored("repeated_tool_call")]


@pytest.mark.parametrize("kind", ["user_message", "contextual_update"])
def test_keys_go_as_the_message_that_is_set(kind):
    dialogue = ElevenLabsDialogue(keys=kind)
    assert dialogue.gathers_keys
    [message] = map(orjson.loads, dialogue.on_dtmf("12#"))
    assert message["type"] == kind
    assert message["text"].endswith(" 12#")


def test_keys_go_nowhere_by_default():
    assert not ready().gathers_keys
    assert list(ready().on_dtmf("1")) == []


def test_limit_that_is_near_is_a_contextual_update():
    [message] = map(orjson.loads, ready().on_limit_near(60.0))
    assert message["type"] == "contextual_update"
    assert " 60 seconds" in message["text"]


def settings_of(**given: str) -> ElevenLabsSettings:
    return ElevenLabsSettings.model_validate(
        {"elevenlabs_agent_id": "a1", **{f"elevenlabs_{name}": text for name, text in given.items()}}
    )


def test_conversation_begins_with_the_values_of_the_call(tmp_path):
    path = tmp_path / "initiation.json"
    path.write_text(
        '{"user_id": "{value.customer!}", "dynamic_variables": {"shop": "{env.SHOP}", "caller": "?"},'
        ' "conversation_config_override": {"agent": {"first_message": "Hi {form.CallerName}!"}}}'
    )
    variables = '{"caller": "{from}", "known": true}'
    settings = settings_of(dynamic_variables=variables, initiation_file=str(path))
    agent = AGENT.describe(settings, Resources(None, 8, {"env.SHOP": "Main Street"}))
    assert agent.names == {"value.customer", "form.CallerName"}
    assert agent.required == {"value.customer"}
    values = {"value.customer": "c-7", "form.CallerName": '{env.SHOP}", "x": "'}
    stream = StreamInfo(CallInfo("CA1", "+1555", "+1556", values), "AC1", "MZ1", {}, True)
    [message] = map(orjson.loads, agent.dialogue(stream, lambda: 1).opening())
    assert message == {
        "type": "conversation_initiation_client_data",
        "user_id": "c-7",
        "dynamic_variables": {"shop": "Main Street", "caller": "+1555", "known": True},
        "conversation_config_override": {"agent": {"first_message": 'Hi {env.SHOP}", "x": "!'}},
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "user_message"}',
        '{"dynamic_variables": []}',
        '{"dynamic_variables": {"a": []}}',
        '{"conversation_config_override": "x"}',
        "[]",
    ],
)
def test_file_that_cannot_begin_a_conversation_is_refused(tmp_path, text):
    (tmp_path / "initiation.json").write_text(text)
    with pytest.raises(ValidationError):
        settings_of(initiation_file=str(tmp_path / "initiation.json"))


def test_variable_that_is_no_single_value_is_refused():
    with pytest.raises(ValidationError, match="dynamic variable a must be"):
        settings_of(dynamic_variables='{"a": {"b": "c"}}')


SESSION = {
    "signed_url": "wss://api.elevenlabs.io/v1/convai/conversation?agent_id=a1&conversation_signature=s"
}


@pytest.mark.parametrize(
    ("given", "session", "url"),
    [
        ({}, {}, "wss://api.elevenlabs.io/v1/convai/conversation?agent_id=a1"),
        ({"api_url": "http://h.example:80"}, {}, "ws://h.example:80/v1/convai/conversation?agent_id=a1"),
        ({"ws_url": "wss://w.example/x"}, {}, "wss://w.example/x?agent_id=a1"),
        ({"api_key": "k", "ws_url": "wss://w.example/x"}, SESSION, SESSION["signed_url"]),
    ],
)
def test_socket_is_on_the_host_of_the_api_unless_it_is_set(given, session, url):
    agent = AGENT.describe(settings_of(**given), Resources(None, 8))
    assert agent.endpoint(session, CallInfo("CA1", "+1", "+2")).url == url


@pytest.mark.parametrize(
    ("given", "warnings"),
    [
        ({"api_key": "k", "ws_url": "wss://w.example/x"}, 1),
        ({"api_key": "k", "ws_url": "wss://api.elevenlabs.io/x"}, 0),
        ({"ws_url": "wss://w.example/x"}, 0),
    ],
)
def test_socket_that_a_key_makes_useless_is_named_at_start(given, warnings, logs):
    AGENT.describe(settings_of(**given), Resources(None, 8))
    assert len([line for line in logs.lines if "ELEVENLABS_WS_URL" in line]) == warnings


@pytest.mark.parametrize(
    ("api_url", "signed_url", "is_taken"),
    [
        ("https://h.example", "wss://h.example/?s=1", True),
        ("https://h.example", "ws://h.example/?s=1", False),
        ("http://127.0.0.1:1", "ws://127.0.0.1:1/?s=1", True),
        ("http://127.0.0.1:1", "wss://127.0.0.1:1/?s=1", True),
        ("http://127.0.0.1:1", "https://127.0.0.1:1/?s=1", False),
    ],
)
async def test_signed_url_is_as_safe_as_the_api_that_gives_it(monkeypatch, api_url, signed_url, is_taken):
    async def answer(resources, method, url, headers, *, fields):
        return bool(fields["signed_url"].fullmatch(signed_url))

    monkeypatch.setattr(elevenlabs, "ask", answer)
    agent = AGENT.describe(settings_of(api_key="k", api_url=api_url), Resources(None, 8))
    assert await agent.open_session(CallInfo("CA1", "+1", "+2")) is is_taken
