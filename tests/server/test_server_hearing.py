"""The caller's waits of real calls: in the record, the log, the metrics and the list of live calls."""

from __future__ import annotations

import asyncio

import pytest
from live import until

from bridge.standins.agent.session import AgentSession
from bridge.standins.twilio.caller import Caller

FRAME_BYTES = 160
SILENCE, SPEECH = b"\xff", b"\x80"
WAIT_S = 0.7
# Silence at the beginning of the answer, which is a part of the wait.
LEAD_S = 0.2


async def talk(caller: Caller, session: AgentSession) -> float:
    """One turn; returns the wait that the stand-ins have made, which is 700 ms where the machine keeps up."""
    loop = asyncio.get_running_loop()
    await caller.say(SILENCE * 4000 + SPEECH * 8000)
    said_at = caller.sent[-1].at
    await asyncio.sleep(said_at + WAIT_S - LEAD_S - loop.time())
    began = loop.time()
    await session.send_frames([SILENCE * round(8000 * LEAD_S), SPEECH * 4000], paced=False)
    return began + LEAD_S - said_at


async def test_answer_after_700_ms_shows_700(live_server, logs):
    live = await live_server()
    async with live.bridged() as (caller, session):
        caller.open_line()
        made_s = await talk(caller, session)
        hearing = live.open_calls[0].hearing
        await until(lambda: hearing.turns.waits.count == 1)
        [row] = [sides.summary(call, 0.0) for call, sides in live.server._live.book.items()]
        await caller.hang_up()
        await until(lambda: live.is_idle)
    [document] = live.documents
    [turn] = document["turns"]["last"]
    assert turn["wait_ms"] == pytest.approx(1000 * made_s, abs=20)
    assert document["turns"]["waits"]["p50_ms"] == document["turns"]["waits"]["p95_ms"] == turn["wait_ms"]
    assert row["wait_p50_ms"] == turn["wait_ms"]
    assert turn["caller_talk_s"] == pytest.approx(1, abs=0.02)
    assert document["gaps"]["agent"]["count"] == 0
    [line] = [line for line in logs.lines if "event='call ended'" in line]
    assert f"wait_p50_ms={turn['wait_ms']}" in line
    metrics = await live.metrics()
    assert metrics['bridge_caller_wait_seconds_count{agent="retell"}'] == 1
    assert metrics['bridge_caller_wait_seconds_bucket{agent="retell",le="2.0"}'] == 1


async def test_wait_is_right_on_a_socket_that_came_later(live_server):
    live = await live_server(limits={"grace_s": 60.0})
    async with live.bridged() as (caller, session):
        # What has not played goes with the socket.
        await session.send_audio(SPEECH * 60_000)
        await until(lambda: caller.received)
        caller.abort()
        await caller.closed.wait()
        await until(lambda: not live.caller_legs)
        await caller.go_on()
        caller.open_line()
        made_s = await talk(caller, session)
        await until(lambda: live.open_calls[0].hearing.turns.waits.count == 1)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    [document] = live.documents
    assert document["turns"]["last"][-1]["wait_ms"] == pytest.approx(1000 * made_s, abs=20)


async def test_echo_is_heard_like_any_agent(live_server):
    live = await live_server(BRIDGE_AGENT="echo")
    async with live.answered() as caller:
        await caller.open_stream()
        for sound, frames in ((SILENCE, 25), (SPEECH, 50), (SILENCE, 25)):
            await caller.send_frames([sound * FRAME_BYTES] * frames, paced=False)
        hearing = live.open_calls[0].hearing
        await until(lambda: hearing.turns.total().agent_talk_s > 0)
        assert hearing.turns.total().agent_talk_s == pytest.approx(1, abs=0.05)
