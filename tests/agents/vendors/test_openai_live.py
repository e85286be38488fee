"""GPT-Live's dialogue: its start, its functions, its errors and its end."""

from __future__ import annotations

import base64
from typing import Any

import aiohttp
import orjson
import pytest

from bridge.agents.agent import (
    Audio,
    CallInfo,
    Control,
    Event,
    Failed,
    Ignored,
    Reply,
    Resources,
    StreamInfo,
    Transfer,
    Troubled,
    Used,
    Warned,
)
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.vendors.openai_live import AGENT, OpenAiLiveDialogue, OpenAiLiveSettings
from bridge.agents.words import HANGS_UP, TRANSFERS

FORMAT = {"type": "audio/pcmu", "rate": 8000}
NOW = 1_000_000.0
SILENCE = base64.b64encode(b"\xff" * 800).decode()
WORD = base64.b64encode(b"\x20" * 800).decode()
HELLO = Said(Speaker.AGENT, "Hello?")
YES = Said(Speaker.CALLER, "Yes.")


def dialogue_of(
    memory: Memory | None = None, instructions: str = "", may_transfer: bool = False, **settings: str
) -> OpenAiLiveDialogue:
    given = OpenAiLiveSettings(openai_api_key="key", **settings)
    return OpenAiLiveDialogue(given, instructions, memory, may_transfer=may_transfer, clock=lambda: NOW)


@pytest.fixture
def dialogue() -> OpenAiLiveDialogue:
    """One whose session has started."""
    dialogue = dialogue_of(may_transfer=True)
    start(dialogue)
    return dialogue


def read(dialogue: OpenAiLiveDialogue, kind: str, **message: Any) -> list[Event]:
    return list(dialogue.read(orjson.dumps({"event_id": "e", "type": kind, **message})))


def start(dialogue: OpenAiLiveDialogue, **session: Any) -> list[Event]:
    return read(dialogue, "session.started", session={"id": "s", "audio": {"format": FORMAT}, **session})


def session_of(dialogue: OpenAiLiveDialogue) -> dict[str, Any]:
    [message] = map(orjson.loads, dialogue.opening())
    assert message.keys() == {"type", "session"} and message["type"] == "session.start"
    return message["session"]


def texts(events: list[Event]) -> list[str]:
    """The texts that are appended to the session's instructions."""
    messages = [orjson.loads(event.message) for event in events if isinstance(event, Reply)]
    assert all(message["type"] == "session.instructions.append" for message in messages)
    assert all(message["delegation_id"] is None for message in messages)
    return [message["content"] for message in messages]


# The start


def test_audio_before_the_format_is_confirmed_is_not_played():
    dialogue = dialogue_of()
    assert read(dialogue, "session.output_audio.delta", delta=WORD) == [Ignored("audio_before_its_format")]
    start(dialogue)
    assert read(dialogue, "session.output_audio.delta", delta=WORD) == [Audio(WORD.encode())]


def test_session_starts_with_the_model_mulaw_and_the_model_that_has_the_functions():
    session = session_of(dialogue_of())
    assert session["model"] == "gpt-live-1.1"
    assert session["audio"] == {"format": FORMAT}
    assert session["delegation"]["type"] == "responses"
    assert session["delegation"]["responses"]["model"] == "gpt-6-luna"
    assert session.keys() == {"model", "audio", "delegation"}


def test_settings_are_said_at_the_start():
    session = session_of(
        dialogue_of(
            instructions="Be brief.",
            openai_live_model="m",
            openai_live_delegation_model="d",
            openai_live_voice="cedar",
            openai_live_tools="0",
        )
    )
    assert (session["model"], session["instructions"]) == ("m", "Be brief.")
    assert session["audio"]["output"] == {"voice": "cedar"}
    assert session["delegation"]["responses"] == {"model": "d"}


