"""Agents that say that they cannot go on, that say goodbye, or that speak in one breath, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from live import API_KEY, DEADLINE_S, FACTOR, PLAIN_AND_TLS, Live, soon, until

from bridge.agents.agent import AudioFormat
from bridge.agents.vendors.deepgram import DeepgramDialogue
from bridge.call.farewell import Farewell
from bridge.call.transcode import to_mulaw
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.numbered import make_numbered
from bridge.twilio.rest import TwilioApi

pytestmark = PLAIN_AND_TLS

GOODBYE = [make_numbered(n) for n in range(100)]
KINDS = ("deepgram", "elevenlabs")


@pytest.fixture
async def start(live_server, tmp_path):
    """Starts a server whose agent is of a protocol."""

    async def start_one(protocol: str, **settings: Any) -> Live:
        (tmp_path / "agent.json").write_text(json.dumps({"language": "en", "greeting": "Hi!"}))
        account = settings.pop("account", Account(key=API_KEY))
        options = {"protocol": protocol, "account": account}
        return await live_server(agent=options, DEEPGRAM_AGENT_FILE=tmp_path / "agent.json", **settings)

    return start_one


# An unwell agent of each protocol: what happens to it, whether a new session of it may help, and the words in the log.
ENDS = {
    "deepgram's error and ordinary close": (
        "deepgram",
        lambda session: session.send_error("FAILED_TO_THINK", "No LLM answered."),
        True,
        "Error FAILED_TO_THINK: No LLM answered.",
    ),
    "deepgram's session limit": (
        "deepgram",
        lambda session: session.reach_limit(),
        True,
        "Error MAXIMUM_SESSION_LENGTH_REACHED: The session has reached its maximum length.",
    ),
    "deepgram's refusal": (
        "deepgram",
        lambda session: session.send_error("USER_AUDIO_FORMAT", "Not what was declared."),
        False,
        "Error USER_AUDIO_FORMAT: Not what was declared.",
    ),
    "elevenlabs' quota": (
        "elevenlabs",
        lambda session: session.exceed_quota(),
        False,
        "error received 1002 (protocol error) This request exceeds your quota limit.",
    ),
    "elevenlabs' quota as a close alone": (
        "elevenlabs",
        lambda session: session.close(1002, "This request exceeds your quota limit."),
        False,
        "close 1002 This request exceeds your quota limit.",
    ),
    "elevenlabs' fault": (
        "elevenlabs",
        lambda session: session.send_error("llm_timeout", 1002, "The LLM took too long."),
        True,
        "error 1002 llm_timeout The LLM took too long.",
    ),
    "elevenlabs' session limit": (
        "elevenlabs",
        lambda session: session.reach_limit(),
        True,
        "error 1000 max_duration_exceeded",
    ),
    "retell's close": (
        "retell-web",
        lambda session: session.close(1011, "no\nllm"),
        True,
        "close 1011 no llm",
    ),
}


@pytest.mark.parametrize("name", ENDS)
async def test_agent_that_cannot_go_on_gets_a_new_session_where_that_may_help_and_says_why_in_the_log(
    start, logs, name
):
    protocol, end, may_come_again, reason = ENDS[name]
    live = await start(protocol)
    async with live.bridged() as (caller, session):
        if protocol == "retell-web":
            # Its first session was found by the CallSid.
            await live.agent.next_session(DEADLINE_S)
        await asyncio.gather(end(session), session.closed.wait())
        if may_come_again:
            session = await live.agent.next_session(DEADLINE_S)
            await until(lambda: session.ready.is_set())
            await session.send_audio(b"I am back")
            await until(lambda: caller.received_audio == [b"I am back"])
        else:
            await soon(caller.closed.wait())
            assert (caller.close_code, len(live.agent.sessions)) == (1011, 1)
            assert (await caller.follow_redirect()).verbs == ["Say", "Hangup"]
    lines = [line for line in logs.lines if reason in line and line.startswith("WARNING")]
    assert lines


async def test_warnings_of_deepgram_are_logged_once_each_and_disturb_nothing(start, logs):
    live = await start("deepgram")
    async with live.bridged() as (caller, session):
        for code in ("SLOW_THINK_REQUEST", "SLOW_THINK_REQUEST", "PROMPT_TOO_LONG"):
            await session.send_warning(code, "see the documents")
        await session.send_audio(b"still here")
        await until(lambda: caller.received_audio == [b"still here"])
    warned = [line for line in logs.lines if line.startswith("WARNING") and "agent warns" in line]
    assert len(warned) == 2


async def test_format_that_elevenlabs_confirms_and_nobody_can_play_is_never_played(start, logs):
    live = await start("elevenlabs", BRIDGE_AGENT="elevenlabs,echo")
    live.agent.on_session = lambda session: setattr(session, "announced_format", "pcm_44100")
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: live.agents_replaced == 1)
        await caller.send_media(b"hello?")
        await until(lambda: caller.received_audio == [b"hello?"])
    assert [line for line in logs.lines if "pcm_44100" in line and "set the agent to ulaw_8000" in line]


# Goodbyes


@pytest.fixture
def twilio_asked(monkeypatch) -> list[tuple[str, ...]]:
    """What is asked of Twilio's REST API: the names of the form's fields."""
    asked: list[tuple[str, ...]] = []

    async def change(form):
        asked.append(tuple(form))

    monkeypatch.setattr(TwilioApi, "_change", lambda api, call_sid, form: change(form))
    return asked


@pytest.mark.parametrize("wish", ["hang_up", "transfer_call"])
@pytest.mark.parametrize("protocol", KINDS)
async def test_goodbye_that_follows_the_answer_is_heard_whole(start, twilio_asked, protocol, wish):
    live = await start(protocol, BRIDGE_TRANSFER_TO="+4930")
    async with live.bridged() as (caller, session):
        arguments = {"to_number": "+493012345678"} if wish == "transfer_call" else {}
        await session.send_goodbye(wish, arguments, GOODBYE)
        await caller.closed.wait()
        assert caller.close_code == 1000
        assert caller.received_audio == GOODBYE
        caller.playout.advance(asyncio.get_running_loop().time())
        assert caller.playout.buffered_bytes == 0
        assert b"".join(GOODBYE) in caller.heard()
        assert twilio_asked == [("Twiml",) if wish == "transfer_call" else ("Status",)]


async def test_goodbye_of_deepgram_a_while_after_its_request_is_heard_whole(start, twilio_asked, monkeypatch):
    asked: list[bool] = []
    is_due = Farewell.is_due

    def noted(farewell: Farewell, *state: Any) -> bool:
        asked.append(is_due(farewell, *state))
        return asked[-1]

    monkeypatch.setattr(Farewell, "is_due", noted)
    live = await start("deepgram")
    async with live.bridged() as (caller, session):
        function = {"id": "f1", "name": "hang_up", "arguments": "", "client_side": True}
        session._pending_calls["f1"] = "hang_up"
        await session.send_json({"type": "FunctionCallRequest", "functions": [function]})
        # The bridge has looked whether the last words are over.
        await until(lambda: asked)
        await session.send_raw(b"".join(GOODBYE))
        await session.send_json({"type": "AgentAudioDone"})
        await caller.closed.wait()
        assert b"".join(GOODBYE) in caller.heard()
        assert [output.call_id for output in session.function_outputs] == ["f1"]
        assert twilio_asked == [("Status",)]


@pytest.mark.parametrize("protocol", KINDS)
async def test_tool_call_that_comes_twice_is_answered_once(start, protocol):
    live = await start(protocol)
    async with live.bridged() as (_, session):
        ask = session.send_tool_call if protocol == "elevenlabs" else session.send_function_call
        call_id = await ask("order_pizza", {})
        if protocol == "elevenlabs":
            call = {"tool_name": "order_pizza", "tool_call_id": call_id, "parameters": {}, "event_id": 9}
            await session.send_json({"type": "client_tool_call", "client_tool_call": call})
        else:
            function = {"id": call_id, "name": "order_pizza", "arguments": "{}", "client_side": True}
            await session.send_json({"type": "FunctionCallRequest", "functions": [function]})
        await live.until_ignored("agent", "repeated_tool_call")
        outputs = session.tool_results if protocol == "elevenlabs" else session.function_outputs
        await until(lambda: len(outputs) == 1)


# Limits and keys


@pytest.mark.parametrize("protocol", KINDS)
async def test_agent_learns_that_the_call_ends_soon(start, protocol):
    live = await start(protocol, BRIDGE_CALL_MAX_S=40)
    async with live.bridged() as (_, session):
        kind, place = (
            ("contextual_update", "text") if protocol == "elevenlabs" else ("UpdatePrompt", "prompt")
        )
        await until(lambda: session.messages and session.messages[-1]["type"] == kind)
        assert session.messages[-1][place].startswith("This call ends in ")


async def test_sentence_at_the_limit_of_a_call_is_heard_whole(start):
    live = await start("deepgram", BRIDGE_CALL_MAX_S=FACTOR)
    async with live.bridged() as (caller, session):
        caller.open_line()
        session.turn_pause_s = 60.0
        await session.send_frames(GOODBYE)
        await session.end_turn()
        await soon(caller.closed.wait())
        assert caller.close_code == 1000
        assert caller.received_audio == GOODBYE


async def test_deepgram_learns_of_its_own_limit(start, monkeypatch):
    monkeypatch.setattr(DeepgramDialogue, "session_limit_s", 50.0)
    live = await start("deepgram")
    async with live.bridged() as (_, session):
        await until(lambda: session.prompts)


@pytest.mark.parametrize(
    ("protocol", "setting", "kind", "place"),
    [
        ("deepgram", {"DEEPGRAM_KEYS": "1"}, "InjectUserMessage", "content"),
        ("elevenlabs", {"ELEVENLABS_KEYS": "user_message"}, "user_message", "text"),
        ("elevenlabs", {"ELEVENLABS_KEYS": "contextual_update"}, "contextual_update", "text"),
    ],
)
async def test_keys_are_gathered_into_one_text(start, protocol, setting, kind, place):
    live = await start(protocol, **setting)
    async with live.bridged() as (caller, session):
        for key in "123#":
            await caller.send_dtmf(key)
        await until(lambda: [message for message in session.messages if message["type"] == kind])
        [message] = [message for message in session.messages if message["type"] == kind]
        assert message[place].endswith(": 123#")


# Audio


@pytest.mark.parametrize("format", ["ulaw_8000", "pcm_16000"])
async def test_minute_of_speech_in_one_event_of_elevenlabs_is_heard_whole_and_is_in_memory_once(
    start, format
):
    account = Account(key=API_KEY, from_caller_format=format, to_caller_format=format)
    live = await start("elevenlabs", account=account)
    speech = b"".join(make_numbered(n) for n in range(3000))
    async with live.bridged() as (caller, session):
        [leg] = live.caller_legs
        caller.pause_reading()
        await session.send_audio(speech)
        if format == "pcm_16000":
            speech = to_mulaw(AudioFormat("pcm16", 16000))(session.sent_raw[-1])
        await until(lambda: live.traffic.from_agent == 1)
        # As base64, in a message to Twilio.
        assert live.held_bytes + leg._transport.get_write_buffer_size() < 1.4 * len(speech)
        caller.resume_reading()
        await until(lambda: sum(map(len, caller.received_audio)) == len(speech), 4 * DEADLINE_S)
        assert b"".join(caller.received_audio) == speech
        assert caller.warnings == []
        assert live.held_bytes == 0


async def test_numbers_of_elevenlabs_as_texts_mean_the_same(start):
    def as_texts(session):
        session.has_text_ids = True
        session.ping_every_s = 0.02

    live = await start("elevenlabs")
    live.agent.on_session = as_texts
    async with live.bridged() as (caller, session):
        await session.send_audio(make_numbered(0))
        await session.send_interrupt()
        await session.send_audio(make_numbered(1))
        await until(lambda: len(caller.received_audio) == 2 and len(session.pongs) >= 2)
        assert caller.received_audio == [make_numbered(0), make_numbered(1)]


@pytest.mark.parametrize("protocol", ["retell", "retell-web", "retell-twilio", "deepgram", "elevenlabs"])
async def test_empty_audio_is_dropped_and_counted(start, protocol):
    live = await start(protocol)
    async with live.bridged() as (caller, session):
        await session._write_audio(b"", {})
        await session.send_audio(b"more")
        await until(lambda: caller.received_audio == [b"more"])
        assert await live.ignored("agent", "empty_audio") == 1


async def test_empty_audio_after_an_interruption_is_counted_too(start):
    live = await start("elevenlabs")
    async with live.bridged() as (caller, session):
        await session.send_interrupt()
        await session.send_json({"type": "audio", "audio_event": {"audio_base_64": "", "event_id": 99}})
        event = {"audio_base_64": base64.b64encode(b"more").decode(), "event_id": 100}
        await session.send_json({"type": "audio", "audio_event": event})
        await until(lambda: caller.received_audio == [b"more"])
        assert await live.ignored("agent", "empty_audio") == 1
