"""The dialogue in OpenAI's Realtime protocol: items, answers, function calls, errors, and who reads the audio."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bridge.agents.agent import (
    Audio,
    Control,
    Event,
    Failed,
    Ignored,
    Reply,
    Transfer,
    Troubled,
    Turn,
    Warned,
)
from bridge.agents.json_dialogue import ADVISED_WAIT_S
from bridge.agents.openai_realtime import (
    HEARD_WITHIN_S,
    MOST_ITEMS,
    RESPOND,
    UNANNOUNCED,
    UNHEARD,
    RealtimeDialogue,
)
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.tool_calls import CALLS_REMEMBERED
from bridge.agents.turns import HeardTurn
from bridge.agents.words import HANGS_UP, TRANSFERS

RESPOND_NOW = Reply(RESPOND)
END = Control.SPEECH_ENDED


def make(
    session: dict[str, Any] | None = None, memory: Memory | None = None, **options: Any
) -> RealtimeDialogue:
    return RealtimeDialogue(session or {}, memory, **{"greets": False, **options})


@pytest.fixture
def dialogue() -> RealtimeDialogue:
    """One that is ready."""
    dialogue = make(takes_keys=True)
    assert read(dialogue, type="session.updated", session={}) == [Control.READY]
    return dialogue


def read(dialogue: RealtimeDialogue, **message: Any) -> list[Event]:
    return list(dialogue.read(orjson.dumps(message)))


def begin_response(dialogue: RealtimeDialogue, response_id: str) -> None:
    response = {"id": response_id, "status": "in_progress"}
    assert read(dialogue, type="response.created", response=response) == []


def begin_item(
    dialogue: RealtimeDialogue, item_id: str, response_id: str = "r", index: int = 0
) -> list[Event]:
    where = {"response_id": response_id, "item_id": item_id, "content_index": index}
    return read(dialogue, type="response.content_part.added", part={"type": "audio"}, **where)


def audio(dialogue: RealtimeDialogue, response_id: str) -> list[Event]:
    where = {"response_id": response_id, "item_id": "i"}
    return read(dialogue, type="response.output_audio.delta", delta="AAAA", **where)


def end_response(dialogue: RealtimeDialogue, status: str = "completed", **details: Any) -> list[Event]:
    response = {"status": status, "status_details": details or None}
    return read(dialogue, type="response.done", response=response)


def interrupt(dialogue: RealtimeDialogue) -> list[Event]:
    return read(dialogue, type="input_audio_buffer.speech_started")


def sent(messages: Any) -> list[dict[str, Any]]:
    return [orjson.loads(message) for message in messages]


# Items


def test_audio_before_the_format_is_confirmed_is_not_played():
    dialogue = make()
    assert audio(dialogue, "r") == [Ignored("audio_before_its_format")]
    read(dialogue, type="session.updated", session={})
    assert audio(dialogue, "r") == [Audio(b"AAAA"), Control.RELAY_AUDIO]


def test_late_audio_of_an_interrupted_response_is_dropped_and_the_next_ones_is_relayed_again(dialogue):
    begin_response(dialogue, "r1")
    assert begin_item(dialogue, "one", "r1") == [Turn("one"), Control.RELAY_AUDIO]
    assert interrupt(dialogue) == [Control.INTERRUPT, Control.INSPECT_AUDIO]
    assert audio(dialogue, "r1") == [Ignored("void_audio")]
    assert begin_item(dialogue, "late", "r1") == []
    assert end_response(dialogue, "cancelled", reason="turn_detected") == [END]
    assert audio(dialogue, "r1") == [Ignored("void_audio")]
    begin_response(dialogue, "r2")
    assert audio(dialogue, "r2") == [Audio(b"AAAA"), Control.RELAY_AUDIO]
    assert begin_item(dialogue, "two", "r2") == [Turn("two"), Control.RELAY_AUDIO]


def test_interrupt_between_responses_leaves_audio_to_the_wire(dialogue):
    assert interrupt(dialogue) == [Control.INTERRUPT]
    begin_response(dialogue, "r1")
    begin_item(dialogue, "one", "r1")
    end_response(dialogue)
    assert interrupt(dialogue) == [Control.INTERRUPT]


@pytest.mark.parametrize(
    "session",
    [
        {"audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}},
        {"turn_detection": {"type": "server_vad", "interrupt_response": False}},
    ],
)
def test_nothing_is_cleared_for_a_model_that_goes_on_speaking(session):
    dialogue = make(session)
    read(dialogue, type="session.updated", session={})
    begin_item(dialogue, "one")
    assert interrupt(dialogue) == []
    assert dialogue.is_speaking
    assert audio(dialogue, "r") == [Audio(b"AAAA"), Control.RELAY_AUDIO]


def test_each_item_is_truncated_at_its_own_share_unless_it_was_heard_whole(dialogue):
    begin_item(dialogue, "one", "r1")
    read(dialogue, type="response.output_audio.done", item_id="one")
    end_response(dialogue)
    begin_item(dialogue, "two", "r2", 1)
    interrupt(dialogue)
    heard = [HeardTurn("one", 700, is_all=False), HeardTurn("two", 0, is_all=False)]
    assert sent(dialogue.on_interrupt(heard)) == [
        {
            "type": "conversation.item.truncate",
            "item_id": "one",
            "content_index": 0,
            "audio_end_ms": 700,
        },
        {
            "type": "conversation.item.truncate",
            "item_id": "two",
            "content_index": 1,
            "audio_end_ms": 0,
        },
    ]
    # What is over is not truncated again.
    assert sent(dialogue.on_interrupt(heard)) == []


@pytest.mark.parametrize(("is_complete", "count"), [(False, 1), (True, 0)])
def test_item_of_which_all_was_heard_that_was_sent_is_truncated_while_it_is_made(
    dialogue, is_complete, count
):
    begin_item(dialogue, "one")
    if is_complete:
        read(dialogue, type="response.output_audio.done", item_id="one")
    interrupt(dialogue)
    assert len(sent(dialogue.on_interrupt([HeardTurn("one", 500, is_all=True)]))) == count


def test_turns_that_it_does_not_know_are_not_truncated_and_items_are_bounded(dialogue):
    assert sent(dialogue.on_interrupt([HeardTurn("x", 1, is_all=False)])) == []
    for n in range(MOST_ITEMS + 1):
        begin_item(dialogue, str(n))
    heard = [HeardTurn(str(n), 1, is_all=False) for n in range(MOST_ITEMS + 1)]
    assert len(sent(dialogue.on_interrupt(heard))) == MOST_ITEMS


def test_model_speaks_from_the_items_begin_to_the_responses_end(dialogue):
    assert not dialogue.is_speaking
    begin_item(dialogue, "one", "r1")
    assert dialogue.is_speaking
    end_response(dialogue)
    assert not dialogue.is_speaking
    begin_item(dialogue, "two", "r2")
    interrupt(dialogue)
    assert not dialogue.is_speaking


@pytest.mark.parametrize("missing", ["response_id", "item_id", "content_index"])
def test_item_that_is_not_described_is_ignored(dialogue, missing):
    where = {"response_id": "r", "item_id": "i", "content_index": 0}
    del where[missing]
    found = read(dialogue, type="response.content_part.added", part={"type": "audio"}, **where)
    assert found == [Ignored("missing_field")]


# What was said


def transcript(dialogue: RealtimeDialogue, response_id: str, text: str) -> list[Event]:
    done = "response.output_audio_transcript.done"
    return read(dialogue, type=done, response_id=response_id, item_id="i", transcript=text)


def test_transcripts_say_what_was_said(dialogue):
    begin_item(dialogue, "one", "r1")
    assert transcript(dialogue, "r1", " Hello? ") == [Said(Speaker.AGENT, "Hello?")]
    assert transcript(dialogue, "r1", " ") == []
    interrupt(dialogue)
    assert transcript(dialogue, "r1", "At nine, but") == [Said(Speaker.AGENT, "At nine, but…")]
    assert read(dialogue, type="input_audio_buffer.committed", item_id="two") == [Said(Speaker.CALLER, "")]
    done = "conversation.item.input_audio_transcription.completed"
    assert read(dialogue, type=done, item_id="two", transcript="Y", status="in_progress") == []
    assert read(dialogue, type=done, item_id="two", transcript="Yes.") == [Said(Speaker.CALLER, "Yes.")]


def test_service_that_takes_turns_without_their_beginning_is_a_warning(dialogue):
    committed, said = {"type": "input_audio_buffer.committed"}, Said(Speaker.CALLER, "")
    assert read(dialogue, **committed) == [said]
    # A silence that is committed has no beginning.
    assert read(dialogue, type="input_audio_buffer.timeout_triggered") == []
    assert read(dialogue, **committed) == [said]
    assert read(dialogue, **committed) == [said, Warned(UNANNOUNCED)]
    assert read(dialogue, **committed) == [said]


def test_service_that_reports_beginnings_gets_no_warning(dialogue):
    interrupt(dialogue)
    for _ in range(5):
        assert read(dialogue, type="input_audio_buffer.committed") == [Said(Speaker.CALLER, "")]
    assert list(dialogue.on_over(HEARD_WITHIN_S)) == []


def test_session_in_which_the_caller_was_never_heard_is_a_warning_once_it_has_lasted(dialogue):
    assert list(dialogue.on_over(HEARD_WITHIN_S - 0.1)) == []
    assert list(dialogue.on_over(HEARD_WITHIN_S)) == [Warned(UNHEARD.format(HEARD_WITHIN_S))]


def test_session_whose_turns_have_no_beginning_has_its_warning_already(dialogue):
    for _ in range(2):
        read(dialogue, type="input_audio_buffer.committed")
    assert list(dialogue.on_over(HEARD_WITHIN_S)) == []


HELLO = Said(Speaker.AGENT, "Hello?")


@pytest.mark.parametrize("greets", [False, True])
@pytest.mark.parametrize("is_awaited", [False, True])
def test_one_that_takes_over_knows_what_was_said_and_speaks_first_only_if_it_is_awaited(greets, is_awaited):
    memory = Memory((HELLO, Said(Speaker.CALLER, "Yes.")), is_awaited)
    dialogue = make({"type": "realtime"}, memory, greets=greets)
    update, *items = sent(dialogue.opening())
    assert update == {"type": "session.update", "session": {"type": "realtime"}}
    assert [(item["item"]["role"], item["item"]["content"][0]["text"]) for item in items] == [
        ("assistant", "Hello?"),
        ("user", "Yes."),
    ]
    answer = [RESPOND_NOW] if is_awaited else []
    assert read(dialogue, type="session.updated", session={}) == [Control.READY, *answer]


# The session


@pytest.mark.parametrize("side", ["input", "output"])
def test_format_that_was_not_asked_for_is_refused(side):
    dialogue = make()
    pcmu = {"format": {"type": "audio/pcmu"}}
    confirmed = {"input": pcmu, "output": pcmu} | {side: {"format": {"type": "audio/pcm", "rate": 24000}}}
    text = f"it confirms {side} audio as audio/pcm instead of audio/pcmu"
    refused = [Failed(text, FailureKind.REFUSED)]
    assert read(dialogue, type="session.updated", session={"audio": confirmed}) == refused


@pytest.mark.parametrize(
    "session",
    [
        None,
        [],
        {"audio": None},
        {"audio": {"input": None}},
        {"audio": {"output": {"format": {"type": "audio/pcmu", "rate": 8000}}}},
    ],
)
def test_session_that_states_no_other_format_is_ready_once(session):
    dialogue = make(greets=True)
    assert read(dialogue, type="session.updated", session=session) == [Control.READY, RESPOND_NOW]
    assert read(dialogue, type="session.updated", session=session) == []


def test_close_at_the_sessions_limit_says_its_kind(dialogue):
    assert dialogue.on_close(1001) is FailureKind.SESSION_LIMIT
    assert dialogue.on_close(1011) is FailureKind.LOST


def test_limit_that_is_near_is_a_message_of_the_system():
    dialogue = make(session_limit_s=3600.0)
    assert dialogue.session_limit_s == 3600
    [message] = sent(dialogue.on_limit_near(59.6))
    assert message["item"]["role"] == "system"
    assert "60 seconds" in message["item"]["content"][0]["text"]


# Keys


def test_keys_are_a_text_of_the_caller_that_is_answered(dialogue):
    item, respond = sent(dialogue.on_dtmf("123#"))
    assert item["item"]["role"] == "user"
    assert "123#" in item["item"]["content"][0]["text"]
    assert respond == orjson.loads(RESPOND)
    assert sent(make().on_dtmf("1")) == []


def test_keys_during_a_response_are_answered_after_it(dialogue):
    begin_response(dialogue, "r1")
    assert [message["type"] for message in sent(dialogue.on_dtmf("1"))] == ["conversation.item.create"]
    assert end_response(dialogue) == [END, RESPOND_NOW]
    assert end_response(dialogue) == [END]


# Function calls


def call(
    dialogue: RealtimeDialogue, name: str, arguments: Any, call_id: Any = "c1", **item: Any
) -> list[Event]:
    item = {"type": "function_call", "status": "completed", "name": name, "call_id": call_id} | item
    item["arguments"] = orjson.dumps(arguments).decode()
    return read(dialogue, type="response.output_item.done", item=item)


def results(*messages: bytes) -> list[tuple[str, dict[str, Any]]]:
    items = [message["item"] for message in sent(messages)]
    assert {item["type"] for item in items} == {"function_call_output"}
    return [(item["call_id"], orjson.loads(item["output"])) for item in items]


def test_hang_up_is_answered_and_asks_for_no_more_words(dialogue):
    begin_response(dialogue, "r1")
    reply, hang_up = call(dialogue, "hang_up", {})
    assert results(reply.message) == [("c1", {"result": HANGS_UP})]
    assert hang_up is Control.HANG_UP
    assert end_response(dialogue) == [END]


def test_transfer_has_both_answers_and_the_model_goes_on_after_the_response(dialogue):
    begin_response(dialogue, "r1")
    [transfer] = call(dialogue, "transfer_call", {"to_number": "+1"})
    assert isinstance(transfer, Transfer)
    assert results(*transfer.refusal) == [("c1", {"error": "transfers to this number are not allowed"})]
    assert results(*transfer.acceptance) == [("c1", {"result": TRANSFERS})]
    assert end_response(dialogue) == [END, RESPOND_NOW]


def test_several_calls_are_answered_at_once_and_their_response_once(dialogue):
    begin_response(dialogue, "r1")
    replies = [call(dialogue, f"unknown {n}", {}, f"c{n}")[0] for n in range(3)]
    assert [call_id for call_id, _ in results(*(reply.message for reply in replies))] == ["c0", "c1", "c2"]
    assert end_response(dialogue) == [END, RESPOND_NOW]
    assert end_response(dialogue) == [END]


def test_call_that_is_reported_again_is_taken_once(dialogue):
    assert len(call(dialogue, "x", {})) == 1
    assert end_response(dialogue) == [END, RESPOND_NOW]
    assert call(dialogue, "x", {}) == [Ignored("repeated_tool_call")]
    assert end_response(dialogue) == [END]
    for n in range(CALLS_REMEMBERED):
        call(dialogue, "x", {}, f"d{n}")
    assert len(call(dialogue, "x", {})) == 1


@pytest.mark.parametrize(
    "item", [{"status": "incomplete"}, {"status": "in_progress"}, {"status": []}, {"type": "message"}]
)
def test_call_that_was_cancelled_does_nothing(dialogue, item):
    assert call(dialogue, "hang_up", {}, **item) == []


def test_call_of_a_service_that_gives_no_status_is_taken(dialogue):
    assert call(dialogue, "hang_up", {}, status=None)[-1] is Control.HANG_UP


def test_response_that_the_service_abandons_owes_nothing(dialogue):
    begin_response(dialogue, "r1")
    call(dialogue, "x", {})
    begin_response(dialogue, "r2")
    assert end_response(dialogue) == [END]


def test_call_without_an_id_is_taken_and_not_answered(dialogue):
    assert call(dialogue, "hang_up", {}, None) == [Control.HANG_UP]
    assert call(dialogue, "x", {}, None) == [Ignored("unknown_function")]
    assert end_response(dialogue) == [END]


def test_results_of_an_interrupted_response_are_answered_with_the_callers_next_turn(dialogue):
    begin_response(dialogue, "r1")
    call(dialogue, "x", {})
    interrupt(dialogue)
    assert end_response(dialogue, "cancelled", type="cancelled", reason="turn_detected") == [END]
    assert end_response(dialogue) == [END]


# Errors


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("session_expired", FailureKind.SESSION_LIMIT),
        ("insufficient_quota", FailureKind.QUOTA),
        ("invalid_api_key", FailureKind.CREDENTIALS),
    ],
)
@pytest.mark.parametrize("is_ready", [False, True])
def test_error_that_ends_the_session_says_its_kind(code, kind, is_ready):
    dialogue = make()
    if is_ready:
        read(dialogue, type="session.updated", session={})
    assert read(dialogue, type="error", error={"code": code}) == [Failed(f"error code {code}", kind)]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "invalid_value", "type": "invalid_request_error"}, FailureKind.REFUSED),
        ({"code": None, "type": "server_error"}, FailureKind.SERVER),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, FailureKind.QUOTA),
    ],
)
def test_any_error_before_the_session_is_confirmed_ends_it(error, kind):
    [failed] = read(make(), type="error", error=error)
    assert failed.kind is kind


def test_error_about_a_message_is_a_warning_and_one_of_the_service_is_trouble(dialogue):
    error = {
        "code": "invalid_value",
        "type": "invalid_request_error",
        "param": "audio_end_ms",
        "message": "too\nlong",
    }
    text = "error code invalid_value, type invalid_request_error, param audio_end_ms: too long"
    assert read(dialogue, type="error", error=error) == [Warned(text)]
    [trouble] = read(dialogue, type="error", error={"type": "server_error", "code": None})
    assert trouble == Troubled("error type server_error", FailureKind.SERVER)
    error = {"type": "invalid_request_error", "code": "inference_rate_limit_exceeded"}
    [trouble] = read(dialogue, type="error", error=error)
    assert trouble.kind is FailureKind.QUOTA


def test_refused_request_to_speak_is_trouble_unless_the_model_speaks_anyway(dialogue):
    error = {"type": "invalid_request_error", "code": "x", "event_id": "respond"}
    [trouble] = read(dialogue, type="error", error=error)
    assert isinstance(trouble, Troubled)
    error["code"] = "conversation_already_has_active_response"
    [warned] = read(dialogue, type="error", error=error)
    assert isinstance(warned, Warned)


def test_failed_response_without_credit_ends_the_session(dialogue):
    error = {"type": "insufficient_quota", "code": "insufficient_quota"}
    failed = Failed("error code insufficient_quota", FailureKind.QUOTA)
    assert end_response(dialogue, "failed", type="failed", error=error) == [END, failed]


@pytest.mark.parametrize(
    ("error", "detail"),
    [({"type": "server_error", "code": None}, "error type server_error"), ({}, "error"), ("x", "error")],
)
def test_failed_response_is_asked_for_once_more(dialogue, error, detail):
    again = [END, Troubled(detail, FailureKind.SERVER), RESPOND_NOW]
    assert end_response(dialogue, "failed", error=error) == again
    assert end_response(dialogue) == [END]
    assert end_response(dialogue, "failed", error=error) == again
    assert end_response(dialogue, "failed", error=error) == [END, Failed(detail, FailureKind.SERVER)]


def test_rate_limit_is_waited_for_up_to_the_longest_wait(dialogue):
    error = {"type": "tokens", "code": "rate_limit_exceeded", "message": "Please try again in 1.5s."}
    _, trouble, again = end_response(dialogue, "failed", error=error)
    assert trouble.kind is FailureKind.QUOTA
    assert again == Reply(RESPOND, 1.5)
    end_response(dialogue)
    error["message"] = "Please try again in 2.1s."
    _, failed = end_response(dialogue, "failed", error=error)
    assert isinstance(failed, Failed)
    assert failed.kind is FailureKind.QUOTA


def test_rate_limit_that_states_no_wait_takes_that_of_the_exhausted_limits(dialogue):
    limits = [
        {"name": "requests", "limit": 9, "remaining": 5, "reset_seconds": 60},
        {"name": "tokens", "limit": 9, "remaining": 0, "reset_seconds": ADVISED_WAIT_S},
        "x",
    ]
    assert read(dialogue, type="rate_limits.updated", rate_limits=limits) == []
    error = {"type": "tokens", "code": "rate_limit_exceeded"}
    assert end_response(dialogue, "failed", error=error)[-1] == Reply(RESPOND, ADVISED_WAIT_S)


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
def test_incomplete_response_is_a_warning(dialogue, reason):
    warned = Warned(f"response incomplete: {reason}")
    assert end_response(dialogue, "incomplete", type="incomplete", reason=reason) == [END, warned]


def test_results_are_answered_after_an_incomplete_response_too(dialogue):
    call(dialogue, "x", {})
    assert end_response(dialogue, "incomplete", reason="max_output_tokens")[-1] == RESPOND_NOW


@pytest.mark.parametrize(
    "message",
    [
        {"type": "response.done", "response": None},
        {"type": "response.done", "response": {}},
        {"type": "response.created"},
        {"type": "error", "error": "x"},
        {"type": "error", "error": {"code": ["x"], "type": {}, "message": 5}},
        {"type": "response.output_audio.delta", "delta": 5},
        {"type": "conversation.created"},
        {"type": "ping", "timestamp": 1},
    ],
)
def test_odd_messages_are_survived(dialogue, message):
    assert [event for event in read(dialogue, **message) if isinstance(event, Failed)] == []


def test_messages_without_a_type_are_counted(dialogue):
    assert read(dialogue, kind="x") == [Ignored("unknown_type")]
    assert list(dialogue.read(b"{")) == [Ignored("not_json")]
