"""Two processes with one store tell one truth; a store that fails touches no running call."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from live import ACCOUNT_SID, AUTH_TOKEN, DEADLINE_S, DEFAULTS, PUBLIC_URL, Live, beside, until
from redis_server import RedisServer, redis_server, started

from bridge.call.state import State
from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.numbered import make_numbered
from bridge.standins.process import BridgeProcess, free_port
from bridge.standins.twilio.caller import Caller
from bridge.twilio.rest import TwilioApi

__all__ = ["redis_server"]
FALLBACK = ["Say", "Hangup"]
STREAM = ["Connect", "Redirect"]


@pytest.fixture(params=["sqlite", "redis"])
async def url(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> AsyncIterator[str]:
    if request.param == "redis":
        await started(redis_server)
        yield redis_server.url
    else:
        yield f"sqlite:{tmp_path}/store.sqlite3"


@pytest.fixture
async def pair(live_server, url) -> AsyncIterator[tuple[Live, Live]]:
    live = await live_server(BRIDGE_STORE=url)
    async with beside(live, url) as other:
        yield live, other


@pytest.fixture
def often(monkeypatch) -> None:
    """Heartbeats at once; a draining process believes them at once."""
    monkeypatch.setattr("bridge.server.store.presence.BEAT_S", 0.05)
    monkeypatch.setattr("bridge.server.draining.SETTLED_S", 0.0)


@pytest.fixture
async def seen(often, pair) -> tuple[Live, Live]:
    """Two processes, each of which knows of the other."""
    await until(lambda: all(live.has_other for live in pair))
    return pair


@pytest.fixture
def hung_up(monkeypatch) -> list[str]:
    """The CallSids of calls that Twilio's REST API is asked to end."""
    call_sids: list[str] = []

    async def hang_up(_: TwilioApi, call_sid: str) -> None:
        call_sids.append(call_sid)

    monkeypatch.setattr(TwilioApi, "hang_up", hang_up)
    return call_sids


async def closed(caller) -> int:
    await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
    return caller.close_code


async def test_resume_of_a_call_that_ended_at_the_other_process_hangs_up(pair):
    a, b = pair
    async with a.bridged() as (caller, session):
        await session.send_call_ended()
        # Twilio asks the moment the socket closes.
        assert await closed(caller) == 1000
        caller.endpoint.url = b.url
        assert (await caller.follow_redirect()).verbs == ["Hangup"]
        assert (await caller.post_voice()).verbs == ["Hangup"]
    assert len(a.agent.sessions) == 1


async def test_socket_closes_once_the_end_is_written(live_server, tmp_path):
    path = tmp_path / "store.sqlite3"
    live = await live_server(BRIDGE_STORE=f"sqlite:{path}")
    async with live.bridged() as (caller, session):
        with locked(path):
            await session.send_call_ended()
            # Over, and still in the book of open calls.
            await until(lambda: any(call.state is State.CLOSED for call in live.open_calls))
            assert not caller.closed.is_set()
        assert await closed(caller) == 1000


async def test_stop_waits_for_the_ends_that_are_being_written_before_events_stop(live_server, tmp_path):
    path = tmp_path / "store.sqlite3"
    live = await live_server(BRIDGE_STORE=f"sqlite:{path}")
    order = []
    live.server._live.on_ended.append(lambda document: order.append(document["end"]["why"]))
    live.server._opened.push_async_callback(asyncio.to_thread, order.append, "first part stops")
    async with live.bridged() as (caller, _):
        await caller.hang_up(stop=False)
        # Its agent is kept: the call has no socket whose closing the stop would wait for.
        await until(lambda: not live.caller_legs)
    with locked(path):
        live.server._live.end_all()
        await until(lambda: not live.legs)
        assert live.open_calls
        stopping = asyncio.create_task(live.server.stop())
        await asyncio.sleep(0)
    await asyncio.wait_for(stopping, DEADLINE_S)
    assert order == ["drained", "first part stops"]


async def test_resume_of_a_lost_agent_at_the_other_process_is_the_fallback(pair):
    a, b = pair
    async with a.bridged() as (caller, session):
        a.refuse_sessions()
        session.abort()
        assert await closed(caller) == 1011
        caller.endpoint.url = b.url
        assert (await caller.follow_redirect()).verbs == FALLBACK


async def test_used_token_is_refused_at_the_other_process_and_the_call_goes_on(pair):
    a, b = pair
    async with a.bridged() as (caller, session):
        async with b.caller(call_sid=caller.call_sid) as thief:
            await thief.open_stream(caller.answer.stream_url, parameters=caller.answer.parameters)
            assert await closed(thief) == 1008
        assert b.live_calls == 0
        assert (await b.metrics())['bridge_calls_refused_total{reason="call_live"}'] == 1
        await caller.send_media(b"still here")
        await until(lambda: session.received)
    assert len(a.agent.sessions) == 1


