"""The live calls of two workers, as each of them shows them."""

from __future__ import annotations

import json

import pytest
from call_schema import problems
from live import random_call_sid, until
from worker_pair import TOKEN, both

from bridge.call.document import summary
from bridge.call.replay import events_of, replay
from bridge.server import live_calls

__all__ = ["both"]


async def ask(live, path):
    status, text = await live.get(path, Authorization=f"Bearer {TOKEN}")
    return status, json.loads(text) if status == 200 else text


async def test_each_worker_shows_the_calls_of_both_and_all_of_each(both):
    a, b = both.lives
    async with a.bridged() as (first, _), b.bridged() as (second, _):
        for live in (a, b):
            _, found = await ask(live, "/calls")
            assert [row["call_sid"] for row in found["live"]] == [second.call_sid, first.call_sid]
            assert (found["live_count"], found["is_whole"]) == (2, True)
            for caller in (first, second):
                _, one = await ask(live, f"/calls/{caller.call_sid}")
                assert one["is_live"]
                [record] = one["records"]
                assert problems(record) == []
                assert (record["call_sid"], record["end"]) == (caller.call_sid, None)
        await second.hang_up()
        await until(lambda: b.is_idle)
        _, found = await ask(a, "/calls")
        assert [row["call_sid"] for row in found["live"]] == [first.call_sid]
        await first.hang_up()
        await until(lambda: a.is_idle)


async def test_each_worker_shows_the_flight_record_of_a_live_call_of_the_other(both):
    a, b = both.lives
    async with a.bridged() as (caller, _):
        for live in (a, b):
            _, flight = await ask(live, f"/calls/{caller.call_sid}/flight")
            assert [event.name for event in events_of(flight)] == ["on_start", "on_agent_open"]
            assert replay(flight) is None
        assert (await ask(b, f"/calls/{random_call_sid()}/flight"))[0] == 404


async def test_of_many_calls_the_last_ones_are_listed_and_all_are_counted(both, monkeypatch):
    monkeypatch.setattr(live_calls, "MOST_ROWS", 2)
    a, b = both.lives
    async with a.bridged(), a.bridged() as (second, _), a.bridged() as (third, _), b.bridged() as (fourth, _):
        _, found = await ask(b, "/calls")
        expected = [fourth.call_sid, third.call_sid, second.call_sid]
        assert [row["call_sid"] for row in found["live"]] == expected
        assert (found["live_count"], found["is_whole"]) == (4, False)


async def test_worker_without_an_answer_of_its_parent_shows_its_own(both, monkeypatch):
    a, b = both.lives
    async with a.bridged() as (caller, _), b.bridged():
        monkeypatch.setattr(both.parent, "_on_message", lambda worker, message, given: None)
        _, found = await ask(a, "/calls")
        assert [row["call_sid"] for row in found["live"]] == [caller.call_sid]
        assert not found["is_whole"]


async def test_row_of_a_live_call_is_the_summary_of_its_record(both, monkeypatch):
    monkeypatch.setattr("bridge.server.open_sides.time.time", lambda: 1767323045.0)
    a, _ = both.lives
    async with a.bridged() as (caller, agent):
        await agent.send_audio(bytes(160))
        await until(lambda: caller.received)
        [(call, sides)] = a.server._live.book.items()
        now = call.opened_at + 3.0
        row = sides.summary(call, now)
        assert row.pop("state") == "bridged"
        assert row == summary(sides.document(call, call.call_sid, now))


@pytest.mark.parametrize("about", [{}, {"what": "else"}, {"what": "call"}, {"what": "call", "call_sid": 1}])
async def test_question_of_another_version_has_no_answer(both, about):
    assert await both.lives[0].server._siblings.all_answers(about) == ([None, None], True)
