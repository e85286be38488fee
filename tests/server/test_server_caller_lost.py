"""A caller who only lost the media socket: the same agent goes on, or a new session, and nobody apologizes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from live import Live, beside, soon, until

from bridge.call.ends import Why
from bridge.standins.agent.session import AgentSession
from bridge.standins.numbered import make_numbered
from bridge.standins.twilio.caller import Caller

FALLBACK = ["Say", "Hangup"]
STREAM = ["Connect", "Redirect"]
LONG = {"grace_s": 60.0}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path}/store.sqlite3"


@pytest.fixture
async def pair(live_server, url, monkeypatch) -> AsyncIterator[tuple[Live, Live]]:
    monkeypatch.setattr("bridge.server.store.presence.BEAT_S", 0.05)
    live = await live_server(BRIDGE_STORE=url, limits=LONG)
    async with beside(live, url, limits=LONG) as other:
        yield live, other


async def lose(caller: Caller, *at: Live) -> None:
    """Reset the media socket, as a router does; these processes have noticed."""
    caller.abort()
    await soon(caller.closed.wait())
    await until(lambda: not any(one.caller_legs for one in at))


async def go_on(caller: Caller, *, asks: Live, opens: Live | None = None) -> list[str]:
    """Twilio asks one process what follows, and opens the stream at another."""
    caller.endpoint.url = asks.url
    answer = await caller.follow_redirect()
    if answer.stream_url is not None:
        caller.endpoint.url = (opens or asks).url
        await caller.open_stream()
    return answer.verbs


async def session_after(live: Live, first: AgentSession) -> AgentSession:
    await until(lambda: len(live.agent.sessions) == 2)
    [second] = [one for one in live.agent.sessions.values() if one is not first]
    await soon(second.opened.wait())
    return second


# One process


async def test_same_session_goes_on_and_its_frames_arrive_in_order(live_server):
    live = await live_server(limits=LONG)
    async with live.bridged() as (caller, session):
        await session.send_frames((make_numbered(n) for n in range(10)), paced=False)
        await until(lambda: len(caller.received) == 10)
        await lose(caller, live)
        await session.send_frames((make_numbered(n) for n in range(10, 30)), paced=False)
        assert (await soon(caller.go_on())).verbs == STREAM
        await session.send_frames((make_numbered(n) for n in range(30, 40)), paced=False)
        await until(lambda: len(caller.received) == 40)
        assert caller.received_audio == [make_numbered(n) for n in range(40)]
        await caller.send_frames((make_numbered(n) for n in range(20)), paced=False)
        await until(lambda: len(session.received) == 20)
        assert [item.audio for item in session.received] == [make_numbered(n) for n in range(20)]
        assert caller.warnings == []
        await caller.send_stop()
        await soon(caller.closed.wait())
        assert (await caller.follow_redirect()).verbs == ["Hangup"]
        await until(lambda: live.is_idle)
    assert len(live.agent.sessions) == 1
    metrics = await live.metrics()
    assert metrics["bridge_calls_total"] == 1
    assert metrics["bridge_callers_kept_total"] == metrics["bridge_callers_back_total"] == 1
    traffic = live.traffic
    assert (traffic.from_agent, traffic.to_caller, traffic.dropped_to_caller) == (40, 40, 0)
    assert (traffic.from_caller, traffic.to_agent) == (20, 20)


async def test_frames_held_for_a_caller_who_did_not_read_arrive_in_order(live_server):
    live = await live_server(limits=LONG)
    async with live.bridged() as (caller, session):
        caller.pause_reading()
        most = 3000
        await session.send_frames((make_numbered(n) for n in range(most)), paced=False)
        await until(lambda: live.traffic.from_agent == most)
        sent = live.traffic.to_caller
        assert sent < most
        await lose(caller, live)
        before = len(caller.received)
        assert (await soon(caller.go_on())).verbs == STREAM
        await until(lambda: len(caller.received) - before == most - sent)
        assert caller.received_audio[before:] == [make_numbered(n) for n in range(sent, most)]
        assert live.traffic.dropped_to_caller == 0


async def test_interrupt_meanwhile_discards_what_is_held(live_server):
    live = await live_server(limits=LONG)
    async with live.bridged() as (caller, session):
        await lose(caller, live)
        await session.send_frames((make_numbered(n) for n in range(10)), paced=False)
        await session.send_interrupt()
        await session.send_audio(make_numbered(10))
        await until(lambda: live.traffic.from_agent == 11)
        assert (await soon(caller.go_on())).verbs == STREAM
        await until(lambda: caller.received)
        assert caller.received_audio == [make_numbered(10)]
        assert live.traffic.cleared_to_caller == 10


async def test_twilio_that_asks_while_the_socket_seems_open_gets_the_same_session(live_server):
    live = await live_server(limits=LONG)
    async with live.bridged() as (caller, session):
        assert await go_on(caller, asks=live) == STREAM
        await session.send_audio(b"hello")
        await until(lambda: caller.received)
    assert len(live.agent.sessions) == 1


async def test_caller_who_does_not_come_back_frees_the_agent(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await lose(caller, live)
        await soon(session.closed.wait())
        assert session.close_code == 1000
        await until(lambda: live.is_idle)
        # After the grace it is a new session.
        assert (await soon(caller.go_on())).verbs == STREAM
        second = await session_after(live, session)
        await second.send_audio(b"hello")
        await until(lambda: caller.received)
    assert len(live.agent.sessions) == 2


async def test_third_loss_within_ten_minutes_is_the_fallback(live_server):
    live = await live_server(limits=LONG)
    async with live.bridged() as (caller, session):
        for count in (1, 2):
            await lose(caller, live)
            assert (await soon(caller.go_on())).verbs == STREAM
            await session.send_audio(b"here")
            await until(lambda count=count: len(caller.received) == count)
        await lose(caller, live)
        assert (await soon(caller.go_on())).verbs == FALLBACK
        # Nobody comes any more.
        await soon(session.closed.wait())
        await until(lambda: live.is_idle)
    assert len(live.agent.sessions) == 1


async def test_used_token_of_a_new_stream_is_refused_and_the_call_goes_on(live_server):
    live = await live_server(limits=LONG)
    async with live.bridged() as (caller, session):
        await lose(caller, live)
        assert (await soon(caller.go_on())).verbs == STREAM
        async with live.caller(call_sid=caller.call_sid) as thief:
            await thief.open_stream(caller.answer.stream_url, parameters=caller.answer.parameters)
            await soon(thief.closed.wait())
            assert thief.close_code == 1008
        await session.send_audio(b"still here")
        await until(lambda: caller.received)


async def test_agent_that_says_goodbye_meanwhile_is_followed_by_the_end(live_server):
    live = await live_server(limits=LONG)
    async with live.bridged() as (caller, session):
        await lose(caller, live)
        # Twilio has the answer, and has not opened its stream.
        assert (await caller.follow_redirect()).verbs == STREAM
        await session.send_call_ended()
        await soon(session.closed.wait())
        await until(lambda: live.live_calls == 0)
        await caller.open_stream()
        await soon(caller.closed.wait())
        assert caller.close_code == 1000
        assert (await caller.follow_redirect()).verbs == ["Hangup"]
    assert len(live.agent.sessions) == 1


# Two processes


async def test_stream_that_comes_back_to_the_same_process_by_another_ones_answer(pair):
    a, b = pair
    async with a.bridged() as (caller, session):
        await lose(caller, a)
        await session.send_audio(b"first")
        assert await go_on(caller, asks=b, opens=a) == STREAM
        await session.send_audio(b"second")
        await until(lambda: len(caller.received) == 2)
        assert caller.received_audio == [b"first", b"second"]
        await until(lambda: b.admitted == 0)
        await session.send_call_ended()
        await soon(caller.closed.wait())
        assert (await go_on(caller, asks=b)) == ["Hangup"]
    assert len(a.agent.sessions) == 1


async def test_stream_at_another_process_gets_a_session_of_its_own_and_the_former_one_ends_silently(pair):
    a, b = pair
    async with a.bridged() as (caller, first):
        assert await go_on(caller, asks=b) == STREAM
        second = await session_after(a, first)
        await until(lambda: b.live_calls == 1)
        # The former owner learns of it, and what it writes of its end is dropped.
        a.open_calls[0].end(Why.CALLER_LOST, 0.0)
        await soon(first.closed.wait())
        await until(lambda: a.is_idle)
        await second.send_call_ended()
        await soon(caller.closed.wait())
        assert caller.close_code == 1000
        assert await go_on(caller, asks=a) == ["Hangup"]
    assert len(a.agent.sessions) == 2


async def test_draining_process_answers_a_new_stream_that_the_other_one_takes(pair):
    a, b = pair
    async with a.bridged() as (caller, first):
        await until(lambda: a.has_other)
        a.server.drain()
        await lose(caller, a)
        assert await go_on(caller, asks=a, opens=b) == STREAM
        second = await session_after(a, first)
        await second.send_audio(b"hello")
        await until(lambda: caller.received)
        assert b.live_calls == 1
        await second.send_call_ended()
        await soon(caller.closed.wait())
        assert await go_on(caller, asks=b) == ["Hangup"]


@pytest.mark.parametrize("is_gone", [False, True])
async def test_draining_process_has_no_stream_if_the_other_one_drains_too_or_is_gone(pair, is_gone):
    a, b = pair
    async with a.bridged() as (caller, _):
        await until(lambda: a.has_other)
        a.server.drain()
        if is_gone:
            await b.server.stop()
        else:
            b.server.drain()
        await until(lambda: not a.has_other)
        await lose(caller, a)
        assert await go_on(caller, asks=a) == FALLBACK


async def test_call_that_a_drain_hands_over_goes_on_elsewhere_however_often(pair):
    a, b = pair
    async with a.bridged() as (caller, session):
        for count in (1, 2):
            await lose(caller, a)
            assert await go_on(caller, asks=a) == STREAM
            await session.send_audio(b"here")
            await until(lambda count=count: len(caller.received) == count)
        a.server._live.end_all()
        await soon(caller.closed.wait())
        assert caller.close_code == 1001
        # Two streams of its own, and this one does not count.
        assert await go_on(caller, asks=b) == STREAM
        await until(lambda: b.live_calls == 1)