async def test_same_call_at_both_processes_is_one_session(pair):
    a, b = pair
    async with a.caller() as first, b.caller(call_sid=first.call_sid) as second:
        answers = await asyncio.gather(first.post_voice(), second.post_voice())
        assert [answer.verbs for answer in answers] == [STREAM, STREAM]
        assert len(a.agent.sessions) == 1


async def test_parallel_webhooks_at_four_processes_are_one_session_and_its_token_is_used_once(pair, url):
    async with contextlib.AsyncExitStack() as stack:
        others = [await stack.enter_async_context(beside(pair[0], url)) for _ in range(2)]
        every = [*pair, *others]
        first = await stack.enter_async_context(every[0].caller())
        callers = [first]
        for live in every[1:]:
            callers.append(await stack.enter_async_context(live.caller(call_sid=first.call_sid)))
        answers = await asyncio.gather(*(caller.post_voice() for caller in callers for _ in range(25)))
        assert len({answer.stream_url for answer in answers}) == 1
        assert {tuple(answer.verbs) for answer in answers} == {tuple(STREAM)}
        await first.open_stream()
        session = await every[0].session_of(first)
        for live in every:
            thief = await stack.enter_async_context(live.caller(call_sid=first.call_sid))
            await thief.open_stream(first.answer.stream_url, parameters=first.answer.parameters)
            assert await closed(thief) == 1008
        await first.send_media(b"still here")
        await until(lambda: session.received)
        assert len(pair[0].agent.sessions) == 1


async def test_call_admitted_here_and_taken_there_is_counted_there_alone(pair):
    a, b = pair
    async with a.answered() as caller:
        assert (a.admitted, b.admitted) == (1, 0)
        caller.endpoint.url = b.url
        await caller.open_stream()
        await until(lambda: b.live_calls == 1)
        await until(lambda: a.admitted == 0)
        a.server.drain()
        await asyncio.wait_for(a.server.drained(), DEADLINE_S)
        await caller.send_stop()
        await closed(caller)


async def test_draining_process_leaves_an_admitted_call_to_the_other_one(seen):
    a, b = seen
    async with a.answered() as caller:
        a.server.drain()
        await asyncio.wait_for(a.server.drained(), DEADLINE_S)
        await a.server.stop()
        caller.endpoint.url = b.url
        # Twilio asks again before it opens the stream.
        assert (await caller.post_voice()).verbs == STREAM
        await caller.open_stream()
        session = await b.session_of(caller)
        await caller.send_media(b"hello")
        await until(lambda: session.received)
        await session.send_call_ended()
        assert await closed(caller) == 1000
        assert (await caller.follow_redirect()).verbs == ["Hangup"]
    assert len(a.agent.sessions) == 1


async def test_draining_process_answers_the_call_that_it_is_asked_about_before_it_leaves_it(seen):
    a, b = seen
    a.agent.rest_answers.append(HttpAnswer(delay_s=0.2))
    async with a.caller() as caller:
        asking = asyncio.ensure_future(caller.post_voice())
        await until(lambda: a.admitted)
        a.server.drain()
        await asyncio.wait_for(a.server.drained(), DEADLINE_S)
        assert a.admitted == 0
        await a.server.stop()
        assert (await asking).verbs == STREAM
        caller.endpoint.url = b.url
        await caller.open_stream()
        await until(lambda: b.live_calls == 1)


async def test_draining_process_takes_the_socket_of_an_admitted_call_as_long_as_it_has_calls(seen):
    a, b = seen
    async with a.bridged() as (running, _), a.answered() as caller:
        a.server.drain()
        drained = asyncio.ensure_future(a.server.drained())
        await rounds(a)
        assert a.admitted == 1
        await caller.open_stream()
        await until(lambda: (a.live_calls, b.live_calls) == (2, 0))
        await running.hang_up()
        await rounds(a)
        assert not drained.done()
        await caller.hang_up()
        await asyncio.wait_for(drained, DEADLINE_S)


async def test_call_that_is_admitted_when_the_drain_is_over_is_the_other_ones(seen):
    a, b = seen
    async with a.bridged() as (running, _), a.answered() as caller:
        a.server.drain()
        await asyncio.wait_for(a.server.drained(0), DEADLINE_S)
        assert await closed(running) == 1001
        caller.endpoint.url = b.url
        await caller.open_stream()
        await until(lambda: b.live_calls == 1)


async def test_call_that_is_admitted_when_a_drain_is_cut_short_is_the_other_ones(seen):
    a, b = seen
    async with a.answered() as caller:
        a.server.drain()
        await a.server.stop()
        caller.endpoint.url = b.url
        await caller.open_stream()
        await until(lambda: b.live_calls == 1)
        assert len(a.agent.sessions) == 1


async def test_processes_that_drain_together_wait_for_their_admitted_calls(seen):
    a, _ = seen
    async with a.answered() as caller:
        for live in seen:
            live.server.drain()
        await until(lambda: not a.has_other)
        await waits_for(caller, a)


