"""Events of real calls at the user's webhook: what each has, in which order, and what never reaches the calls."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from live import DEADLINE_S, beside, soon, until
from redis_server import redis, redis_server
from user_side import UserSide, user_side

from bridge.standins.numbered import make_numbered

__all__ = ["redis", "redis_server"]

DOCS = Path(__file__).parents[2] / "docs"
OPENAI = {"BRIDGE_AGENT": "openai", "OPENAI_REALTIME_GREETS": "1"}


@pytest.fixture
async def user() -> AsyncIterator[UserSide]:
    async with user_side() as user:
        yield user


async def one_call(live) -> str:
    """A call that the caller ends; returns its CallSid."""
    async with live.bridged() as (caller, _):
        await caller.hang_up()
        await until(lambda: live.is_idle)
    return caller.call_sid


def types(user: UserSide) -> list[str]:
    return [event["type"] for event in user.events]


async def test_start_and_end_of_a_call_have_its_facts_and_whole_numbers(live_server, user):
    live = await live_server(**user.event_settings())
    call_sid = await one_call(live)
    await until(lambda: len(user.events) == 2)
    started, ended = (event["data"] for event in user.events)
    assert types(user) == ["call.started", "call.ended"]
    assert started.pop("stream_sid") == ended["stream_sid"]
    assert started == {
        "call_sid": call_sid,
        "attempt": 0,
        "is_successor": False,
        "from": "+14155550123",
        "to": "+14155550100",
        "route": "default",
        "agents": ["retell"],
    }
    assert (ended["call_sid"], ended["end"]["why"], ended["from"]) == (
        call_sid,
        "caller_stopped",
        "+14155550123",
    )
    found = await live.metrics()
    assert found['bridge_events_total{result="delivered",type="call.ended"}'] == 1


@pytest.mark.parametrize("keeps", ["1", "0"])
async def test_what_was_said_is_an_event_of_its_own_where_texts_are_kept(live_server, user, keeps):
    settings = {**OPENAI, **user.event_settings(), "BRIDGE_TRANSCRIPTS": keeps}
    live = await live_server(agent={"protocol": "openai"}, **settings)
    async with live.bridged() as (caller, session):
        await until(lambda: session.asked_to_speak)
        await session.send_heard("When do you open?")
        await until(lambda: live.open_calls[0].conversation.changes)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    await soon(live.server._events.stop())
    assert types(user) == ["call.started", "call.ended", *(["call.transcript"] if keeps == "1" else [])]
    assert ("When do you open?" in orjson.dumps(user.events[:2]).decode()) is False
    if keeps == "1":
        data = user.events[2]["data"]
        assert (data["call_sid"], data["attempt"]) == (caller.call_sid, 0)
        assert [(one["speaker"], one["text"]) for one in data["transcript"]] == [
            ("caller", "When do you open?")
        ]


async def test_refused_socket_has_no_event(live_server, user):
    live = await live_server(**user.event_settings())
    async with live.answered() as caller:
        caller.answer.parameters["token"] = "forged"
        await caller.open_stream()
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
    await soon(live.server._events.stop())
    assert user.events == []


async def test_call_that_goes_on_at_another_process_has_a_second_pair_after_the_first(
    live_server, user, tmp_path
):
    url = f"sqlite:{tmp_path}/store.sqlite3"
    a = await live_server(BRIDGE_STORE=url, **user.event_settings())
    async with beside(a, url, **user.event_settings()) as b, a.bridged() as (caller, _):
        caller.abort()
        await until(lambda: not a.open_calls)
        caller.endpoint.url = b.url
        await soon(caller.go_on())
        await until(lambda: len(user.events) == 3)
        await caller.hang_up()
        await until(lambda: b.is_idle and len(user.events) == 4)
    assert types(user) == 2 * ["call.started", "call.ended"]
    assert [event["data"]["attempt"] for event in user.events] == [0, 0, 1, 1]
    assert [event["data"]["is_successor"] for event in user.events[::2]] == [False, True]
    assert len(set(user.event_ids)) == 4


async def test_receiver_that_hangs_costs_a_call_nothing(live_server, user):
    is_tried, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        is_tried.set()
        await may_answer.wait()
        return web.Response()

    user.on_try = answer
    live = await live_server(**user.event_settings())
    async with live.bridged() as (caller, session):
        await soon(is_tried.wait())
        await caller.send_frames([make_numbered(n) for n in range(50)], paced=False)
        await until(lambda: len(session.received) == 50)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    may_answer.set()


async def test_store_that_is_away_costs_a_call_nothing_and_its_events_are_counted(live_server, user, redis):
    live = await live_server(BRIDGE_STORE=redis.url, **user.event_settings())
    await redis.kill()
    async with live.bridged() as (caller, session):
        await caller.send_frames([make_numbered(n) for n in range(50)], paced=False)
        await until(lambda: len(session.received) == 50)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    await soon(live.server._events.stop())
    found = await live.metrics()
    for type in ("call.started", "call.ended"):
        assert found[f'bridge_events_total{{result="no_store",type="{type}"}}'] == 1
    assert user.events == []


async def test_example_of_the_documents_takes_an_event_once(live_server, user, monkeypatch, capsys):
    [example] = re.findall(r"```python\n(.*?)```", (DOCS / "events.md").read_text(), re.DOTALL)
    monkeypatch.setenv("BRIDGE_EVENTS_SECRET", user.event_settings()["BRIDGE_EVENTS_SECRET"])
    names: dict = {}
    exec(compile(example, "events.md", "exec"), names)
    user.on_try = names["take"]
    live = await live_server(**user.event_settings())
    call_sid = await one_call(live)
    await soon(live.server._events.stop())
    assert [(call_sid, "call.started"), (call_sid, "call.ended")] == [
        (event["data"]["call_sid"], event["type"]) for event in names["events"].values()
    ]


async def test_page_shows_each_event_with_the_fields_that_it_has(live_server, user):
    blocks = re.findall(r"```json\n(.*?)```", (DOCS / "events.md").read_text(), re.DOTALL)
    shown = {event["type"]: event["data"] for event in map(json.loads, blocks)}
    live = await live_server(**user.event_settings())
    await one_call(live)
    await soon(live.server._events.stop())
    for event in user.events:
        assert shown[event["type"]].keys() <= event["data"].keys()
    assert shown["call.started"].keys() == user.events[0]["data"].keys()
    assert shown.keys() == {"call.started", "call.ended", "call.transcript"}


async def test_end_needs_a_start_and_a_replaced_stream_takes_nothing_from_the_next_one(live_server, user):
    live = await live_server(**user.event_settings())
    events = live.server._events
    ended = {"call_sid": "CA1", "from": "+141…23", "to": "+141…00", "transcript": []}
    # The socket was lost before the store had answered.
    events._on_ended(ended)
    for _ in range(2):
        events._on_started({"call_sid": "CA1", "from": "+14155550123", "to": "+14155550100"})
    for _ in range(2):
        events._on_ended(ended)
    events._on_ended(ended)
    await soon(events.stop())
    assert types(user) == ["call.started", "call.started", "call.ended", "call.ended"]
    assert {event["data"]["from"] for event in user.events} == {"+14155550123"}
