"""Certificates: agents whose own is not valid get no call and no credential; the port takes a new one at a reload."""

from __future__ import annotations

import datetime

import pytest
from certificates import Tls
from live import until

from bridge.call.state import State
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.service import AgentService

pytestmark = pytest.mark.parametrize("tls", ["tls"], indirect=True)

FALLBACK = ["Say", "Hangup"]
# What the log says of each.
INVALID = {
    "untrusted": "certificate refused: unable to get local issuer certificate",
    "expired": "certificate refused: certificate has expired",
    "of another host": "certificate refused: IP address mismatch",
}


@pytest.fixture(params=INVALID)
def invalid(request, tls, tmp_path_factory):
    """The context of an agent, and what the log says of its certificate."""
    now = datetime.datetime.now(datetime.UTC)
    context = {
        "untrusted": lambda: Tls(tmp_path_factory.mktemp("another authority")).server(),
        "expired": lambda: tls.server(not_after=now - datetime.timedelta(hours=1)),
        "of another host": lambda: tls.server("127.0.0.2"),
    }[request.param]()
    return context, INVALID[request.param]


async def test_agent_without_a_valid_certificate_is_the_fallback(live_server, invalid, logs):
    context, reason = invalid
    async with AgentService(protocol="openai", behaviour=silent, ssl=context) as agent:
        live = await live_server(
            BRIDGE_AGENT="openai", OPENAI_API_KEY="key", OPENAI_REALTIME_URL=agent.ws_url
        )
        async with live.answered() as caller:
            await caller.open_stream()
            await caller.closed.wait()
            assert caller.close_code == 1011
            assert (await caller.follow_redirect()).verbs == FALLBACK
        assert (agent.sessions, agent.faults) == ({}, [])
        assert (await live.metrics())['bridge_calls_ended_total{why="agent_lost"}'] == 1
    assert [line for line in logs.lines if "call ended" in line and reason in line]


async def test_agent_after_one_without_a_valid_certificate_answers(live_server, invalid, logs):
    context, reason = invalid
    async with AgentService(protocol="openai", behaviour=silent, ssl=context) as agent:
        live = await live_server(
            BRIDGE_AGENT="openai,retell", OPENAI_API_KEY="key", OPENAI_REALTIME_URL=agent.ws_url
        )
        async with live.answered() as caller:
            await caller.open_stream()
            await until(lambda: any(call.state is State.BRIDGED for call in live.open_calls))
            session = await live.session_of(caller)
            await caller.send_media(b"hello")
            await until(lambda: session.received)
        assert (agent.sessions, agent.faults) == ({}, [])
        assert (await live.metrics())["bridge_agents_replaced_total"] == 1
    assert [line for line in logs.lines if "trying next" in line and reason in line]


async def test_no_session_is_asked_for_where_the_certificate_is_not_valid(live_server, invalid, logs):
    context, reason = invalid
    async with AgentService(behaviour=silent, ssl=context) as agent:
        live = await live_server(BRIDGE_AGENT="retell,echo", RETELL_API_URL=agent.url)
        async with live.answered() as caller:
            await caller.open_stream()
            await caller.send_media(b"hello")
            await until(lambda: caller.received_audio == [b"hello"])
        assert agent.requests == []
    assert [line for line in logs.lines if "trying next" in line and reason in line]
