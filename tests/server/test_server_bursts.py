"""Agents that speak much faster than real time: nothing is lost, nothing is out of order, an interrupt gets through."""

from __future__ import annotations

import asyncio
import base64

import pytest
from live import DEADLINE_S, PLAIN_TLS_AND_GATHERED, Live, until
from numbered_checker import read_numbered

from bridge.standins.agent.session import AgentSession
from bridge.standins.numbered import make_numbered
from bridge.standins.twilio.caller import Caller

pytestmark = PLAIN_TLS_AND_GATHERED

STALL_S = 1.5
TWO_MINUTES = 6000
# Twilio discards what it has beyond ten minutes, which the caller's stand-in counts as warning 31931.
FIFTEEN_MINUTES = 4500
NINE_MINUTES = 2700
LONG_FRAME_BYTES = 1600


def numbers(caller: Caller) -> list[int]:
    found = [read_numbered(audio) for audio in caller.received_audio]
    assert None not in found
    return [each[1] for each in found if each is not None]


def message(audio: bytes, shape: str) -> str:
    text = base64.b64encode(audio).decode()
    return {
        # Found natively, with a text that the finder steps over.
        "umlauts": f'{{"type":"audio","said":"gr\\"üß\\\\","data":"{text}"}}',
        # Read by Python: PHP escapes each slash.
        "escaped slashes": '{{"type":"audio","data":"{}"}}'.format(text.replace("/", "\\/")),
        "another key order": f'{{"data":"{text}","x":"\\ud83d\\ude00","type":"audio"}}',
    }[shape]


async def burst_past_a_stall(live: Live, count: int, shape: str = "") -> None:
    async with live.bridged() as (caller, session):
        caller.pause_reading()
        await speak(session, count, shape)
        await asyncio.sleep(STALL_S)
        caller.resume_reading()
        await until(lambda: len(caller.received_audio) >= count, 6 * DEADLINE_S)
        assert numbers(caller) == list(range(count))
        assert caller.warnings == []


async def speak(session: AgentSession, count: int, shape: str = "") -> None:
    if not shape:
        await session.send_frames((make_numbered(n) for n in range(count)), paced=False)
        return
    for n in range(count):
        await session.send_raw(message(make_numbered(n), shape))


async def test_two_minutes_at_once_to_callers_who_stall_arrive_whole(live_server):
    live = await live_server()
    await asyncio.gather(*(burst_past_a_stall(live, TWO_MINUTES) for _ in range(2)))
    metrics = await live.metrics()
    assert await live.dropped("to_caller") == 0
    assert metrics["bridge_held_bytes"] == 0


@pytest.mark.parametrize("shape", ["umlauts", "escaped slashes", "another key order"])
async def test_audio_that_python_reads_is_held_like_any_other(live_server, shape):
    live = await live_server(BRIDGE_CONTROL_PER_S=100)
    await burst_past_a_stall(live, 3000, shape)
    assert await live.dropped("to_caller") == 0


async def test_end_right_after_a_burst_to_a_caller_who_stalls_loses_nothing(live_server):
    live = await live_server(BRIDGE_PLAYOUT_MAX_S=60)
    count = 2500
    async with live.bridged() as (caller, session):
        caller.pause_reading()
        await speak(session, count)
        await session.send_call_ended()
        await asyncio.sleep(STALL_S)
        caller.resume_reading()
        await until(lambda: len(caller.received_audio) >= count, 6 * DEADLINE_S)
        assert numbers(caller) == list(range(count))
        await caller.hang_up()