@pytest.mark.parametrize(
    ("may_transfer", "names"), [(False, ["hang_up"]), (True, ["hang_up", "transfer_call"])]
)
def test_transfer_is_offered_only_where_a_number_is_allowed(may_transfer, names):
    dialogue = dialogue_of(may_transfer=may_transfer, openai_live_greets="0")
    tools = session_of(dialogue)["delegation"]["responses"]["tools"]
    assert [tool["name"] for tool in tools] == names
    [about] = texts(start(dialogue))
    assert ("transfer" in about) == may_transfer


@pytest.mark.parametrize(
    ("greets", "memory", "says"),
    [
        ("1", None, "Greet the caller"),
        ("0", None, None),
        ("1", Memory((HELLO, YES), True), "go on"),
        ("1", Memory((HELLO,), False), None),
    ],
)
def test_model_is_asked_to_speak_first_where_it_greets_or_is_awaited(greets, memory, says):
    dialogue = dialogue_of(memory, openai_live_greets=greets, openai_live_tools="0")
    [ready, *asked] = start(dialogue)
    assert ready is Control.READY
    assert len(asked) == (says is not None)
    assert all(says in text for text in texts(asked))
    assert start(dialogue) == []


def test_one_that_takes_over_knows_what_was_said():
    session = session_of(dialogue_of(Memory((HELLO, YES), True)))
    assert session["input"] == [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello?"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Yes."}]},
    ]
    assert "input" not in session_of(dialogue_of(Memory((), True)))


def test_history_keeps_the_newest_within_the_vendors_bound():
    said = tuple(Said(Speaker.CALLER, f"{n:02d}" + "ä" * 499) for n in range(20))
    items = session_of(dialogue_of(Memory(said, True)))["input"]
    assert [item["content"][0]["text"][:2] for item in items] == ["13", "14", "15", "16", "17", "18", "19"]


@pytest.mark.parametrize("confirmed", [{"type": "audio/pcm", "rate": 24000}, {"type": "audio/pcma"}])
def test_another_format_is_refused_and_the_session_closed(confirmed):
    dialogue = dialogue_of()
    close, failed = start(dialogue, audio={"format": confirmed})
    assert close == Reply(b'{"type":"session.close"}')
    assert failed.kind is FailureKind.REFUSED and confirmed["type"] in failed.detail


@pytest.mark.parametrize("audio", [{}, {"format": None}, {"format": {"type": "audio/pcmu"}}])
def test_format_that_is_not_stated_is_the_one_that_was_asked_for(audio):
    assert Control.READY in start(dialogue_of(), audio=audio)


@pytest.mark.parametrize(
    ("expires_at", "limit_s"), [(NOW + 1800, 1800.0), (NOW - 5, None), ("soon", None), (None, None)]
)
def test_sessions_end_is_known_from_the_vendor(expires_at, limit_s):
    dialogue = dialogue_of()
    start(dialogue, expires_at=int(expires_at) if isinstance(expires_at, float) else expires_at)
    assert dialogue.session_limit_s == limit_s


def test_texts_are_cut_to_500_bytes_between_characters(dialogue):
    dialogue = dialogue_of(openai_live_keys="1")
    [message] = map(orjson.loads, dialogue.on_dtmf("1" * 400))
    assert message["type"] == "session.thinking.append" and message["delegation_id"] is None
    assert len(message["content"].encode()) == 500
    assert message["content"].startswith("The caller has pressed these keys of the telephone: 1 1")


def test_keys_are_passed_on_only_if_wanted(dialogue):
    assert list(dialogue.on_dtmf("12#")) == []
    assert dialogue.gathers_keys


def test_model_learns_that_the_end_is_near(dialogue):
    [message] = map(orjson.loads, dialogue.on_limit_near(59.6))
    assert message["type"] == "session.instructions.append" and "60 seconds" in message["content"]


