"""A fault in each callback of the wire and at each step of each end: whatever the call took comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from live import DEADLINE_S, until

from bridge.agents.vendors.retell import RetellDialogue
from bridge.call.agent import AgentLeg
from bridge.call.caller import CallerLeg
from bridge.call.leg import Leg
from bridge.call.state import Call
from bridge.metrics import Metrics
from bridge.server.live import Live
from bridge.server.open_sides import OpenSides
from bridge.server.registry import Registry
from bridge.server.store.agreement import Agreement
from bridge.standins.sockets import abort_with_reset
from bridge.twilio.rest import TwilioApi

FRAME = 160 * b"\x7f"


class FaultError(Exception):
    """The fault that a test puts in."""


class Fault:
    """Once armed, raises in place of the next call of a method, which then is as before."""

    def __init__(self, monkeypatch, owner: type, name: str) -> None:
        self.count = 0
        self.is_armed = False
        real = getattr(owner, name)

        def faulty(*arguments, **named):
            if self.is_armed and not self.count:
                self.count += 1
                raise FaultError
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, faulty)


def faults_of(logs) -> list[str]:
    return [line for line in logs.faults() if "FaultError" in line]


async def check_all_comes_back(live, logs, fault) -> None:
    await until(lambda: fault.count)
    await until(lambda: live.is_idle and not live.admitted and not live.held_bytes)
    for session in live.agent.sessions.values():
        await asyncio.wait_for(session.closed.wait(), DEADLINE_S)
    assert fault.count == len(faults_of(logs)) == len(logs.faults())
    logs.records.clear()
    # The process goes on.
    live.agent.rest_answers.clear()
    async with live.bridged() as (caller, session):
        await caller.send_media(FRAME)
        await until(lambda: session.received)


# The ends

End = Callable[[Any, Any, Any], Awaitable[None]]


async def agent_ends(live, caller, session) -> None:
    await session.send_audio(FRAME)
    await session.send_call_ended()


async def agent_vanishes(live, caller, session) -> None:
    live.refuse_sessions()
    abort_with_reset(session._transport)


async def caller_hangs_up(live, caller, session) -> None:
    await caller.send_stop()


async def caller_vanishes(live, caller, session) -> None:
    caller.abort()


async def call_completes(live, caller, session) -> None:
    await caller.post_status("completed")


async def process_drains(live, caller, session) -> None:
    live.server.drain()
    await live.server.drained()


EVERY_STEP = [
    (Call, "count_relayed"),
    (Call, "_advance_playout"),
    (Call, "_close_agent"),
    (AgentLeg, "close"),
    (Leg, "close"),
    (Live, "on_call_closed"),
    (Live, "_keep_said"),
    (Live, "_finish"),
    (Registry, "finish"),
    (Agreement, "end"),
    (Agreement, "after_end"),
    (Live, "_hang_up_or_close"),
    (Call, "close_caller"),
    (Registry, "give_back"),
    (Live, "_count"),
    (OpenSides, "traffic"),
    (Live, "on_leg_gone"),
]
CLOSING = (RetellDialogue, "closing")
ENDS: dict[End, list[tuple[type, str]]] = {
    agent_ends: [*EVERY_STEP, CLOSING, (CallerLeg, "send_mark"), (CallerLeg, "send_item"), (Call, "on_mark")],
    agent_vanishes: [*EVERY_STEP, (AgentLeg, "end_by_peer"), (Call, "on_agent_lost"), (Call, "_next_side")],
    caller_hangs_up: [*EVERY_STEP, CLOSING],
    caller_vanishes: [*EVERY_STEP, (CallerLeg, "end_by_peer"), (CallerLeg, "keep"), (Live, "on_caller_kept")],
    call_completes: EVERY_STEP,
    process_drains: EVERY_STEP,
}


@pytest.mark.parametrize(
    ("end", "owner", "step"),
    [
        pytest.param(end, *step, id=f"{end.__name__}-{step[0].__name__}.{step[1]}")
        for end, steps in ENDS.items()
        for step in steps
    ],
)
async def test_fault_at_a_step_of_an_end(live_server, logs, monkeypatch, end, owner, step):
    hung_up: list[str] = []

    async def hang_up(_: TwilioApi, call_sid: str) -> None:
        hung_up.append(call_sid)

    monkeypatch.setattr(TwilioApi, "hang_up", hang_up)
    fault = Fault(monkeypatch, owner, step)
    live = await live_server(BRIDGE_DRAIN_S=0)
    async with live.bridged() as (caller, session):
        await caller.send_media(FRAME)
        await until(lambda: session.received)
        fault.is_armed = True
        await end(live, caller, session)
        if end is process_drains:
            await until(lambda: fault.count and live.is_idle)
            await asyncio.wait_for(session.closed.wait(), DEADLINE_S)
            assert fault.count == len(faults_of(logs)) == len(logs.faults())
            logs.records.clear()
        else:
            await check_all_comes_back(live, logs, fault)
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)


# The callbacks

# A frame with reserved bits, from a server and from a client.
VIOLATION, MASKED_VIOLATION = b"\xf0\x00", b"\xf0\x80\x00\x00\x00\x00"


async def flood(live, caller, session) -> None:
    caller.pause_reading()
    legs = live.caller_legs
    # The call's end closes the agent's socket.
    with contextlib.suppress(ConnectionError):
        while not legs[0].wire.is_closing:
            await session.send_audio(50 * FRAME)


CALLBACKS: list[tuple[type, str, End]] = [
    (CallerLeg, "read_text", lambda live, caller, session: caller.send_dtmf("1")),
    (AgentLeg, "read_text", lambda live, caller, session: session.send_interrupt()),
    (AgentLeg, "read_audio", lambda live, caller, session: session.send_audio(FRAME)),
    (AgentLeg, "send_item", lambda live, caller, session: caller.send_dtmf("1")),
    (Metrics, "ignored", lambda live, caller, session: caller.send_raw(b"binary")),
    (Metrics, "ignored", lambda live, caller, session: session._socket.send_bytes(b"binary")),
    (CallerLeg, "end_by_peer", lambda live, caller, session: caller.hang_up(stop=False)),
    (AgentLeg, "end_by_peer", lambda live, caller, session: session.close()),
    (CallerLeg, "end_by_violation", lambda live, caller, session: write(caller, MASKED_VIOLATION)),
    (AgentLeg, "end_by_violation", lambda live, caller, session: write(session, VIOLATION)),
    (CallerLeg, "_set_congested", flood),
]


async def write(peer, data: bytes) -> None:
    transport = getattr(peer, "_transport", None) or peer._open_socket().transport
    transport.write(data)


@pytest.mark.parametrize(
    ("owner", "name", "event"),
    [pytest.param(*row, id=f"{row[0].__name__}.{row[1]}") for row in CALLBACKS],
)
async def test_fault_in_a_callback_of_the_wire(live_server, logs, monkeypatch, owner, name, event):
    fault = Fault(monkeypatch, owner, name)
    live = await live_server()
    async with live.bridged() as (caller, session):
        fault.is_armed = True
        await event(live, caller, session)
        await check_all_comes_back(live, logs, fault)
        assert (await live.metrics())['bridge_calls_ended_total{why="fault"}'] == 1
        caller.resume_reading()
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)


async def test_fault_in_audio_that_no_wire_passes_on(live_server, logs, monkeypatch):
    fault = Fault(monkeypatch, CallerLeg, "read_audio")
    fault.is_armed = True
    live = await live_server(BRIDGE_AGENT="echo")
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.send_media(FRAME)
        # Its echo shows that the stream has started.
        await until(lambda: caller.received)
        await caller.send_media(FRAME)
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
    await until(lambda: live.is_idle)
    assert fault.count == len(faults_of(logs)) == len(logs.faults())
    logs.records.clear()
