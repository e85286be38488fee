"""How loud calls are over time, as the page gets it: of live calls, of the last ones, and of other workers."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import aiohttp
from call_script import Script
from live import PUBLIC_URL, random_call_sid, until
from worker_pair import PASSWORD, TOKEN, both

from bridge.server import call_loudness
from bridge.server.call_loudness import MOST_PIECES, SIDES

__all__ = ["both"]

PAGE = {"BRIDGE_PAGE_PASSWORD": PASSWORD}
ORIGIN = {"Host": "voice.example.com", "Origin": PUBLIC_URL}
LOUD, SILENCE = bytes([0x80]), b"\xff"


async def shown(live, call_sid, status=200):
    """What the page shows of a call."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        form = {"password": PASSWORD}
        async with http.post(
            f"{live.url}/page/login", data=form, headers=ORIGIN, allow_redirects=False
        ) as answer:
            headers = {**ORIGIN, "Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
        async with http.get(f"{live.url}/page/calls/{call_sid}", headers=headers) as answer:
            assert answer.status == status
            return await answer.json()


def loud_pieces(shape, side):
    """How many tenths of a second of a side are loud."""
    lengths = {len(base64.b64decode(shape[name])) for name in SIDES}
    assert len(lengths) == 1
    assert lengths.pop() <= MOST_PIECES
    return sum(loudness > 20 for loudness in base64.b64decode(shape[side]))


async def test_both_sides_are_seen_live_and_afterwards_by_all_workers(both):
    a, b = both.lives
    async with a.bridged() as (caller, agent):
        await caller.send_frames(iter([LOUD * 3200]), paced=False)
        await until(lambda: agent.received)
        # A second, of which the caller hears nothing after the clear.
        await agent.send_audio(LOUD * 8000)
        await until(lambda: caller.received)
        live = await shown(b, caller.call_sid)
        assert live["is_live"]
        shape = live["loudness"]["0"]
        assert shape["piece_ms"] == 100
        assert -2 < shape["at_s"] <= 0
        assert 4 <= loud_pieces(shape, "caller") <= 5
        assert 10 <= loud_pieces(shape, "agent") <= 11
        assert loud_pieces(shape, "cleared") == 0
        await agent.send_interrupt()
        await until(lambda: any(item.message.event == "clear" for item in caller.received))
        await caller.hang_up()
        await until(lambda: a.is_idle)
    await a.server._agreement.documents.settled()
    for worker in (a, b):
        over = await shown(worker, caller.call_sid)
        assert (over["is_live"], len(over["records"])) == (False, 1)
        shape = over["loudness"]["0"]
        assert loud_pieces(shape, "caller") == loud_pieces(live["loudness"]["0"], "caller")
        assert loud_pieces(shape, "agent") >= 1
        assert loud_pieces(shape, "cleared") >= 1


async def test_call_that_is_removed_leaves_none_at_any_worker(both):
    a, b = both.lives
    async with a.bridged() as (caller, _):
        await caller.hang_up()
        await until(lambda: a.is_idle)
    await a.server._agreement.documents.settled()
    about = {"what": "loudness", "call_sid": caller.call_sid}
    answers, _ = await b.server._siblings.all_answers(about)
    assert sorted(map(len, answers)) == [0, 1]
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with http.delete(f"{b.url}/calls/{caller.call_sid}", headers=headers) as answer:
            assert answer.status == 204
    assert await b.server._siblings.all_answers(about) == ([{}, {}], True)


async def test_only_the_last_calls_keep_theirs(live_server, monkeypatch):
    monkeypatch.setattr(call_loudness, "MOST_FINISHED", 2)
    live = await live_server(**PAGE)
    sids = []
    for _ in range(3):
        async with live.bridged() as (caller, _):
            await caller.hang_up()
            await until(lambda: live.is_idle)
        sids.append(caller.call_sid)
    await live.server._agreement.documents.settled()
    assert [len((await shown(live, sid))["loudness"]) for sid in sids] == [0, 1, 1]


async def test_each_stream_of_a_call_has_its_own(live_server):
    live = await live_server(**PAGE, limits={"grace_s": 0.0})
    async with live.bridged() as (caller, agent):
        await agent.send_audio(LOUD * 800)
        await until(lambda: caller.received)
        caller.abort()
        await until(lambda: live.documents)
        await caller.go_on()
        await until(lambda: any(call.started_at for call in live.open_calls))
        found = await shown(live, caller.call_sid)
        assert [record["attempt"] for record in found["records"]] == [0, 1]
        assert [loud_pieces(found["loudness"][attempt], "agent") > 0 for attempt in "01"] == [True, False]


def test_new_stream_of_a_call_may_end_before_the_former_one():
    live = SimpleNamespace(book={}, on_started=[], on_ended=[])
    registry = SimpleNamespace(find=lambda call_sid: SimpleNamespace(call=scripts[-1].call))
    subject = call_loudness.CallLoudness(live, registry)
    scripts = []
    for attempt in range(2):
        scripts.append(Script())
        scripts[-1].run([(0.0, "start"), (0.1, "agent_open")])
        scripts[-1].call.call_sid = "CA1"
        live.on_started[0]({"call_sid": "CA1", "attempt": attempt})
    for attempt in (1, 0):
        scripts[attempt].run([(9.0, "stop")])
        scripts[attempt].call.close_caller()
        live.on_ended[0]({"call_sid": "CA1", "attempt": attempt})
        assert [call is scripts[0].call for call in subject._live] == ([True] if attempt else [])
    assert set(subject.shapes("CA1")) == {"0", "1"}


async def test_call_that_goes_on_with_its_agent_keeps_what_came_before(live_server):
    live = await live_server(**PAGE, limits={"grace_s": 5.0})
    async with live.bridged() as (caller, agent):
        await agent.send_audio(LOUD * 800)
        await until(lambda: caller.received)
        caller.abort()
        await caller.go_on()
        await until(lambda: live.server.metrics.registry.get_sample_value("bridge_callers_back_total"))
        assert list((await shown(live, caller.call_sid))["loudness"]) == ["1"]
        await caller.hang_up()
        await until(lambda: live.is_idle)
    await live.server._agreement.documents.settled()
    found = await shown(live, caller.call_sid)
    assert [record["attempt"] for record in found["records"]] == [1]
    assert list(found["loudness"]) == ["1"]
    shape = found["loudness"]["1"]
    assert loud_pieces(shape, "agent") + loud_pieces(shape, "cleared") >= 1


async def test_call_that_nobody_knows_has_none(both):
    assert "problem" in await shown(both.lives[0], random_call_sid(), 404)


async def test_without_a_page_nothing_is_measured_for_it(live_server):
    live = await live_server()
    async with live.bridged() as (caller, _):
        assert live.server._live.on_started == []
        await caller.hang_up()
        await until(lambda: live.is_idle)