async def test_instructions_and_names_come_from_the_call():
    settings = OpenAiLiveSettings(
        openai_api_key="secret", openai_live_instructions="Caller {from}, {param.name!}, {file.PROMPT}."
    )
    call = CallInfo("CA1", "+1", "+2", {"param.name": "{from}"})
    stream = StreamInfo(call, "AC1", "MZ1", {}, True)
    async with aiohttp.ClientSession() as http:
        agent = AGENT.describe(settings, Resources(http, 1.0, {"file.PROMPT": "Be brief"}))
        dialogue = agent.dialogue(stream, lambda: 1)
        assert isinstance(dialogue, OpenAiLiveDialogue)
        assert session_of(dialogue)["instructions"] == "Caller +1, {from}, Be brief."
        assert agent.names == agent.required == {"param.name"}
        endpoint = agent.endpoint({}, call)
    assert endpoint.url == "wss://api.openai.com/v1/live/sessions"
    assert endpoint.headers == {"Authorization": "Bearer secret"}


# What it says


def test_plain_audio_is_found_and_any_other_form_of_it_is_read(dialogue):
    message = b'{"type":"session.output_audio.delta","delta":"%s"}' % WORD.encode()
    assert dialogue.audio.find(message) is not None
    assert list(dialogue.read(message)) == [Audio(WORD.encode())]
    assert dialogue.to_agent.wrap_payload(b"AAAA") == b'{"type":"session.input_audio.append","audio":"AAAA"}'


def transcript(dialogue: OpenAiLiveDialogue, speaker: str, text: str, start_ms: int) -> list[Event]:
    kind = f"session.{speaker}_transcript.delta"
    return read(dialogue, kind, delta=text, start_ms=start_ms, end_ms=start_ms + 100)


def test_transcripts_are_put_together(dialogue):
    assert transcript(dialogue, "output", "Hello", 0) == []
    assert dialogue.is_speaking
    assert transcript(dialogue, "output", " there.", 100) == [Said(Speaker.AGENT, "Hello there.")]
    assert transcript(dialogue, "input", "Yes", 300) == [Said(Speaker.CALLER, "")]
    assert not dialogue.is_speaking
    assert transcript(dialogue, "output", "Good", 500) == [Said(Speaker.CALLER, "Yes")]


def test_usage_is_reported(dialogue):
    assert read(dialogue, "session.usage.updated", usage={"seconds": 15}) == [Used(15)]
    assert read(dialogue, "session.usage.updated", usage={}) == []


def test_messages_without_a_meaning_are_passed_over(dialogue):
    assert read(dialogue, "session.instructions.appended", start_ms=0, end_ms=0) == []
    assert read(dialogue, "info", code="x", message="y") == []
    assert list(dialogue.read(b'{"kind":"x"}')) == [Ignored("unknown_type")]


def test_nothing_is_cleared_or_truncated(dialogue):
    assert not dialogue.tracks_heard
    assert list(dialogue.on_interrupt(100)) == []


# Functions


def work(dialogue: OpenAiLiveDialogue, kind: str, **event: Any) -> list[Event]:
    return read(dialogue, "response.event", delegation_id="d", event={"type": kind, **event})


def call_function(dialogue: OpenAiLiveDialogue, name: str, arguments: Any, call_id: str = "c") -> list[Event]:
    item = {"type": "function_call", "status": "completed", "call_id": call_id, "name": name}
    return work(
        dialogue, "response.output_item.done", item={**item, "arguments": orjson.dumps(arguments).decode()}
    )


def result_of(message: bytes) -> tuple[str, Any]:
    fields = orjson.loads(message)
    assert fields.keys() == {"type", "item"} and fields["type"] == "response.item.create"
    assert fields["item"].keys() == {"type", "call_id", "output"}
    assert fields["item"]["type"] == "function_call_output"
    return fields["item"]["call_id"], orjson.loads(fields["item"]["output"])


def test_hang_up_is_answered_and_then_done(dialogue):
    result, *rest = call_function(dialogue, "hang_up", {})
    assert result_of(result.message) == ("c", {"result": HANGS_UP})
    assert rest == [Control.HANG_UP, Control.INSPECT_AUDIO]


