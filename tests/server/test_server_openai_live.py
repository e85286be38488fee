"""Whole calls with GPT-Live, on real sockets: speech both ways, functions, the end of its session."""

from __future__ import annotations

import asyncio

import pytest
from gaps import words
from live import DEADLINE_S, PLAIN_AND_TLS, serving, until

from bridge.agents.vendors.openai_live import OpenAiLiveDialogue
from bridge.standins.agent.faults import Faults
from bridge.standins.agent.session import Told
from bridge.standins.audio import SILENT_FRAME, frames, speech
from bridge.standins.numbered import make_numbered
from bridge.twilio.rest import TwilioApi

pytestmark = PLAIN_AND_TLS

LIVE = {"agent": {"protocol": "openai-live"}}
QUESTION = speech("caller_question")
GREETING = speech("agent_greeting")
GOODBYE = speech("agent_goodbye")


def without_silence(audio: bytes) -> bytes:
    return b"".join(frame for frame in frames(audio) if frame != SILENT_FRAME)


async def test_speech_arrives_byte_for_byte_each_way(live_server):
    live = await live_server(**LIVE)
    async with live.bridged() as (caller, session):
        await asyncio.gather(
            caller.send_frames(frames(QUESTION)), session.send_frames(frames(GREETING), paced=False)
        )
        heard = b"".join(frames(GREETING))
        await until(lambda: len(b"".join(caller.received_audio)) == len(heard))
        assert b"".join(caller.received_audio) == heard
        await until(lambda: len(words(session)) == len(without_silence(QUESTION)))
        assert words(session) == without_silence(QUESTION)
        assert caller.warnings == []
        assert not [item for item in caller.received if item.message.event == "clear"]


async def test_first_word_is_kept_while_the_session_starts(live_server):
    live = await live_server(agent={"protocol": "openai-live", "faults": Faults(ready_delay_s=0.5)})
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.send_frames(make_numbered(n) for n in range(50))
        session = await live.session_of(caller)
        await until(lambda: len(words(session)) == 50 * 160)
        assert words(session) == b"".join(make_numbered(n) for n in range(50))


async def test_model_greets_first(live_server):
    live = await live_server(**LIVE, OPENAI_LIVE_INSTRUCTIONS="You talk with {from}.")
    async with live.bridged() as (_, session):
        await until(lambda: len(session.appended) == 2)
        assert session.session["instructions"] == "You talk with +14155550123."
        assert [kind for kind, _ in session.appended] == ["instructions"] * 2
        assert "Greet" in session.appended[1].content


async def test_keys_go_to_the_model_together(live_server):
    live = await live_server(**LIVE, OPENAI_LIVE_KEYS="1")
    async with live.bridged() as (caller, session):
        for key in "42#":
            await caller.send_dtmf(key)
        await until(lambda: session.appended and session.appended[-1].kind == "thinking")
        assert session.appended[-1].content.endswith("4 2 #")


@pytest.fixture
def asked_of_twilio(monkeypatch) -> list[tuple[str, ...]]:
    asked: list[tuple[str, ...]] = []

    async def change(call_sid, form):
        asked.append((call_sid, *form))

    monkeypatch.setattr(TwilioApi, "_change", lambda api, call_sid, form: change(call_sid, form))
    return asked


@pytest.mark.parametrize("streams_silence", [False, True])
async def test_goodbye_is_heard_before_the_call_is_hung_up(live_server, asked_of_twilio, streams_silence):
    live = await live_server(**LIVE)

    def begin(session):
        session.streams_silence = streams_silence

    live.agent.on_session = begin
    async with live.bridged() as (caller, session):
        # Audio after the end of the session would be a violation.
        caller.open_line()
        [call_id] = await session.begin_work(("hang_up", {}))
        await until(lambda: session.function_outputs)
        await session.end_work()
        await until(lambda: session.responses == 1)
        assert [output.call_id for output in session.function_outputs] == [call_id]
        await session.send_frames(frames(GOODBYE))
        async with asyncio.timeout(3 * DEADLINE_S):
            await caller.closed.wait()
        heard = b"".join(audio for audio in caller.received_audio if set(audio) != {0xFF})
        assert heard == without_silence(GOODBYE)
        assert asked_of_twilio == [(caller.call_sid, "Status")]
        await session.closed.wait()
        assert session.closed_reason == "close_requested"


async def test_transfer_that_is_not_allowed_is_answered_so_and_the_talk_goes_on(live_server):
    live = await live_server(**LIVE, BRIDGE_TRANSFER_TO="+4930")
    async with live.bridged() as (caller, session):
        await session.begin_work(("transfer_call", {"to_number": "+88212345678"}), ("nothing", {}))
        await until(lambda: len(session.function_outputs) == 2)
        await session.end_work()
        await until(lambda: session.responses == 1)
        assert ["not allowed" in output for _, output in session.function_outputs] == [True, False]
        await session.send_audio(make_numbered(0))
        await until(lambda: caller.received_audio == [make_numbered(0)])


@pytest.mark.parametrize("prefixes", ["", "+4930"])
async def test_transfer_is_offered_where_a_number_is_allowed(live_server, prefixes):
    live = await live_server(**LIVE, BRIDGE_TRANSFER_TO=prefixes)
    async with live.bridged() as (_, session):
        tools = session.session["delegation"]["responses"]["tools"]
        assert [tool["name"] for tool in tools] == ["hang_up", *(["transfer_call"] if prefixes else [])]


