"""What the book says of a call that is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from call_script import RecordingAgent, RecordingCaller, Script, bridged
from live import serving, until

from bridge.agents.succession import Said, Speaker
from bridge.call.sides import SideCounts
from bridge.call.state import Call
from bridge.server.open_sides import MUTE_S, UNCLAIMED_LINES, OpenSides, is_mute, log_unclaimed


def test_agent_without_audio_in_a_whole_call_is_mute():
    script = bridged()
    assert not is_mute(script.call, MUTE_S - 0.1)
    assert is_mute(script.call, MUTE_S)
    script.run([(MUTE_S, "agent_audio")])
    assert not is_mute(script.call, 2 * MUTE_S)


def test_agent_that_never_opened_is_not_mute():
    script = Script()
    script.run([(0.0, "start")])
    assert not is_mute(script.call, 10 * MUTE_S)


def test_time_of_a_mute_agent_counts_from_the_first_one():
    script = Script()
    script.spares.append(RecordingAgent(script.log, "spare"))
    script.run([(0, "start"), (0, "agent_open"), (MUTE_S - 1, "agent_lost"), (MUTE_S, "agent_open")])
    assert script.sent_to("spare")
    assert is_mute(script.call, MUTE_S)


@pytest.mark.parametrize(("speaks", "counted"), [(False, 1), (True, 0)])
async def test_call_with_a_mute_agent_is_counted_and_logged(monkeypatch, logs, speaks, counted):
    monkeypatch.setattr("bridge.server.open_sides.MUTE_S", 0.0)
    async with serving() as live:
        async with live.bridged() as (caller, agent):
            if speaks:
                await agent.send_audio(bytes(160))
                await until(lambda: caller.received)
        await until(lambda: live.is_idle)
        assert (await live.metrics())["bridge_calls_without_agent_audio_total"] == counted
    assert len([line for line in logs.lines if "agent sent no audio" in line]) == counted


def counted(side: Any, *counts: int) -> Any:
    side.counts = lambda: SideCounts(*counts)
    return side


def test_counts_are_those_of_all_agents_and_media_sockets_each_once():
    script = bridged()
    sides = OpenSides("", counted(script.caller, 1, 20, 300, 4))
    for n in range(3):
        sides.set_agent(counted(RecordingAgent(script.log), 10, 5, 0, 2), f"agent {n}")
    for counts in ((0, 40, 500, 6), (7, 80, 900, 9)):
        sides.set_caller(counted(RecordingCaller(script.log), *counts))
    traffic = sides.traffic(script.call)
    assert (traffic.to_agent, traffic.dropped_to_agent, traffic.overflowed_to_agent) == (30, 15, 6)
    assert (traffic.to_caller, traffic.dropped_to_caller, traffic.overflowed_to_caller) == (8, 140, 19)
    assert traffic.cleared_to_caller == 1700


def test_end_of_an_utterance_is_kept_though_nothing_else_is_new():
    script = bridged()
    sides = OpenSides("", script.caller)
    script.call.conversation.add(Said(Speaker.AGENT, "At nine."), 0.0)
    script.agent.is_speaking = True
    assert sides.must_keep_said(script.call, 1.0, 1.0)
    assert not sides.must_keep_said(script.call, 2.0, 1.0)
    script.agent.is_speaking = False
    assert not sides.must_keep_said(script.call, 1.5, 1.0)
    assert sides.must_keep_said(script.call, 2.0, 1.0)
    assert not script.call.memory(2.0).is_awaited
    assert not sides.must_keep_said(script.call, 3.0, 1.0)
    script.agent.is_speaking = True
    assert not sides.must_keep_said(script.call, 4.0, 1.0)


def test_many_calls_without_media_are_a_bounded_number_of_lines(logs):
    log_unclaimed([f"CA{n}" for n in range(100)])
    assert len(logs.lines) == UNCLAIMED_LINES
    assert all(f"others={100 - UNCLAIMED_LINES}" in line for line in logs.lines)


@pytest.mark.parametrize("is_kept_for_the_store", [False, True])
async def test_call_whose_audio_flows_is_looked_at_in_place_of_ticks(monkeypatch, is_kept_for_the_store):
    monkeypatch.setattr("bridge.server.live.ROUND_S", 0.02)
    looks: list[bool] = []
    is_settled = Call.is_settled
    monkeypatch.setattr(
        Call, "is_settled", lambda call, now: looks.append(is_settled(call, now)) or looks[-1]
    )
    async with serving() as live, live.bridged() as (caller, agent):
        call = live.open_calls[0]
        if is_kept_for_the_store:
            monkeypatch.setattr(call.conversation, "changes", 1)
        begun = len(looks)
        frames = 0
        while (looks[begun:].count(True) < 10) if not is_kept_for_the_store else len(looks) < begun + 30:
            # Silence, in which there is no speech to take.
            await caller.send_media(b"\xff" * 160)
            await agent.send_audio(b"\xff" * 160)
            frames += 1
            await asyncio.sleep(0)
        assert any(looks[begun:]) is not is_kept_for_the_store
        await until(lambda: live.traffic.from_agent == live.traffic.from_caller == frames)
        # Without the caller's audio, ticks see to his silence.
        quiet = len(looks)
        await until(lambda: len(looks) > quiet + 5)
        assert not any(looks[quiet + 2 :])