def test_transfer_is_answered_by_what_becomes_of_it(dialogue):
    transfer, inspect = call_function(dialogue, "transfer_call", {"to_number": "+4930123456"})
    assert isinstance(transfer, Transfer) and transfer.to_number == "+4930123456"
    assert [result_of(message) for message in transfer.acceptance] == [("c", {"result": TRANSFERS})]
    [refusal] = transfer.refusal
    assert "not allowed" in result_of(refusal)[1]["error"]
    assert inspect is Control.INSPECT_AUDIO


@pytest.mark.parametrize("arguments", [{}, {"to_number": 1}, [], "+49"])
def test_call_that_is_not_understood_is_answered_so(dialogue, arguments):
    [result] = call_function(dialogue, "transfer_call", arguments)
    assert "not known" in result_of(result.message)[1]["error"]


def test_results_go_in_order_and_one_request_follows_once_the_response_is_complete(dialogue):
    first = call_function(dialogue, "one", {}, "c1")
    second = call_function(dialogue, "two", {}, "c2")
    assert [result_of(event.message)[0] for event in [*first, *second]] == ["c1", "c2"]
    assert work(dialogue, "response.completed", response={"output": []}) == [
        Reply(b'{"type":"response.create"}')
    ]
    assert work(dialogue, "response.completed", response={"output": []}) == []


def test_call_is_answered_once(dialogue):
    for kind in ("response.output_item.added", "response.function_call_arguments.done"):
        assert work(dialogue, kind, item={"type": "function_call", "call_id": "c", "name": "x"}) == []
    assert len(call_function(dialogue, "x", {})) == 1
    assert call_function(dialogue, "x", {}) == [Ignored("repeated_tool_call")]


def test_call_without_an_id_is_not_answered(dialogue):
    item = {"type": "function_call", "name": "hang_up", "arguments": "{}"}
    done = work(dialogue, "response.output_item.done", item=item)
    assert done == [Control.HANG_UP, Control.INSPECT_AUDIO]
    assert work(dialogue, "response.completed", response={}) == []


def test_delegated_work_that_fails_is_a_warning(dialogue):
    error = {"code": "server_error", "message": "Try again."}
    [warned] = work(dialogue, "response.failed", response={"status": "failed", "error": error})
    assert warned == Warned("delegated work failed: error code server_error: Try again.")
    assert work(dialogue, "response.failed", response={"status": "failed", "error": None}) == []


def audio(dialogue: OpenAiLiveDialogue, delta: str) -> list[Event]:
    return read(dialogue, "session.output_audio.delta", delta=delta)


def test_goodbye_ends_with_a_second_of_silence_which_is_streamed(dialogue):
    call_function(dialogue, "hang_up", {})
    heard = [*[SILENCE] * 15, *[WORD] * 20, *[SILENCE] * 9]
    for delta in heard:
        assert audio(dialogue, delta) == [Audio(delta.encode())]
    over = [Audio(SILENCE.encode()), Control.SPEECH_ENDED, Control.RELAY_AUDIO]
    assert audio(dialogue, SILENCE) == over


def test_goodbye_after_a_refused_transfer_has_its_own_time(dialogue):
    call_function(dialogue, "transfer_call", {"to_number": "+4930123456"}, "c1")
    for delta in [SILENCE] * 25:
        audio(dialogue, delta)
    call_function(dialogue, "hang_up", {}, "c2")
    for delta in [SILENCE] * 29:
        assert audio(dialogue, delta) == [Audio(delta.encode())]
    assert Control.SPEECH_ENDED in audio(dialogue, SILENCE)


def test_audio_that_is_not_base64_is_left_to_the_leg(dialogue):
    call_function(dialogue, "hang_up", {})
    assert audio(dialogue, "?") == [Audio(b"?")]


# Errors and the end