async def test_transfer_dials_after_the_last_words(live_server, asked_of_twilio):
    live = await live_server(**LIVE, BRIDGE_TRANSFER_TO="+4930")
    async with live.bridged() as (caller, session):
        await session.begin_work(("transfer_call", {"to_number": "+493012345678"}))
        await session.send_frames((make_numbered(n) for n in range(10)), paced=False)
        await caller.closed.wait()
        assert caller.received_audio == [make_numbered(n) for n in range(10)]
        assert asked_of_twilio == [(caller.call_sid, "Twiml")]


# The end


async def test_session_is_closed_before_its_socket_and_its_seconds_are_logged(live_server, logs):
    live = await live_server(**LIVE)
    async with live.bridged() as (caller, session):
        await caller.send_media(make_numbered(0))
        await until(lambda: session.received)
        caller.open_line()
        await caller.hang_up()
        await session.closed.wait()
        assert (session.closed_reason, session.close_code) == ("close_requested", 1000)
        assert session.messages[-1] == {"type": "session.close"}
        await until(lambda: live.is_idle)
        [line] = [line for line in logs.lines if "agent's session is over" in line]
        assert f"billed_s={session.billed_s}" in line


async def test_socket_is_closed_though_the_service_does_not_answer(live_server, monkeypatch):
    real = OpenAiLiveDialogue.__init__

    def impatient(dialogue, *arguments, **options):
        real(dialogue, *arguments, **options)
        dialogue.closed_s = 0.2

    monkeypatch.setattr(OpenAiLiveDialogue, "__init__", impatient)
    live = await live_server(**LIVE)
    async with live.bridged() as (caller, session):
        session.answers_close = False
        await caller.hang_up()
        await session.closed.wait()
        assert (session.closed_reason, session.close_code) == (None, 1000)


async def test_process_that_stops_does_not_wait_for_a_service_that_does_not_answer(clean_loop, tls):
    async with serving(**LIVE, tls=tls) as live, live.bridged() as (_, session):
        session.answers_close = False
    assert session.messages[-1] == {"type": "session.close"}
    assert (session.closed_reason, session.close_code) == (None, 1006)


async def test_no_audio_passes_either_way_while_the_session_is_being_closed(live_server, asked_of_twilio):
    live = await live_server(**LIVE)
    async with live.bridged() as (caller, session):
        session.answers_close = False
        caller.open_line()
        await session.begin_work(("hang_up", {}))
        await session.send_frames(frames(GREETING), paced=False)
        await until(lambda: session.messages[-1] == {"type": "session.close"})
        # Its last words still play.
        received, sent = len(session.received), len(caller.sent)
        await session.send_audio(make_numbered(0))
        await until(lambda: len(caller.sent) > sent + 10)
        assert len(session.received) == received
        await session.end_session("close_requested")
        await session.closed.wait()
        await caller.closed.wait()
        assert b"".join(caller.received_audio) == b"".join(frames(GREETING))


async def test_session_that_waits_for_its_end_is_not_in_the_way_of_the_next_agent(live_server):
    live = await live_server(**LIVE, BRIDGE_AGENT="openai-live,echo")
    async with live.bridged() as (caller, first):
        first.answers_close = False
        await first.send_audio(make_numbered(0))
        await until(lambda: caller.received_audio)
        await first.send_error("insufficient_quota", "insufficient_quota")
        await until(lambda: first.messages[-1] == {"type": "session.close"})
        await first.send_audio(make_numbered(99))
        await first.send_error("server_error", "server_error")
        await caller.send_media(make_numbered(1))
        await until(lambda: len(caller.received_audio) == 2)
        await first.end_session("close_requested")
        await first.closed.wait()
        await caller.send_media(make_numbered(2))
        await until(lambda: len(caller.received_audio) == 3)
        assert caller.received_audio == [make_numbered(n) for n in range(3)]


async def test_session_that_expires_is_followed_by_the_next_which_knows_what_was_said(live_server):
    live = await live_server(**LIVE)
    async with live.bridged() as (caller, first):
        await first.send_heard("When do you open?")
        await first.send_said("At nine. Shall I")
        await first.send_closed("expired")
        second = await live.agent.next_session(DEADLINE_S)
        await until(lambda: second.appended)
        assert second.told == [
            Told("caller", "When do you open?"),
            Told("agent", "At nine."),
            Told("agent", "Shall I"),
        ]
        assert "go on" in second.appended[-1].content
        assert not any("Greet" in each.content for each in second.appended)
        await second.send_audio(make_numbered(0))
        await until(lambda: caller.received_audio == [make_numbered(0)])


async def test_session_that_is_not_accepted_is_lost(live_server):
    live = await live_server(agent={"protocol": "openai-live", "faults": Faults(fail_ready=True)})
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.closed.wait()
        assert caller.close_code == 1011
        assert (await caller.follow_redirect()).verbs == ["Say", "Hangup"]


async def test_error_and_then_streamed_silence_is_a_lost_agent(live_server, logs):
    live = await live_server(**LIVE, limits={"trouble_s": 0.5}, BRIDGE_AGENT="openai-live,echo")

    def begin(session):
        session.streams_silence = True

    live.agent.on_session = begin
    async with live.bridged() as (caller, session):
        await session.send_error("server_error", "server_error")
        await session.closed.wait()
        await caller.send_media(make_numbered(1))
        await until(lambda: make_numbered(1) in caller.received_audio)
        assert any("error code server_error" in line for line in logs.lines)
        assert session.closed_reason == "close_requested"
