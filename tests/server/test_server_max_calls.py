"""Limits of calls, on real sockets: who takes the calls beyond them, also over two processes with one store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from live import Live, beside, serving, soon, until
from redis_server import RedisServer, redis_server, started

from bridge.agents.agent_breaker import FAILURES
from bridge.call.state import State
from bridge.standins.twilio.caller import Caller

__all__ = ["redis_server"]

STREAM = ["Connect", "Redirect"]
FALLBACK = ["Say", "Hangup"]
LIMIT = 3


@contextlib.asynccontextmanager
async def call(live: Live) -> AsyncIterator[tuple[Caller, str]]:
    """A call that an agent with a socket has answered, and which one: ``retell`` or ``echo``."""
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: bridged(live, caller.call_sid))
        asked = {request["metadata"]["callSid"] for request in live.agent.requests}
        yield caller, "retell" if caller.call_sid in asked else "echo"


def bridged(live: Live, call_sid: str) -> bool:
    return any(one.call_sid == call_sid and one.state is State.BRIDGED for one in live.open_calls)


async def agents_of(stack: contextlib.AsyncExitStack, *lives: Live) -> list[str]:
    """Who answers one call more at each of these processes, one after the other."""
    return [(await stack.enter_async_context(call(live)))[1] for live in lives]


async def until_idle(*lives: Live) -> None:
    await until(lambda: all(live.is_idle for live in lives))


async def test_next_agent_takes_the_calls_beyond_the_limit(live_server, logs):
    live = await live_server(BRIDGE_AGENT="retell,echo", BRIDGE_MAX_CALLS_OF="retell=1")
    async with contextlib.AsyncExitStack() as stack:
        assert await agents_of(stack, live, live, live) == ["retell", "echo", "echo"]
        metrics = await live.metrics()
        assert metrics['bridge_full{of="agent:retell"}'] == 1
        assert metrics['bridge_agents_passed_over_total{agent="retell",why="full"}'] == 2
        # Full is not failing.
        assert metrics['bridge_agent_available{agent="retell"}'] == 1
    await until_idle(live)
    assert (await live.metrics())['bridge_full{of="agent:retell"}'] == 0
    async with call(live) as (_, agent):
        assert agent == "retell"
    assert len([line for line in logs.lines if "limit of calls reached" in line]) == 1


async def test_without_another_agent_callers_beyond_the_limit_get_the_fallback(live_server, logs):
    live = await live_server(BRIDGE_MAX_CALLS_OF="retell=1")
    async with call(live), live.caller() as second:
        assert (await second.post_voice()).verbs == FALLBACK
    assert [line for line in logs.lines if "retell: has all the calls that it may have" in line]


async def test_calls_of_a_route_beyond_its_limit_get_the_fallback(live_server, tmp_path):
    (tmp_path / "routes.toml").write_text('[[route]]\nagents = ["echo"]\nmax_calls = 1\n')
    live = await live_server(BRIDGE_ROUTES_FILE=tmp_path / "routes.toml")
    async with call(live), live.caller() as second:
        assert (await second.post_voice()).verbs == FALLBACK
        assert (await live.metrics())['bridge_full{of="route:route-1"}'] == 1
    await until_idle(live)
    async with call(live):
        pass


async def test_call_that_another_agent_takes_over_gives_its_slot_back(live_server):
    live = await live_server(BRIDGE_AGENT="retell,echo", BRIDGE_MAX_CALLS_OF="retell=1")
    async with live.bridged() as (caller, session):
        session.abort()
        await until(lambda: bridged(live, caller.call_sid) and not live.agent_legs)
        async with call(live) as (_, agent):
            assert agent == "retell"


async def test_agent_at_its_limit_does_not_take_a_call_over(live_server):
    live = await live_server(BRIDGE_AGENT="retell,echo", BRIDGE_MAX_CALLS_OF="echo=1,retell=2")
    async with contextlib.AsyncExitStack() as stack:
        _, first = await stack.enter_async_context(live.bridged())
        assert await agents_of(stack, live, live) == ["retell", "echo"]
        before = len(live.agent.requests)
        first.abort()
        # The same agent goes on in a new session: its slot is the call's own.
        await until(lambda: len(live.agent.requests) == before + 1)


# Over two processes


@pytest.fixture(params=["sqlite", "redis"])
async def url(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/store.sqlite3"
    await started(redis_server)
    return redis_server.url


@contextlib.asynccontextmanager
async def two(url: str, **settings: str) -> AsyncIterator[tuple[Live, Live]]:
    settings = {"BRIDGE_AGENT": "retell,echo", "BRIDGE_MAX_CALLS_OF": f"retell={LIMIT}", **settings}
    async with serving(BRIDGE_STORE=url, **settings) as live, beside(live, url, **settings) as other:
        yield live, other


async def test_limit_holds_over_two_processes(url):
    async with two(url) as (a, b):
        async with contextlib.AsyncExitStack() as stack:
            found = await agents_of(stack, a, b, a, b, a)
            assert found == LIMIT * ["retell"] + 2 * ["echo"]
        await until_idle(a, b)
        await a.beat()
        async with contextlib.AsyncExitStack() as stack:
            assert await agents_of(stack, b, b, b, a) == LIMIT * ["retell"] + ["echo"]


async def test_limit_holds_where_calls_come_to_both_processes_at_once(url):
    async with two(url) as (a, b), contextlib.AsyncExitStack() as stack:
        found = await asyncio.gather(*(agents_of(stack, live) for live in 4 * [a, b]))
        assert sum(agent == ["retell"] for agent in found) <= LIMIT


async def test_media_socket_at_the_other_process_takes_no_second_slot(url):
    async with two(url) as (a, b), contextlib.AsyncExitStack() as stack:
        for _ in range(LIMIT):
            caller = await stack.enter_async_context(a.answered())
            caller.endpoint.url = b.url
            await caller.open_stream()
            await until(lambda caller=caller: bridged(b, caller.call_sid))
        assert len(a.agent.requests) == LIMIT
        assert await agents_of(stack, a, b) == ["echo", "echo"]
        assert b.live_calls == LIMIT + 1


async def test_slots_of_a_process_that_dies_are_free_once_its_heartbeat_has_ended(url, monkeypatch):
    monkeypatch.setattr("bridge.server.store.presence.ALIVE_S", 0.5)
    monkeypatch.setattr("bridge.server.store.presence.BEAT_S", 0.05)
    async with two(url, BRIDGE_MAX_CALLS_OF="retell=1") as (a, b), contextlib.AsyncExitStack() as stack:
        assert await agents_of(stack, b, a) == ["retell", "echo"]

        async def is_dead() -> None:
            """No heartbeat is written any more."""

        monkeypatch.setattr(b.server._agreement.presence, "renew", is_dead)
        async with asyncio.timeout(10):
            while await agents_of(stack, a) == ["echo"]:
                pass


async def test_each_process_counts_its_own_calls_while_the_store_is_away(redis_server):
    await started(redis_server)
    limit = {"BRIDGE_MAX_CALLS_OF": "retell=1"}
    async with two(redis_server.url, **limit) as (a, b), contextlib.AsyncExitStack() as stack:
        await redis_server.kill()
        assert await agents_of(stack, a, a) == ["retell", "echo"]
        assert await agents_of(stack, b, b) == ["retell", "echo"]


# Agents that are dialled


async def dialled(live: Live, stack: contextlib.AsyncExitStack) -> tuple[Caller, str]:
    """One call, and the address that Twilio asks when a dialled agent has gone; empty if none is dialled."""
    caller = await stack.enter_async_context(live.caller())
    answer = await caller.post_voice()
    dial = ElementTree.fromstring(answer.body).find("Dial")
    return caller, dial.get("action") if dial is not None else ""


async def end_dialled(live: Live, caller: Caller, action: str, status: str) -> list[str]:
    caller.endpoint.url = live.url
    form = {**caller._form(None, {}), "DialCallStatus": status}
    return (await caller.post(action, form)).verbs


async def test_dialled_call_keeps_its_slot_until_any_process_hears_of_its_end(url):
    settings = {"BRIDGE_AGENT": "retell-sip", "BRIDGE_MAX_CALLS_OF": "retell-sip=1"}
    async with (
        serving(agent={"protocol": "retell-sip"}, BRIDGE_STORE=url, **settings) as a,
        beside(a, url, **settings) as b,
        contextlib.AsyncExitStack() as stack,
    ):
        caller, action = await dialled(a, stack)
        assert action
        assert (await dialled(a, stack))[1] == (await dialled(b, stack))[1] == ""
        assert await end_dialled(b, caller, action, "completed") == ["Hangup"]
        _, action = await soon(until_dialled(a, stack))
        assert action


async def until_dialled(live: Live, stack: contextlib.AsyncExitStack) -> tuple[Caller, str]:
    while True:
        caller, action = await dialled(live, stack)
        if action:
            return caller, action


async def test_dialled_agent_that_does_not_answer_is_passed_over(live_server):
    live = await live_server(agent={"protocol": "retell-sip"}, BRIDGE_AGENT="retell-sip,echo")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(FAILURES):
            caller, action = await dialled(live, stack)
            assert await end_dialled(live, caller, action, "no-answer") == STREAM
        assert (await live.metrics())['bridge_agent_available{agent="retell-sip"}'] == 0
        assert (await dialled(live, stack))[1] == ""