def fail(dialogue: OpenAiLiveDialogue, **error: Any) -> list[Event]:
    return read(dialogue, "error", error=error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "credit_balance_exhausted", "type": "invalid_request_error"}, FailureKind.QUOTA),
        ({"code": "insufficient_quota"}, FailureKind.QUOTA),
        ({"code": "x", "type": "insufficient_quota"}, FailureKind.QUOTA),
        ({"code": "project_spend_limit_exceeded"}, FailureKind.QUOTA),
        ({"code": "invalid_api_key"}, FailureKind.CREDENTIALS),
        ({"type": "authentication_error"}, FailureKind.CREDENTIALS),
        ({"code": "session_expired"}, FailureKind.SESSION_LIMIT),
    ],
)
@pytest.mark.parametrize("is_started", [False, True])
def test_error_that_ends_the_session_says_its_kind(error, kind, is_started):
    dialogue = dialogue_of()
    if is_started:
        start(dialogue)
    [failed] = fail(dialogue, **error)
    assert isinstance(failed, Failed) and failed.kind is kind
    assert failed.detail.startswith("error ")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "unknown_parameter", "type": "invalid_request_error"}, FailureKind.REFUSED),
        ({"code": "model_not_found"}, FailureKind.REFUSED),
        ({}, FailureKind.REFUSED),
        ({"code": "server_error"}, FailureKind.SERVER),
        ({"code": "rate_limit_exceeded"}, FailureKind.QUOTA),
    ],
)
def test_any_error_before_the_session_has_started_is_fatal(error, kind):
    [failed] = fail(dialogue_of(), **error)
    assert isinstance(failed, Failed) and failed.kind is kind


def test_error_about_a_message_is_a_warning_with_its_words(dialogue):
    error = {"type": "invalid_request_error", "code": "unknown_parameter", "param": "x", "message": "No\nx."}
    words = "error code unknown_parameter, type invalid_request_error, param x: No x."
    assert fail(dialogue, **error) == [Warned(words)]


def test_silence_after_an_error_does_not_count_as_speech(dialogue):
    assert fail(dialogue, code="server_error", type="server_error") == [
        Troubled("error code server_error"),
        Control.INSPECT_AUDIO,
    ]
    assert audio(dialogue, SILENCE) == []
    assert audio(dialogue, WORD) == [Audio(WORD.encode()), Control.RELAY_AUDIO]
    assert audio(dialogue, SILENCE) == [Audio(SILENCE.encode())]


def test_error_during_the_goodbye_is_a_warning(dialogue):
    call_function(dialogue, "hang_up", {})
    assert fail(dialogue, code="server_error") == [Warned("error code server_error")]


def closed(dialogue: OpenAiLiveDialogue, reason: Any) -> list[Event]:
    return read(dialogue, "session.closed", reason=reason, usage={"seconds": 7})


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("expired", FailureKind.SESSION_LIMIT),
        ("content", FailureKind.LOST),
        ("connection_lost", FailureKind.LOST),
        ("unheard_of", FailureKind.LOST),
        (None, FailureKind.LOST),
    ],
)
def test_closed_session_says_its_kind_after_the_last_words(dialogue, reason, kind):
    transcript(dialogue, "output", "As I", 0)
    assert closed(dialogue, reason) == [
        Used(7),
        Said(Speaker.AGENT, "As I"),
        Failed(f"session closed: {reason}", kind),
    ]
    assert list(dialogue.closing()) == [] and dialogue.closed_s == 0


@pytest.mark.parametrize("reason", ["remote_hangup", "close_requested"])
def test_session_that_somebody_ends_elsewhere_ends_the_call(dialogue, reason):
    assert closed(dialogue, reason) == [Used(7), Control.ENDED]


@pytest.mark.parametrize("reason", ["close_requested", "expired"])
def test_session_is_closed_once_and_its_end_is_waited_for(dialogue, reason):
    assert list(dialogue.closing()) == [b'{"type":"session.close"}']
    assert list(dialogue.closing()) == []
    assert dialogue.closed_s == 5
    assert closed(dialogue, reason) == [Used(7), Control.CLOSED]
