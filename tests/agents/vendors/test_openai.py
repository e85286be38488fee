"""OpenAI's dialogue: which audio belongs to an interrupted item, and who reads it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bridge.agents.agent import Audio, Control, Event, Failed, Ignored, Reply, Turn
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.turns import HeardTurn
from bridge.agents.vendors.openai import OpenAiDialogue, OpenAiSettings


@pytest.fixture
def dialogue() -> OpenAiDialogue:
    return OpenAiDialogue(OpenAiSettings(openai_api_key="key"))


def read(dialogue: OpenAiDialogue, **message: Any) -> list[Event]:
    return list(dialogue.read(orjson.dumps(message)))


def begin_item(dialogue: OpenAiDialogue, item_id: str) -> list[Event]:
    part = {"type": "audio"}
    return read(dialogue, type="response.content_part.added", item_id=item_id, content_index=0, part=part)


def audio(dialogue: OpenAiDialogue, item_id: str) -> list[Event]:
    return read(dialogue, type="response.output_audio.delta", item_id=item_id, delta="AAAA")


def interrupt(dialogue: OpenAiDialogue) -> list[Event]:
    events = read(dialogue, type="input_audio_buffer.speech_started")
    list(dialogue.on_interrupt([]))
    return events


def test_audio_of_an_interrupted_item_is_dropped_and_the_next_items_is_relayed_again(dialogue):
    assert begin_item(dialogue, "one") == [Turn("one"), Control.RELAY_AUDIO]
    assert interrupt(dialogue) == [Control.INTERRUPT, Control.INSPECT_AUDIO]
    assert audio(dialogue, "one") == [Ignored("void_audio")]
    assert begin_item(dialogue, "one") == []
    assert audio(dialogue, "two") == [Audio(b"AAAA"), Control.RELAY_AUDIO]
    assert begin_item(dialogue, "two") == [Turn("two"), Control.RELAY_AUDIO]


def test_interrupt_before_any_item_leaves_audio_to_the_wire(dialogue):
    assert interrupt(dialogue) == [Control.INTERRUPT]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("session_expired", FailureKind.SESSION_LIMIT),
        ("insufficient_quota", FailureKind.QUOTA),
        ("invalid_api_key", FailureKind.CREDENTIALS),
    ],
)
@pytest.mark.parametrize("is_ready", [False, True])
def test_error_that_ends_the_session_says_its_kind(dialogue, code, kind, is_ready):
    if is_ready:
        read(dialogue, type="session.updated", session={})
    assert read(dialogue, type="error", error={"code": code}) == [Failed(f"error {code}", kind)]


def test_other_errors_refuse_the_settings_and_later_leave_the_session_open(dialogue):
    error = {"code": "invalid_value", "type": "invalid_request_error"}
    assert read(dialogue, type="error", error=error) == [Failed("error invalid_value", FailureKind.REFUSED)]
    read(dialogue, type="session.updated", session={})
    assert read(dialogue, type="error", error=error) == [Ignored("agent_error")]


def fail_response(dialogue: OpenAiDialogue, **error: Any) -> list[Event]:
    details = {"type": "failed", "error": error} if error else None
    return read(dialogue, type="response.done", response={"status": "failed", "status_details": details})


def test_failed_response_without_credit_ends_the_session(dialogue):
    error = {"type": "insufficient_quota", "code": "insufficient_quota"}
    assert fail_response(dialogue, **error) == [Failed("error insufficient_quota", FailureKind.QUOTA)]


@pytest.mark.parametrize("error", [{"type": "server_error", "code": None}, {}])
def test_failed_response_is_asked_for_once_more(dialogue, error):
    again = [Ignored("agent_error"), Reply(b'{"type":"response.create"}')]
    assert fail_response(dialogue, **error) == again
    assert read(dialogue, type="response.done", response={"status": "completed"}) == []
    assert fail_response(dialogue, **error) == again
    assert fail_response(dialogue, **error) == [Failed(f"error {error.get('type')}", FailureKind.SERVER)]


def test_close_at_the_sessions_limit_says_its_kind(dialogue):
    assert dialogue.on_close(1001) is FailureKind.SESSION_LIMIT
    assert dialogue.on_close(1011) is FailureKind.LOST


def transcript(dialogue: OpenAiDialogue, item_id: str, text: str) -> list[Event]:
    return read(
        dialogue,
        type="response.output_audio_transcript.done",
        item_id=item_id,
        content_index=0,
        transcript=text,
    )


def test_transcripts_say_what_was_said(dialogue):
    begin_item(dialogue, "one")
    assert transcript(dialogue, "one", " Hello? ") == [Said(Speaker.AGENT, "Hello?")]
    assert transcript(dialogue, "one", " ") == []
    assert read(dialogue, type="input_audio_buffer.committed", item_id="two") == [Said(Speaker.CALLER, "")]
    done = "conversation.item.input_audio_transcription.completed"
    assert read(dialogue, type=done, item_id="two", transcript="Yes.") == [Said(Speaker.CALLER, "Yes.")]


def test_interrupted_item_is_told_as_cut(dialogue):
    begin_item(dialogue, "one")
    interrupt(dialogue)
    assert transcript(dialogue, "one", "At nine, but") == [Said(Speaker.AGENT, "At nine, but…")]


def test_model_speaks_from_the_items_begin_to_the_responses_end(dialogue):
    assert not dialogue.is_speaking
    begin_item(dialogue, "one")
    assert dialogue.is_speaking
    read(dialogue, type="response.done", response={"status": "completed"})
    assert not dialogue.is_speaking
    begin_item(dialogue, "two")
    interrupt(dialogue)
    assert not dialogue.is_speaking


HELLO = Said(Speaker.AGENT, "Hello?")


@pytest.mark.parametrize("greets", ["0", "1"])
@pytest.mark.parametrize("is_awaited", [False, True])
def test_one_that_takes_over_knows_what_was_said_and_speaks_first_only_if_it_is_awaited(greets, is_awaited):
    settings = OpenAiSettings(openai_api_key="key", openai_realtime_greets=greets)
    dialogue = OpenAiDialogue(settings, Memory((HELLO, Said(Speaker.CALLER, "Yes.")), is_awaited))
    update, *items = map(orjson.loads, dialogue.opening())
    assert update["type"] == "session.update"
    assert [(item["item"]["role"], item["item"]["content"][0]["text"]) for item in items] == [
        ("assistant", "Hello?"),
        ("user", "Yes."),
    ]
    answer = [Reply(b'{"type":"response.create"}')] if is_awaited else []
    assert read(dialogue, type="session.updated", session={}) == [Control.READY, *answer]


def test_each_item_is_truncated_at_its_own_share_unless_it_was_heard_whole(dialogue):
    begin_item(dialogue, "one")
    read(dialogue, type="response.output_audio.done", item_id="one")
    begin_item(dialogue, "two")
    read(dialogue, type="input_audio_buffer.speech_started")
    heard = [HeardTurn("one", 700, is_all=True), HeardTurn("two", 20, is_all=True)]
    [truncate] = dialogue.on_interrupt(heard)
    assert orjson.loads(truncate)["item_id"] == "two"
    assert orjson.loads(truncate)["audio_end_ms"] == 20
