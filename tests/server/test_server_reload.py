"""A running server reads its files of agents and routes again. SIGHUP itself is in test_serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from live import Live, soon, until

from bridge.standins.twilio.caller import Caller

ROUTE = "[[route]]\nagents = {}\n"
NOBODY = '[[route]]\nto = "+15550000000"\nagents = ["echo"]\n'
REFUSED = "reload refused, the former agents and routes stay"
Start = Callable[..., Awaitable[Live]]


@pytest.fixture
def routes(tmp_path) -> Path:
    return tmp_path / "routes.toml"


@pytest.fixture
def start(live_server, routes) -> Start:
    """Starts a server by a file of routes; the echo answers what it does not mention."""

    async def start_one(content: str, **settings: object) -> Live:
        routes.write_text(content)
        return await live_server(BRIDGE_ROUTES_FILE=routes, BRIDGE_AGENT="echo", **settings)

    return start_one


def lines(logs, event: str) -> list[str]:
    return [line for line in logs.lines if event in line]


async def check_echoes(caller: Caller) -> None:
    """Have the call's audio come back, by no agent of the service."""
    await caller.open_stream()
    await caller.send_media(b"hello")
    await until(lambda: caller.received_audio == [b"hello"])


async def test_calls_that_come_go_by_the_new_file_and_those_that_are_up_stay(start, routes, logs):
    live = await start(ROUTE.format(["retell"]))
    async with live.bridged() as (first, session), live.answered() as admitted:
        routes.write_text(ROUTE.format(["echo"]))
        live.server.reload()
        async with live.answered() as second:
            await check_echoes(second)
        await first.send_media(b"still here")
        await until(lambda: session.received)
        assert session.received[0].audio == b"still here"
        assert len(live.agent.requests) == 2
        assert (await admitted.post_voice()).verbs == ["Connect", "Redirect"]
    (line,) = lines(logs, "reloaded")
    assert "agents=['echo']" in line


async def test_agents_of_a_new_file_are_there_after_it(live_server, tmp_path, logs):
    agents = tmp_path / "agents.toml"
    routes = tmp_path / "routes.toml"
    agents.write_text("")
    routes.write_text(NOBODY)
    live = await live_server(BRIDGE_AGENTS_FILE=agents, BRIDGE_ROUTES_FILE=routes, BRIDGE_AGENT="echo")
    agents.write_text('[mine]\nurl = "ws://127.0.0.1:1"\nbinary = true\n')
    routes.write_text(ROUTE.format(["mine", "echo"]))
    live.server.reload()
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: lines(logs, "call bridged"))
    # Nothing listens there.
    assert (await live.metrics())["bridge_agents_replaced_total"] == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[[route", "cannot be read"),
        ("[[route]]\nagents = []\n", "route-1: must have either agents or split"),
        (ROUTE.format(["parrot"]), "unknown agent 'parrot'"),
        (ROUTE.format(["openai"]), "OPENAI_API_KEY: is missing"),
        (None, "cannot be read"),
    ],
)
async def test_bad_file_is_reported_and_the_old_one_stays(start, routes, logs, content, problem):
    live = await start(ROUTE.format(["retell"]))
    if content is None:
        routes.unlink()
    else:
        routes.write_text(content)
    live.server.reload()
    (line,) = lines(logs, REFUSED)
    assert line.startswith("ERROR")
    assert problem in line
    assert lines(logs, "reloaded") == []
    logs.records.clear()
    async with live.bridged() as (caller, session):
        await caller.send_media(b"hello")
        await until(lambda: session.received)


async def test_every_problem_of_a_bad_file_is_reported(start, routes, logs):
    live = await start(ROUTE.format(["echo"]))
    routes.write_text(ROUTE.format(["parrot"]) + 'to = "+15550000000"\n' + ROUTE.format(["openai"]))
    live.server.reload()
    assert len(lines(logs, REFUSED)) == 2
    logs.records.clear()


async def test_file_that_is_good_again_is_taken(start, routes, logs):
    live = await start(ROUTE.format(["retell"]))
    routes.write_text("bad")
    live.server.reload()
    logs.records.clear()
    routes.write_text(NOBODY)
    live.server.reload()
    assert len(lines(logs, "reloaded")) == 1
    async with live.answered() as caller:
        await check_echoes(caller)


async def test_without_signatures_a_reload_brings_in_no_agent_that_costs_money(start, routes, logs):
    live = await start(ROUTE.format(["echo"]), BRIDGE_VALIDATE_SIGNATURES="0")
    routes.write_text(ROUTE.format(["retell"]))
    live.server.reload()
    (line,) = lines(logs, REFUSED)
    assert "BRIDGE_AGENT: retell costs money" in line
    logs.records.clear()
    async with live.answered() as caller:
        await check_echoes(caller)
    assert live.agent.requests == []


# Calls whose agent a reload removed between their webhook and their socket


async def test_call_goes_to_the_next_of_its_agents(start, routes):
    live = await start(ROUTE.format(["retell", "echo"]))
    async with live.answered() as caller:
        routes.write_text(NOBODY)
        live.server.reload()
        await check_echoes(caller)


@pytest.mark.parametrize("left", [[], ["retell-sip"], ["retell-sip", "echo"]])
async def test_call_without_an_agent_that_has_a_socket_is_refused(start, routes, logs, left):
    live = await start(ROUTE.format(["retell", *left]))
    async with live.answered() as caller:
        routes.write_text(ROUTE.format(left) if left else NOBODY)
        live.server.reload()
        await caller.open_stream()
        await soon(caller.closed.wait())
        assert caller.close_code == 1008
        assert (await caller.follow_redirect()).verbs == ["Say", "Hangup"]
    (line,) = [line for line in lines(logs, "call ended") if caller.call_sid in line]
    assert "why='refused'" in line
    assert "detail='agent'" in line