async def test_process_that_may_drain_too_is_not_yet_left_a_call(seen, monkeypatch):
    monkeypatch.setattr("bridge.server.draining.SETTLED_S", 60.0)
    a, _ = seen
    async with a.answered() as caller:
        a.server.drain()
        await waits_for(caller, a)
        assert a.has_other


async def waits_for(caller: Caller, live: Live) -> None:
    drained = asyncio.ensure_future(live.server.drained())
    await rounds(live)
    assert live.admitted == 1
    await caller.open_stream()
    await until(lambda: live.live_calls == 1)
    assert not drained.done()
    await caller.hang_up()
    await asyncio.wait_for(drained, DEADLINE_S)


async def rounds(live: Live) -> None:
    """Wait until the process has looked at all that it waits for."""
    before = live.server.snapshot().rounds
    await until(lambda: live.server.snapshot().rounds > before + 1)


async def test_call_of_a_process_before_its_restart_is_known_after_it(live_server, url):
    a = await live_server(BRIDGE_STORE=url)
    async with a.bridged() as (caller, session):
        await session.send_call_ended()
        await closed(caller)
        await a.server.stop()
        async with beside(a, url) as b:
            caller.endpoint.url = b.url
            assert (await caller.follow_redirect()).verbs == ["Hangup"]


async def test_words_behind_start_wait_for_the_store(live_server, tmp_path):
    path = tmp_path / "store.sqlite3"
    live = await live_server(BRIDGE_STORE=f"sqlite:{path}")
    async with live.answered() as caller:
        with locked(path):
            await caller.open_stream()
            await caller.send_frames((make_numbered(n) for n in range(10)), paced=False)
            session = await live.session_of(caller)
            await until(lambda: len(session.received) == 10)
            assert [item.audio for item in session.received] == [make_numbered(n) for n in range(10)]


async def test_locked_store_touches_no_running_call_and_new_ones_go_on(live_server, tmp_path, logs, hung_up):
    path = tmp_path / "store.sqlite3"
    live = await live_server(BRIDGE_STORE=f"sqlite:{path}")
    async with live.bridged() as (caller, session):
        with locked(path):
            async with live.bridged() as (new, new_session):
                await new.send_media(b"hello")
                await until(lambda: new_session.received)
                await new_session.send_call_ended()
                assert await closed(new) == 1000
                assert (await new.follow_redirect()).verbs == ["Hangup"]
                # Another process would not know it.
                assert hung_up == [new.call_sid]
            await caller.send_frames((make_numbered(n) for n in range(50)), paced=False)
            await session.send_frames((make_numbered(n) for n in range(50)), paced=False)
            await until(lambda: len(session.received) == 50 and len(caller.received) == 50)
            assert (await live.metrics())["bridge_store_available"] == 0
        assert sum("store unavailable" in line for line in logs.lines) == 1
        await session.send_call_ended()
        assert await closed(caller) == 1000


async def test_caller_whose_end_cannot_be_kept_is_hung_up_only_where_that_is_the_answer(
    live_server, tmp_path, hung_up
):
    path = tmp_path / "store.sqlite3"
    live = await live_server(BRIDGE_STORE=f"sqlite:{path}")
    async with live.bridged() as (gone, _), live.bridged() as (lost, session):
        with locked(path):
            await gone.send_stop()
            assert await closed(gone) == 1000
            live.refuse_sessions()
            session.abort()
            assert await closed(lost) == 1011
    assert hung_up == []


async def test_two_real_processes_and_one_that_is_killed(url, tmp_path):
    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as stack:
        processes = []
        for port in ports:
            folder = tmp_path / str(port)
            folder.mkdir()
            settings = {**DEFAULTS, "BRIDGE_AGENT": "echo", "BRIDGE_STORE": url, "PORT": str(port)}
            processes.append(stack.enter_context(BridgeProcess(folder, settings)))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        for process, address in zip(processes, urls, strict=True):
            await asyncio.to_thread(process.wait_ready, address)
        async with twilio_of(urls[0]) as caller, twilio_of(urls[1], call_sid=caller.call_sid) as second:
            answers = await asyncio.gather(*(one.post_voice() for one in (caller, second) for _ in range(10)))
            # One session: every process leads to the same socket.
            assert {answer.stream_url for answer in answers} == {caller.answer.stream_url}
            await caller.open_stream()
            await caller.send_media(b"hello")
            await until(lambda: caller.received)
            await caller.send_stop()
            assert await closed(caller) == 1000
            processes[0].kill()
            caller.endpoint.url = urls[1]
            assert (await caller.follow_redirect()).verbs == ["Hangup"]


def twilio_of(url: str, **options: str) -> Caller:
    return Caller(url, public_url=PUBLIC_URL, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN, **options)


class locked:  # reads as a verb
    """The file as a process leaves it that hangs within a change."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *error: object) -> None:
        self._connection.close()
