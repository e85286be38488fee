"""The end of a process: its calls go on, and nobody is left without an answer."""

from __future__ import annotations

import asyncio
import time

from live import DEADLINE_S, PLAIN_AND_TLS, until
from live_raw import RawAgent

pytestmark = PLAIN_AND_TLS

FALLBACK = ["Say", "Hangup"]


async def test_drain_lets_the_running_call_end_by_itself(live_server):
    live = await live_server(BRIDGE_RESUME_LINGER_S=0.5)
    async with live.bridged() as (caller, session):
        live.server.drain()
        drained = asyncio.ensure_future(live.server.drained())
        assert (await live.get("/readyz"))[0] == 503
        assert (await live.get("/healthz"))[0] == 200
        async with live.caller() as late:
            answer = await late.post_voice()
            assert (answer.status, answer.verbs) == (200, FALLBACK)
        # The running call's webhook again is the running call still.
        assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
        await caller.send_media(b"still here")
        await session.send_audio(b"and here")
        await until(lambda: session.received and caller.received)
        assert not drained.done()
        await session.send_call_ended()
        await caller.closed.wait()
        assert caller.close_code == 1000
        began = time.monotonic()
        assert (await caller.follow_redirect()).verbs == ["Hangup"]
        await asyncio.wait_for(drained, 0.5 + DEADLINE_S)
        assert time.monotonic() - began > 0.3


async def test_drain_waits_for_a_call_that_has_its_answer_and_no_socket_yet(live_server):
    live = await live_server()
    async with live.answered() as caller:
        live.server.drain()
        drained = asyncio.ensure_future(live.server.drained())
        await caller.open_stream()
        session = await live.session_of(caller)
        await caller.send_media(b"hello")
        await until(lambda: session.received)
        assert not drained.done()
        await caller.hang_up()
        await asyncio.wait_for(drained, DEADLINE_S)


async def test_draining_process_takes_calls_while_a_balancer_notices(live_server):
    live = await live_server(BRIDGE_DRAIN_GRACE_S=1)
    live.server.drain()
    drained = asyncio.ensure_future(live.server.drained())
    assert (await live.get("/readyz"))[0] == 503
    async with live.bridged() as (caller, session):
        # Until the grace is over.
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with live.caller() as late:
                    if (await late.post_voice()).verbs == FALLBACK:
                        break
        await caller.send_media(b"hello")
        await until(lambda: session.received)
        assert not drained.done()
    drained.cancel()


async def test_drain_says_what_it_waits_for(live_server, monkeypatch, logs):
    monkeypatch.setattr("bridge.server.draining.LINE_EVERY_S", 0.02)
    live = await live_server()
    async with live.bridged():
        live.server.drain()
        drained = asyncio.ensure_future(live.server.drained())
        await until(lambda: sum("another signal ends them" in line for line in logs.lines) >= 2)
    await asyncio.wait_for(drained, DEADLINE_S)


async def test_drain_without_calls_is_over_at_once(live_server):
    live = await live_server()
    live.server.drain()
    await asyncio.wait_for(live.server.drained(), 0.2)


async def test_call_that_outlasts_the_drain_is_handed_over(live_server):
    live = await live_server(BRIDGE_DRAIN_S=0.3, BRIDGE_RESUME_LINGER_S=1)
    async with live.bridged() as (caller, session):
        live.server.drain()
        drained = asyncio.ensure_future(live.server.drained())
        await asyncio.wait_for(asyncio.gather(caller.closed.wait(), session.closed.wait()), DEADLINE_S)
        assert (caller.close_code, session.close_code) == (1001, 1000)
        assert not drained.done()
        assert (await caller.follow_redirect()).verbs == FALLBACK
        await asyncio.wait_for(drained, DEADLINE_S)


async def test_call_that_is_still_connecting_when_the_drain_is_over_is_handed_over(live_server, tls):
    async with RawAgent(lambda socket: socket.gone(), tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url, BRIDGE_DRAIN_S=0)
        async with live.answered() as caller:
            await caller.open_stream()
            await until(lambda: agent.sockets)
            live.server.drain()
            await asyncio.wait_for(live.server.drained(), DEADLINE_S)
            await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
            assert caller.close_code == 1001
            assert (await caller.follow_redirect()).verbs == FALLBACK


async def test_drain_that_is_over_gives_up_admitted_calls_and_still_answers_their_resume(live_server):
    live = await live_server(BRIDGE_DRAIN_S=0, BRIDGE_RESUME_LINGER_S=1)
    async with live.answered() as caller:
        live.server.drain()
        drained = asyncio.ensure_future(live.server.drained())
        await until(lambda: not live.admitted)
        assert (await caller.follow_redirect()).verbs == ["Say", "Hangup"]
        await drained