async def test_fifteen_minutes_at_once_stay_below_what_twilio_keeps_and_an_interrupt_clears_the_rest(
    live_server, logs
):
    live = await live_server(BRIDGE_STALL_S=60)
    async with live.bridged() as (caller, session):
        caller.open_line()
        await session.send_frames(
            (make_numbered(n, LONG_FRAME_BYTES) for n in range(FIFTEEN_MINUTES)), paced=False
        )
        await until(lambda: len(caller.received_audio) >= NINE_MINUTES, 6 * DEADLINE_S)
        await until(lambda: live.traffic.from_agent == FIFTEEN_MINUTES, 2 * DEADLINE_S)
        assert live.held_bytes > 2 << 20
        await until(lambda: any("agent is minutes ahead" in line for line in logs.lines))
        await session.send_interrupt()
        await until(lambda: caller.received[-1].message.event == "clear", 2 * DEADLINE_S)
        heard = numbers(caller)
        assert heard == list(range(len(heard)))
        # Beyond nine minutes only what has played meanwhile.
        assert NINE_MINUTES <= len(heard) < NINE_MINUTES + 300
        assert caller.warnings == []
        assert live.held_bytes == 0
        metrics = await live.metrics()
        assert metrics["bridge_frames_cleared_total"] == FIFTEEN_MINUTES - len(heard)
        assert await live.dropped("to_caller") == 0
    assert len([line for line in logs.lines if "agent is minutes ahead" in line]) == 1


async def test_agent_whose_caller_does_not_read_can_interrupt(live_server):
    live = await live_server(BRIDGE_STALL_S=60)
    count = 3000
    async with live.bridged() as (caller, session):
        caller.pause_reading()
        await speak(session, count)
        await session.send_interrupt()
        await until(lambda: live.traffic.interrupts == 1)
        assert live.held_bytes == 0
        caller.resume_reading()
        await until(lambda: any(item.message.event == "clear" for item in caller.received))
        heard = numbers(caller)
        assert heard == list(range(len(heard)))
        assert (await live.metrics())["bridge_frames_cleared_total"] == count - len(heard) > 1000
        await session.send_audio(make_numbered(count))
        await until(lambda: caller.received_audio[-1] == make_numbered(count))


async def start_retell_twilio(live_server, **settings) -> Live:
    return await live_server(
        agent={"protocol": "retell-twilio"},
        BRIDGE_AGENT="retell-twilio",
        BRIDGE_STALL_S=60,
        **settings,
    )


async def test_marks_keep_their_place_past_a_stall_and_are_answered_at_a_clear(live_server):
    live = await start_retell_twilio(live_server)
    async with live.bridged() as (caller, session):
        caller.pause_reading()
        for n in range(40):
            await speak(session, 50)
            await session.send_mark(f"m{n}")
        await until(lambda: live.traffic.from_agent == 2000)
        await session.send_interrupt()
        await until(lambda: live.traffic.interrupts == 1)
        assert live.held_bytes == 0
        caller.resume_reading()
        await until(lambda: len(session.marks) == 40)
        assert session.marks == [f"m{n}" for n in range(40)]
        assert session.violations == []
        order = [item.message for item in caller.received]
        cleared_at = [each.event for each in order].index("clear")
        assert {each.event for each in order[cleared_at + 1 :]} == {"mark"}
        marks_before = [n for n, each in enumerate(order[:cleared_at]) if each.event == "mark"]
        # Each mark stands behind its fifty frames and the marks before it.
        assert marks_before == [50 * (n + 1) + n for n in range(len(marks_before))]


async def test_keys_pressed_while_the_agent_does_not_read_keep_their_place(live_server):
    live = await start_retell_twilio(live_server, BRIDGE_HOLD_FROM_CALLER_MS=60_000)
    keys = "0123456789*#"
    order: list[str] = []
    async with live.bridged() as (caller, session):
        session.on_event = order.append
        session.pause_reading()
        for n, key in enumerate(keys):
            await caller.send_frames((make_numbered(150 * n + m) for m in range(150)), paced=False)
            await caller.send_dtmf(key)
        await until(lambda: live.traffic.dtmf == len(keys))
        session.resume_reading()
        await until(lambda: len(session.dtmf) == len(keys))
        await until(lambda: len(session.received) == 150 * len(keys))
        assert "".join(session.dtmf) == keys
        assert session.violations == []
