"""A media socket that comes to one worker and belongs to another: two servers over one store, and a parent between."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from http_front_raw import queued
from live import DEADLINE_S, soon, until
from worker_pair import both

from bridge.standins.numbered import make_numbered

__all__ = ["both"]


def media_id_of(caller) -> str:
    return caller.answer.stream_url.rpartition("/")[2]


async def test_socket_is_served_by_the_worker_that_it_belongs_to(both):
    a, b = both.lives
    for n in range(5):
        async with a.answered() as caller:
            await both.announce(1, media_id_of(caller), owner=0)
            caller.endpoint.url = b.url
            await caller.open_stream(caller.answer.stream_url)
            frames = [make_numbered(i) for i in range(50)]
            await caller.send_frames(iter(frames), paced=False)
            session = await a.session_of(caller)
            await until(lambda session=session: len(session.received) == 50)
            assert [item.audio for item in session.received] == frames
            assert (a.live_calls, b.live_calls) == (1, 0)
            await session.send_call_ended()
            await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
            assert caller.close_code == 1000
        assert len(a.agent.sessions) == n + 1


async def test_caller_who_lost_the_socket_finds_the_same_agent_from_the_other_worker(both):
    a, b = both.lives
    async with a.bridged() as (caller, session):
        await session.send_frames((make_numbered(n) for n in range(10)), paced=False)
        await until(lambda: len(caller.received) == 10)
        caller.abort()
        await soon(caller.closed.wait())
        await session.send_frames((make_numbered(n) for n in range(10, 30)), paced=False)
        # Twilio asks the other worker, and its new socket comes there too.
        caller.endpoint.url = b.url
        assert (await soon(caller.go_on())).verbs == ["Connect", "Redirect"]
        await session.send_frames((make_numbered(n) for n in range(30, 40)), paced=False)
        await until(lambda: len(caller.received) == 40)
        assert caller.received_audio == [make_numbered(n) for n in range(40)]
        await caller.send_frames((make_numbered(n) for n in range(20)), paced=False)
        await until(lambda: len(session.received) == 20)
        assert (a.live_calls, b.live_calls) == (1, 0)
        await session.send_call_ended()
        await soon(caller.closed.wait())
        assert (await caller.follow_redirect()).verbs == ["Hangup"]
    assert len(a.agent.sessions) == 1


async def test_socket_of_a_worker_that_is_gone_is_served_where_it_came(both):
    a, b = both.lives
    async with a.answered() as caller:
        await both.announce(1, media_id_of(caller), owner=0)
        both.parent._workers.discard(both.workers[0])
        caller.endpoint.url = b.url
        await caller.open_stream(caller.answer.stream_url)
        await until(lambda: b.live_calls == 1)


async def test_announced_socket_is_forgotten_after_its_time(both, monkeypatch):
    b = both.lives[1]
    siblings = b.server._siblings
    await both.announce(1, "x" * 32, owner=0)
    monkeypatch.setattr(siblings, "_loop", type("Later", (), {"time": lambda self: 1e12})())
    assert siblings.owner_of("x" * 32) is None


async def test_worker_speaks_for_itself_when_the_parent_does_not_answer(both, monkeypatch):
    a = both.lives[0]
    monkeypatch.setattr(both.parent, "_on_message", lambda worker, message, given: None)
    assert (await a.metrics())["bridge_calls_live"] == 0
    assert (await a.get("/readyz"))[0] == 200
    assert await a.server._siblings.all_answers({}) is None
    a.server.drain()
    assert (await a.get("/readyz"))[0] == 503


async def test_draining_worker_is_ready_while_another_takes_calls(both, monkeypatch):
    a, b = both.lives
    # Here each has a port of its own.
    monkeypatch.setattr(a.server._front, "set_accepting", lambda is_on: None)
    a.server.drain()
    await until(lambda: both.workers[0].is_draining)
    assert (await a.get("/readyz"))[0] == 200
    b.server.drain()
    await until(lambda: both.workers[1].is_draining)
    assert (await a.get("/readyz"))[0] == 503


async def test_questions_to_the_parent_may_be_asked_at_once(both):
    siblings = both.lives[1].server._siblings
    ids = [f"{n:032x}" for n in range(20)]
    owner = both.workers[0].owner
    *_, families, is_ready = await asyncio.gather(
        *(siblings.announce(media_id, owner) for media_id in ids),
        siblings.all_families(),
        siblings.is_any_ready(),
    )
    await until(lambda: all(siblings.owner_of(media_id) == owner for media_id in ids))
    assert is_ready
    assert "bridge_calls_live" in {family["name"] for family in families}


async def test_all_workers_are_asked_and_each_answers_once(both):
    for n, live in enumerate(both.lives):

        async def answer(about, n=n):
            return {"worker": n, **about}

        live.server._siblings.answer = answer
    siblings = both.lives[1].server._siblings
    *found, families = await asyncio.gather(
        *(siblings.all_answers({"what": what}) for what in ("a", "b")), siblings.all_families()
    )
    for what, (answers, is_whole) in zip("ab", found, strict=True):
        answers.sort(key=lambda one: one["worker"])
        assert (answers, is_whole) == ([{"worker": n, "what": what} for n in range(2)], True)
    assert families


async def test_worker_that_answers_late_is_left_out(both):
    never = asyncio.Event()

    async def late(about):
        await never.wait()

    async def at_once(about):
        return 1

    for live, answer in zip(both.lives, (late, at_once), strict=True):
        live.server._siblings.answer = answer
    assert await soon(both.lives[1].server._siblings.all_answers({})) == ([1], False)
    never.set()
    await until(lambda: not both.lives[0].server._siblings._answering)
    assert both.parent._asking == {}


async def test_worker_that_is_gone_or_not_ready_is_not_waited_for(both, logs):
    async def at_once(about):
        return 1

    both.lives[1].server._siblings.answer = at_once
    both.workers[0].is_ready = False
    assert await both.lives[1].server._siblings.all_answers({}) == ([1], True)
    both.workers[0].is_ready = True
    both.workers[0].channel.close()
    assert await both.lives[1].server._siblings.all_answers({}) == ([1], True)
    await soon(both.lives[0].server.retired.wait())
    assert len(logs.faults()) == 1
    logs.records.clear()


async def test_fault_in_an_answer_stays_in_its_worker(both, logs):
    async def fails(about):
        raise RuntimeError("fault")

    for live in both.lives:
        live.server._siblings.answer = fails
    assert await both.lives[0].server._siblings.all_answers({}) == ([None, None], True)
    assert len(logs.faults()) == 2
    logs.records.clear()


@pytest.mark.parametrize("is_parent_there", [True, False])
async def test_queue_of_a_worker_that_retires_is_for_the_others_if_there_are_any(both, logs, is_parent_there):
    server = both.lives[0].server
    listener = server._front._listener
    # Another process has the same socket. Nobody accepts for now.
    shared = listener.sockets[0].dup()
    listener._unwatch()
    async with aiohttp.ClientSession() as http:
        asking = asyncio.create_task(http.get(f"{both.lives[0].url}/healthz"))
        await until(lambda: queued(shared) == 1)
        if is_parent_there:
            both.workers[0].channel.send({"type": "retire"})
        else:
            both.workers[0].channel.close()
        await soon(server.retired.wait())
        server.drain()
        assert queued(shared) == is_parent_there
        shared.close()
        if is_parent_there:
            with pytest.raises(aiohttp.ClientConnectionError):
                await soon(asking)
        else:
            assert (await soon(asking)).status == 200
            assert len(logs.faults()) == 1
            logs.records.clear()
