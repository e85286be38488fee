"""The documents of real calls, held against the published schema."""

from __future__ import annotations

import orjson
import pytest
from call_schema import problems
from live import Live, soon, until

from bridge.standins.numbered import make_numbered


def the(live: Live):
    """The one document of a server, after a way through JSON."""
    [found] = live.documents
    assert problems(found) == []
    return orjson.loads(orjson.dumps(found))


async def test_document_of_a_call_has_what_went_on_in_it(live_server, logs):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await caller.send_frames([make_numbered(n) for n in range(5)], paced=False)
        await session.send_audio(make_numbered(1))
        await until(lambda: live.traffic.to_caller == 1)
        await session.send_interrupt()
        await caller.send_dtmf("7")
        await caller.send_dtmf("9")
        await caller.send_raw('{"event":"unheard-of"}')
        await until(lambda: live.traffic.dtmf == 2 and live.traffic.interrupts == 1)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    found = the(live)
    assert found["call_sid"] == caller.call_sid
    assert found["stream_sid"].startswith("MZ")
    assert (found["from"], found["to"], found["route"]) == ("+141…23", "+141…00", "default")
    assert [agent["name"] for agent in found["agents"]] == ["retell"]
    assert found["agents"][0]["closed"] == {"by": "bridge", "code": 1000, "reason": ""}
    assert found["frames"] == {"from_caller": 5, "to_agent": 5, "from_agent": 1, "to_caller": 1}
    assert found["drops"]["ignored"] == {"caller": {"unknown_event": 1}}
    assert found["interrupts"]["count"] == len(found["interrupts"]["last"]) == 1
    assert 0 < found["interrupts"]["longest_ms"] < 100
    assert found["keys"] == 2
    assert found["end"]["why"] == "caller_stopped"
    names = ("webhook", "answered", "socket", "start", "agent_open", "first_word", "ended")
    steps = [found["times"][name] for name in names]
    assert None not in steps
    assert steps == sorted(steps)
    # Which keys is nobody's business.
    assert not {"7", "9"} & set(orjson.dumps({**found, "times": 0}).decode().split('"'))


@pytest.mark.parametrize("keeps", ["1", "0"])
async def test_transcript_is_there_where_the_agent_sends_it_and_texts_are_kept(live_server, keeps):
    settings = {"BRIDGE_AGENT": "openai", "OPENAI_REALTIME_GREETS": "1", "BRIDGE_TRANSCRIPTS": keeps}
    live = await live_server(agent={"protocol": "openai"}, **settings)
    async with live.bridged() as (caller, session):
        await until(lambda: session.asked_to_speak)
        await session.send_heard("When do you open?")
        session.transcript = "At nine."
        await session.send_audio(bytes(160))
        await session.end_turn()
        await until(lambda: live.open_calls[0].conversation.changes == 3)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    said = [(one["speaker"], one["text"]) for one in the(live)["transcript"]]
    assert said == ([("caller", "When do you open?"), ("agent", "At nine.")] if keeps == "1" else [])


async def test_billed_time_is_there_where_the_service_tells_it(live_server):
    live = await live_server(agent={"protocol": "openai-live"}, BRIDGE_AGENT="openai-live")
    async with live.bridged() as (caller, _):
        await caller.hang_up()
        await until(lambda: live.is_idle)
    assert "billed_s" in the(live)["agents"][0]


async def test_marks_of_the_agent_have_their_moments(live_server):
    live = await live_server(agent={"protocol": "retell-twilio"}, BRIDGE_AGENT="retell-twilio")
    async with live.bridged() as (caller, session):
        await session.send_audio(make_numbered(0))
        await session.send_mark("theirs")
        await until(lambda: session.marks)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    found = the(live)
    assert found["marks"]["count"] == 1
    [at_s] = found["marks"]["last"]
    assert 0 < at_s < found["duration_s"]


async def test_marks_that_go_with_audio_are_only_counted(live_server):
    live = await live_server(agent={"protocol": "openai"}, BRIDGE_AGENT="openai")
    async with live.bridged() as (caller, session):
        await session.send_audio(bytes(1600))
        await until(lambda: live.open_calls[0].stats.marks.count > 0)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    assert (the(live)["marks"]["count"], the(live)["marks"]["last"]) == (1, [])


async def test_document_names_the_agents_that_were_lost(live_server):
    live = await live_server()
    async with live.bridged() as (_, session):
        live.refuse_sessions()
        await session.close(1011, "fault of mine")
        await until(lambda: live.is_idle)
    found = the(live)
    assert [agent["name"] for agent in found["agents"]] == ["retell", "retell"]
    assert found["agents"][0]["why_lost"] == "close 1011 fault of mine"
    assert found["agents"][0]["closed"] == {"by": "peer", "code": 1011, "reason": "fault of mine"}
    assert found["end"]["outcome"] == "agent_lost"


async def test_document_of_a_call_whose_media_socket_came_again_is_one(live_server):
    live = await live_server(limits={"grace_s": 60.0})
    async with live.bridged() as (caller, session):
        first = caller.stream_sid
        await session.send_frames((make_numbered(n) for n in range(50)), paced=False)
        await until(lambda: len(caller.received) == 50)
        caller.abort()
        await soon(caller.closed.wait())
        await until(lambda: not live.caller_legs)
        await soon(caller.go_on())
        await session.send_audio(make_numbered(50))
        await until(lambda: len(caller.received) == 51)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    found = the(live)
    assert found["attempt"] == 1
    assert found["stream_sid"] == caller.stream_sid != first
    assert 0 < found["drops"]["lost_audio_s"] <= 1


async def test_stranger_without_a_token_leaves_no_document(live_server):
    live = await live_server()
    async with live.answered() as caller:
        await caller.open_stream(parameters={"token": "mine"})
        await soon(caller.closed.wait())
        await until(lambda: not live.legs)
    assert live.documents == []
