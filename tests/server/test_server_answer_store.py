"""The answer webhook of two processes with one store: asked once a call, and its values go where the call goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from live import Live, beside, soon, until
from user_side import UserSide, user_side

STREAM = ["Connect", "Redirect"]


@pytest.fixture
async def user() -> AsyncIterator[UserSide]:
    async with user_side() as user:
        yield user


@pytest.fixture
async def pair(live_server: Any, user: UserSide, tmp_path: Path) -> AsyncIterator[tuple[Live, Live]]:
    url = f"sqlite:{tmp_path}/store.sqlite3"
    settings = {**user.settings(tmp_path), "BRIDGE_AGENT": "user"}
    live = await live_server(**settings, BRIDGE_STORE=url)
    async with beside(live, url, **settings) as other:
        yield live, other


async def test_a_hundred_webhooks_of_a_call_at_two_processes_are_one_question(pair, user):
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        is_asked.set()
        await may_answer.wait()
        return web.json_response({"values": {"customer": "Zoë"}})

    user.answer = answer
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(pair[0].caller())
        second = await stack.enter_async_context(pair[1].caller(call_sid=first.call_sid))
        asking = [asyncio.ensure_future(each.post_voice()) for _ in range(50) for each in (first, second)]
        await soon(is_asked.wait())
        may_answer.set()
        answers = await asyncio.gather(*asking)
        assert {tuple(answer.verbs) for answer in answers} == {tuple(STREAM)}
        assert len({answer.stream_url for answer in answers}) == 1
        await second.open_stream()
        await until(lambda: user.hellos)
    assert user.ids == [first.call_sid]
    assert user.hellos == [{"customer": "Zoë", "call": first.call_sid}]


async def test_answer_without_an_agent_is_the_same_at_the_other_process(pair, user):
    user.answer = {"say": "We are closed."}
    async with pair[0].caller() as caller:
        first = await caller.post_voice()
        caller.endpoint.url = pair[1].url
        assert (await caller.post_voice()).body == first.body
        assert first.verbs == ["Say", "Hangup"]
    assert len(user.questions) == 1


async def test_agent_of_a_new_stream_at_the_other_process_gets_the_values(pair, user):
    a, b = pair
    user.answer = {"values": {"customer": "Zoë"}}
    async with a.answered() as caller:
        await caller.open_stream()
        await until(lambda: len(user.hellos) == 1)
        caller.abort()
        caller.endpoint.url = b.url
        assert (await soon(caller.go_on())).verbs == STREAM
        await until(lambda: len(user.hellos) == 2)
        assert user.hellos == 2 * [{"customer": "Zoë", "call": caller.call_sid}]
        await until(lambda: b.live_calls == 1)
    assert len(user.questions) == 1


async def test_values_are_readable_nowhere_on_their_way(pair, user, tmp_path):
    user.answer = {"values": {"customer": "canary-value"}}
    async with pair[0].answered() as caller:
        assert "canary-value" not in caller.answer.body
        kept = b"".join(path.read_bytes() for path in tmp_path.glob("store.sqlite3*"))
        assert b"answer:" in kept
        assert b"canary-value" not in kept
