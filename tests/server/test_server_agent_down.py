"""An agent whose service is down, on real sockets: few callers meet it, and all reach the next agent."""

from __future__ import annotations

import asyncio

import pytest
from live import FACTOR, Live, soon, until

from bridge.agents import agent_breaker
from bridge.agents.agent_breaker import FAILURES
from bridge.call.state import State
from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.numbered import make_numbered
from bridge.standins.process import free_port

CHAIN = {"BRIDGE_AGENT": "retell,echo"}
CALLS = 6
# Retries follow at once.
AT_ONCE = {"Retry-After": "0"}
MANY = 100


async def is_echoed(live: Live) -> bool:
    """Whether the echo answers one call; else Retell's agent does."""
    former = set(live.agent.sessions)
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: is_bridged(live, caller.call_sid))
        await caller.send_media(make_numbered(0))
        await until(
            lambda: (
                caller.received_audio
                or any(
                    session.received for name, session in live.agent.sessions.items() if name not in former
                )
            )
        )
        return bool(caller.received_audio)


def is_bridged(live: Live, call_sid: str) -> bool:
    return any(call.call_sid == call_sid and call.state is State.BRIDGED for call in live.open_calls)


async def passed_over(live: Live) -> float:
    return (await live.metrics())['bridge_agents_passed_over_total{agent="retell",why="failing"}']


async def is_available(live: Live) -> bool:
    return (await live.metrics())['bridge_agent_available{agent="retell"}'] == 1


@pytest.mark.parametrize("status", [401, 402, 404, 429, 500, 503])
async def test_service_that_refuses_sessions_is_met_by_few_callers(live_server, logs, status):
    live = await live_server(**CHAIN)
    live.agent.rest_answers.extend(MANY * [HttpAnswer(status=status, headers=AT_ONCE)])
    assert [await is_echoed(live) for _ in range(CALLS)] == CALLS * [True]
    callers = {request["metadata"]["callSid"] for request in live.agent.requests}
    assert len(callers) == FAILURES
    assert await passed_over(live) == CALLS - FAILURES
    assert not await is_available(live)
    [line] = [line for line in logs.lines if "agent fails, calls pass it over" in line]
    assert f"status {status}" in line


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_service_that_refuses_upgrades_is_met_by_few_callers(live_server, logs, status):
    live = await live_server(**CHAIN)
    live.agent.upgrade_answers.extend(MANY * [HttpAnswer(status=status)])
    assert [await is_echoed(live) for _ in range(CALLS)] == CALLS * [True]
    assert len(live.agent.upgrade_answers) == MANY - FAILURES
    # Those who pass it over ask for no session either.
    assert len(live.agent.requests) == FAILURES
    [line] = [line for line in logs.lines if "agent fails, calls pass it over" in line]
    assert f"upgrade refused: {status}" in line


@pytest.mark.parametrize("setting", ["RETELL_API_URL", "RETELL_WS_URL"])
async def test_service_whose_port_is_closed_is_met_by_few_callers(live_server, setting):
    scheme = "http" if setting == "RETELL_API_URL" else "ws"
    live = await live_server(**CHAIN, **{setting: f"{scheme}://127.0.0.1:{free_port()}"})
    assert [await is_echoed(live) for _ in range(CALLS)] == CALLS * [True]
    assert await passed_over(live) == CALLS - FAILURES


@pytest.mark.parametrize("hangs", ["session", "upgrade"])
async def test_service_that_hangs_keeps_only_those_waiting_who_met_it(live_server, hangs):
    settings = {
        "BRIDGE_SESSION_S": min(6 * FACTOR, 13),
        "BRIDGE_AGENT_CONNECT_S": 3 * FACTOR,
        "BRIDGE_HOLD_FROM_CALLER_MS": round(3000 * FACTOR),
    }
    live = await live_server(**CHAIN, **settings)
    answers = live.agent.rest_answers if hangs == "session" else live.agent.upgrade_answers
    answers.extend(MANY * [HttpAnswer(status=503, delay_s=5 * FACTOR)])
    waiting = [asyncio.ensure_future(is_echoed(live)) for _ in range(FAILURES)]
    async with asyncio.timeout(10 * FACTOR):
        while await is_available(live):
            pass
    assert await is_echoed(live)
    assert not any(call.done() for call in waiting)
    assert await asyncio.gather(*waiting) == FAILURES * [True]
    assert len(answers) == MANY - FAILURES


async def test_agent_that_is_back_gets_all_calls_after_one_has_tried_it(live_server, monkeypatch):
    monkeypatch.setattr(agent_breaker, "OPEN_S", 0.05)
    live = await live_server(**CHAIN)
    live.agent.upgrade_answers.extend((FAILURES + 1) * [HttpAnswer(status=503)])
    assert [await is_echoed(live) for _ in range(FAILURES)] == FAILURES * [True]
    async with asyncio.timeout(10 * FACTOR):
        while await is_echoed(live):
            pass
    assert not live.agent.upgrade_answers
    assert await is_available(live)
    assert not await is_echoed(live)


async def test_caller_who_hangs_up_while_the_agent_connects_does_not_count(live_server):
    live = await live_server(**CHAIN)
    live.agent.upgrade_answers.extend(FAILURES * [HttpAnswer(status=101, delay_s=1)])
    for _ in range(FAILURES):
        async with live.answered() as caller:
            await caller.open_stream()
            await until(lambda: live.agent_legs)
            await caller.hang_up()
            await soon(caller.closed.wait())
        await until(lambda: live.is_idle)
    assert await is_available(live)


async def test_callers_without_another_agent_still_try_one_that_fails(live_server):
    live = await live_server()
    live.agent.upgrade_answers.extend((FAILURES + 1) * [HttpAnswer(status=503)])
    for _ in range(FAILURES + 1):
        async with live.answered() as caller:
            await caller.open_stream()
            await soon(caller.closed.wait())
    assert not live.agent.upgrade_answers
    assert not await is_available(live)
    async with live.bridged() as (caller, session):
        await caller.send_media(make_numbered(0))
        await until(lambda: session.received)
        assert await is_available(live)
