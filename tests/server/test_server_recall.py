"""A call that goes on at another process: its agent is told what was said, and greets nobody twice."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from live import DEADLINE_S, Live, beside, serving, soon, until

from bridge.standins.agent.session import Told

LONG = {"grace_s": 60.0}
STREAM = ["Connect", "Redirect"]


@contextlib.asynccontextmanager
async def pair(store: str, **settings: str) -> AsyncIterator[tuple[Live, Live]]:
    given = {"OPENAI_REALTIME_GREETS": "1", "BRIDGE_STORE": store, **settings}
    async with (
        serving(agent={"protocol": "openai"}, limits=LONG, **given) as a,
        beside(a, store, limits=LONG, **settings, OPENAI_REALTIME_GREETS="1") as b,
    ):
        yield a, b


async def go_on_elsewhere(caller, at: Live) -> None:
    caller.abort()
    await soon(caller.closed.wait())
    caller.endpoint.url = at.url
    assert (await soon(caller.go_on())).verbs == STREAM


async def said_in_the_store(a: Live) -> None:
    """Until the store has all that was said in the one call."""
    [(call, sides)] = a.server._live._calls.items()
    await until(lambda: sides.said_changes == call.conversation.changes > 0)
    await a.server._agreement.transcripts.settled()


async def test_successor_is_told_the_last_sentences_and_listens(tmp_path):
    async with pair(f"sqlite:{tmp_path}/store") as (a, b), a.bridged() as (caller, first):
        await until(lambda: first.asked_to_speak)
        await first.send_heard("When do you open?")
        first.transcript = "At nine."
        await first.send_audio(bytes(160))
        await first.end_turn()
        await until(lambda: caller.received)
        await said_in_the_store(a)
        await go_on_elsewhere(caller, b)
        second = await a.agent.next_session(DEADLINE_S)
        await until(lambda: len(second.told) == 2)
        assert second.told == [Told("caller", "When do you open?"), Told("agent", "At nine.")]
        await caller.send_media(bytes(160))
        await until(lambda: second.received)
        assert second.asked_to_speak == 0


async def test_successor_answers_a_caller_who_waits(tmp_path):
    async with pair(f"sqlite:{tmp_path}/store") as (a, b), a.bridged() as (caller, first):
        await until(lambda: first.asked_to_speak)
        await first.send_heard("When do you open?")
        await said_in_the_store(a)
        await go_on_elsewhere(caller, b)
        second = await a.agent.next_session(DEADLINE_S)
        await until(lambda: second.asked_to_speak)
        assert second.told == [Told("caller", "When do you open?")]


@pytest.mark.parametrize("settings", [{"BRIDGE_TRANSCRIPTS": "0"}])
async def test_without_transcripts_the_successor_says_hello(tmp_path, settings):
    async with pair(f"sqlite:{tmp_path}/store", **settings) as (a, b), a.bridged() as (caller, first):
        await until(lambda: first.asked_to_speak)
        await first.send_heard("When do you open?")
        await go_on_elsewhere(caller, b)
        second = await a.agent.next_session(DEADLINE_S)
        await until(lambda: second.asked_to_speak)
        assert second.told == []
        assert b"said:" not in (tmp_path / "store").read_bytes()
