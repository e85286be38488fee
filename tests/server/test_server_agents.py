"""A call with each agent whose audio passes the bridge, on real sockets, against a stand-in of its protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from live import PLAIN_AND_TLS, Live, until
from numbered_checker import read_numbered

from bridge.standins.agent.faults import Faults
from bridge.standins.audio import frames, speech
from bridge.standins.numbered import make_numbered
from bridge.standins.process import free_port

pytestmark = PLAIN_AND_TLS

AGENTS_FILE = """
[json]
url = "{url}"
headers = {{ Authorization = "Bearer {{env.acme_key}}" }}
to_agent = '{{"kind":"audio","body":{{"b64":"{{audio}}"}}}}'
from_agent = {{ path = "body.b64", equal = {{ kind = "audio" }} }}
interrupt = {{ kind = "stop_talking" }}
ended = {{ kind = "bye" }}

[binary]
url = "{url}"
headers = {{ Authorization = "Bearer {{env.acme_key}}" }}
binary = true
interrupt = {{ type = "interrupt" }}
ended = {{ type = "end" }}
"""
BUILT_IN = ("retell", "retell-web", "retell-twilio", "openai", "elevenlabs", "deepgram")
# Those that only a settings file describes.
DESCRIBED = ("json", "binary")
WAIT_FOR_READY = ("openai", "elevenlabs", "deepgram")
QUESTION = list(frames(speech("caller_question")))
ANSWER = list(frames(speech("agent_greeting")))

Start = Callable[..., Awaitable[Live]]


@pytest.fixture
async def start(live_server, tls, tmp_path) -> AsyncIterator[Start]:
    """Starts a server whose agent is of a protocol."""

    async def start_one(protocol: str, agent: dict[str, Any] | None = None, **settings: Any) -> Live:
        options = {"protocol": protocol, **(agent or {})}
        if protocol == "deepgram":
            (tmp_path / "agent.json").write_text(json.dumps({"language": "en"}))
            settings["DEEPGRAM_AGENT_FILE"] = tmp_path / "agent.json"
        if protocol in DESCRIBED:
            options["port"] = free_port()
            url = f"{'wss' if tls else 'ws'}://127.0.0.1:{options['port']}/agent"
            (tmp_path / "agents.toml").write_text(AGENTS_FILE.format(url=url))
            settings |= {
                "BRIDGE_AGENTS_FILE": tmp_path / "agents.toml",
                "BRIDGE_AGENT": protocol,
                "ACME_KEY": "canary-api-key-77d0",
            }
        return await live_server(agent=options, **settings)

    yield start_one


def events(caller) -> list[object]:
    """The messages to the caller without marks, in order: the number of a frame, or the name of another message."""
    return [
        (read_numbered(item.message.audio) or (0, item.message.audio))[1]
        if item.message.event == "media"
        else item.message.event
        for item in caller.received
        if item.message.event != "mark"
    ]


def heard_by_agent(session) -> bytes:
    return b"".join(item.audio for item in session.received)


@pytest.mark.parametrize("protocol", [*BUILT_IN, *DESCRIBED])
async def test_speech_arrives_byte_for_byte_each_way(start, protocol):
    live = await start(protocol)
    async with live.bridged() as (caller, session):
        await asyncio.gather(
            caller.send_frames(QUESTION, paced=False), session.send_frames(ANSWER, paced=False)
        )
        await until(lambda: len(b"".join(caller.received_audio)) == len(b"".join(ANSWER)))
        await until(lambda: len(heard_by_agent(session)) == len(b"".join(QUESTION)))
        assert b"".join(caller.received_audio) == b"".join(ANSWER)
        assert heard_by_agent(session) == b"".join(QUESTION)
        assert caller.warnings == []


@pytest.mark.parametrize("protocol", [*BUILT_IN, *DESCRIBED])
async def test_first_word_is_kept_while_the_agent_opens(start, protocol):
    late = Faults(ready_delay_s=0.3) if protocol in WAIT_FOR_READY else Faults(open_delay_s=0.3)
    live = await start(protocol, {"faults": late})
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.send_frames(make_numbered(n) for n in range(25))
        session = await live.session_of(caller)
        await until(lambda: len(session.received) == 25)
        assert [item.audio for item in session.received] == [make_numbered(n) for n in range(25)]


@pytest.mark.parametrize("protocol", [*BUILT_IN, *DESCRIBED])
async def test_interrupt_is_a_clear_and_nothing_of_the_old_turn_follows_it(start, protocol):
    live = await start(protocol)
    async with live.bridged() as (caller, session):
        await session.send_frames((make_numbered(n) for n in range(50)), paced=False)
        await until(lambda: len(caller.received_audio) == 50)
        await session.send_interrupt()
        await session.send_frames((make_numbered(n) for n in range(50, 60)), paced=False)
        await until(lambda: len(caller.received_audio) == 60)
        assert events(caller) == [*range(50), "clear", *range(50, 60)]
        await caller.send_media(make_numbered(0))
        await until(lambda: session.received)
        assert caller.playout.cleared_bytes > 40 * 160


@pytest.mark.parametrize("protocol", [*BUILT_IN, *DESCRIBED])
async def test_agent_that_ends_lets_its_last_words_play(start, protocol):
    live = await start(protocol)
    async with live.bridged() as (caller, session):
        await session.send_frames((make_numbered(n) for n in range(20)), paced=False)
        await session.send_call_ended()
        await caller.closed.wait()
        assert caller.close_code == 1000
        caller.playout.advance(asyncio.get_running_loop().time())
        assert caller.playout.buffered_bytes == 0
        assert events(caller) == list(range(20))
        assert (await caller.follow_redirect()).verbs == ["Hangup"]


@pytest.mark.parametrize("protocol", [*BUILT_IN, *DESCRIBED])
async def test_caller_who_hangs_up_closes_the_agents_socket(start, protocol):
    live = await start(protocol)
    async with live.bridged() as (caller, session):
        await caller.send_media(make_numbered(0))
        await until(lambda: session.received)
        await caller.hang_up()
        await session.closed.wait()
        assert session.close_code == 1000


@pytest.mark.parametrize("protocol", WAIT_FOR_READY)
async def test_agent_that_refuses_its_settings_is_lost(start, protocol):
    live = await start(protocol, {"faults": Faults(fail_ready=True)})
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.closed.wait()
        assert caller.close_code == 1011
        assert (await caller.follow_redirect()).verbs == ["Say", "Hangup"]


@pytest.mark.parametrize("protocol", WAIT_FOR_READY)
async def test_agent_that_does_not_get_ready_in_time_is_lost(start, protocol):
    live = await start(protocol, {"faults": Faults(ready_delay_s=30.0)}, BRIDGE_AGENT_CONNECT_S=0.5)
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.closed.wait()
        assert caller.close_code == 1011


async def test_next_agent_answers_where_the_first_cannot_and_no_word_is_lost(start):
    refusal = Faults(fail_ready=True, ready_delay_s=0.2)
    live = await start("openai", {"faults": refusal}, BRIDGE_AGENT="openai,echo")
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: not live.open_calls or live.agents_replaced)
        await caller.send_frames((make_numbered(n) for n in range(5)), paced=False)
        await until(lambda: len(caller.received_audio) == 5)
        assert events(caller) == list(range(5))


# What only some of them have


async def test_openai_receives_the_heard_part_of_its_sentence(start):
    live = await start("openai")
    async with live.bridged() as (caller, session):
        answer = list(frames(speech("agent_answer")))
        await session.send_frames(answer, paced=False)
        await until(lambda: len(b"".join(caller.received_audio)) == len(b"".join(answer)))
        began = asyncio.get_running_loop().time()
        caller.open_line()
        await until(lambda: asyncio.get_running_loop().time() - began > 1.33)
        await session.send_interrupt()
        await until(lambda: session.truncates)
        await until(lambda: caller.playout.cleared)
        cleared_bytes = len(caller.playout.cleared[0].audio)
        played_ms = (len(b"".join(answer)) - cleared_bytes) / 8
        [truncate] = session.truncates
        assert abs(truncate.audio_end_ms - played_ms) <= 200
        assert truncate.audio_end_ms < len(b"".join(answer)) / 8


async def test_openai_receives_no_truncation_of_a_sentence_heard_in_full(start):
    live = await start("openai")
    async with live.bridged() as (caller, session):
        await session.send_frames((make_numbered(n) for n in range(15)), paced=False)
        await session.end_turn()
        await until(lambda: len(caller.received_audio) == 15)
        call = next(iter(live.open_calls))
        await until(
            lambda: (
                caller.playout.advance(asyncio.get_running_loop().time()) or not caller.playout.buffered_bytes
            )
        )
        await until(lambda: call._heard._heard_bytes(2400, asyncio.get_running_loop().time()) == 2400)
        await session.send_interrupt()
        await until(lambda: "clear" in events(caller))
        await session.send_audio(make_numbered(15))
        await until(lambda: len(caller.received_audio) == 16)
        assert session.truncates == []


async def test_elevenlabs_pings_are_answered(start):
    def often(session):
        session.ping_every_s = 0.02

    live = await start("elevenlabs")
    live.agent.on_session = often
    async with live.bridged() as (_, session):
        await until(lambda: len(session.pongs) >= 2)


@pytest.mark.parametrize("protocol", ["retell-web", "deepgram"])
async def test_idle_agent_is_kept_awake_in_its_own_words(start, protocol, monkeypatch):
    from bridge.agents.vendors.deepgram import DeepgramDialogue
    from bridge.agents.vendors.retell_web import WebDialogue

    monkeypatch.setattr(WebDialogue, "keepalive_s", 0.1)
    monkeypatch.setattr(DeepgramDialogue, "keepalive_s", 0.1)
    live = await start(protocol)
    async with live.bridged() as (_, session):
        await until(lambda: session.pings if protocol == "retell-web" else session.keepalives)


async def test_keys_and_marks_pass_through_to_retells_twilio_socket(start):
    live = await start("retell-twilio")
    async with live.bridged() as (caller, session):
        await caller.send_dtmf("7")
        await until(lambda: session.dtmf)
        assert session.dtmf == ["7"]
        await session.send_audio(make_numbered(0))
        await session.send_mark("theirs")
        await until(lambda: session.marks)
        assert session.marks == ["theirs"]
        await caller.send_media(make_numbered(1))
        await until(lambda: session.received)
        media = [message for message in session.messages if message["event"] == "media"]
        assert {"track", "chunk", "timestamp", "payload"} <= media[-1]["media"].keys()
        await caller.hang_up()
        await session.closed.wait()
        assert session.messages[-1]["event"] == "stop"


async def test_name_of_a_mark_is_passed_on_up_to_256_characters(start):
    live = await start("retell-twilio")
    longest = 256 * "n"
    async with live.bridged() as (_, session):
        await session.send_mark(longest + "n")
        await session.send_mark(longest)
        await until(lambda: session.marks)
        assert session.marks == [longest]
        assert await live.ignored("agent", "mark_name_too_long") == 1


# By phone


@pytest.mark.parametrize(
    ("status", "verbs"),
    [("completed", ["Hangup"]), ("busy", ["Connect", "Redirect"]), ("no-answer", ["Connect", "Redirect"])],
)
async def test_retell_by_sip_is_dialled_and_the_next_agent_answers_where_it_does_not(start, status, verbs):
    live = await start("retell-sip", BRIDGE_AGENT="retell-sip,echo")
    async with live.caller() as caller:
        answer = await caller.post_voice()
        assert (answer.problems, answer.verbs) == ([], ["Dial"])
        [registered] = live.agent.sessions
        dial = ElementTree.fromstring(answer.body).find("Dial")
        assert dial.find("Sip").text == f"sip:{registered}@sip.retellai.com;transport=tcp"
        assert dial.attrib["answerOnBridge"] == "true"
        caller.answer = await caller.post(
            dial.attrib["action"], caller._form(None, {"CallStatus": "in-progress", "DialCallStatus": status})
        )
        assert caller.answer.verbs == verbs
        if verbs == ["Hangup"]:
            return
        await caller.open_stream()
        await caller.send_media(make_numbered(0))
        await until(lambda: caller.received_audio == [make_numbered(0)])
