"""Agents lost in mid-call, on real sockets: who takes over, what it is told, and what the caller hears."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from live import API_KEY, DEADLINE_S, Live, serving, soon, until

from bridge.call.state import State
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import Told
from bridge.standins.numbered import make_numbered

GREETING = [make_numbered(n, seed=1) for n in range(10)]
ANSWER = [make_numbered(n, seed=2) for n in range(10)]
CALLERS = [make_numbered(n, seed=3) for n in range(10)]


@pytest.fixture
def agent_file(tmp_path):
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({"language": "en", "greeting": "Hi!"}))
    return path


@contextlib.asynccontextmanager
async def two_agents(first: str, second: str, **settings: object) -> AsyncIterator[tuple[Live, AgentService]]:
    """A bridge whose chain is ``first``, then ``second``."""
    options = {"protocol": second, "behaviour": silent, "account": Account(key=API_KEY)}
    async with AgentService(**options) as service:
        others = {**service.environment(), "BRIDGE_AGENT": f"{first},{second}", **settings}
        async with serving(agent={"protocol": first}, **others) as live:
            yield live, service
        assert service.violations == []
        assert [session.violations for session in service.sessions.values() if session.violations] == []


async def bridged(live: Live) -> None:
    await until(lambda: any(call.state is State.BRIDGED for call in live.open_calls))


async def test_openai_session_that_ends_at_its_limit_in_mid_sentence_is_followed_by_the_next():
    async with (
        serving(agent={"protocol": "openai"}, OPENAI_REALTIME_GREETS="1") as live,
        live.bridged() as (
            caller,
            first,
        ),
    ):
        await until(lambda: first.asked_to_speak)
        first.transcript = "Hello, who is there?"
        await first.send_frames(GREETING, paced=False)
        await first.end_turn()
        await first.send_heard("It is me.")
        first.transcript = "How can I help"
        await first.send_frames(GREETING, paced=False)
        await until(lambda: len(caller.received_audio) == 2 * len(GREETING))
        [call] = live.open_calls
        await first.send_expired()
        await caller.send_frames(CALLERS, paced=False)
        second = await live.agent.next_session(DEADLINE_S)
        await until(lambda: second.asked_to_speak)
        assert second.told == [Told("agent", "Hello, who is there?"), Told("caller", "It is me.")]
        assert second.asked_to_speak == 1
        await second.send_frames(ANSWER, paced=False)
        await until(lambda: len(caller.received_audio) == 2 * len(GREETING) + len(ANSWER))
        # Nothing is cleared: the caller hears all of it, in order, on the same stream.
        assert caller.received_audio == [*GREETING, *GREETING, *ANSWER]
        assert not [item for item in caller.received if item.message.event == "clear"]
        await until(lambda: len(second.received) == len(CALLERS))
        assert [item.audio for item in second.received] == CALLERS
        assert live.open_calls == (call,)
        # One that does not answer within 3 s would be followed by a third.
        assert len(live.agent.sessions) == 2
        assert (await live.metrics())["bridge_agents_replaced_total"] == 1


async def test_openai_takes_over_from_deepgram_that_is_reset_and_listens(agent_file):
    async with (
        two_agents("deepgram", "openai", DEEPGRAM_AGENT_FILE=agent_file, OPENAI_REALTIME_GREETS="1") as (
            live,
            service,
        ),
        live.bridged() as (caller, first),
    ):
        assert first.asked_to_speak == 1
        first.transcript = "Hi!"
        await first.send_frames(GREETING, paced=False)
        await first.end_turn()
        await first.send_heard("When do you open?")
        first.transcript = "At nine."
        await first.send_frames(GREETING, paced=False)
        await first.end_turn()
        await until(lambda: len(caller.received_audio) == 2 * len(GREETING))
        first.abort()
        second = await service.next_session(DEADLINE_S)
        await bridged(live)
        await caller.send_frames(CALLERS, paced=False)
        await until(lambda: len(second.received) == len(CALLERS))
        assert second.told == [
            Told("agent", "Hi!"),
            Told("caller", "When do you open?"),
            Told("agent", "At nine."),
        ]
        assert second.asked_to_speak == 0
        assert len(live.agent.sessions) == len(service.sessions) == 1


async def test_deepgram_that_is_awaited_answers_without_a_greeting(agent_file):
    async with (
        two_agents("openai", "deepgram", DEEPGRAM_AGENT_FILE=agent_file) as (live, service),
        live.bridged() as (_, first),
    ):
        await first.send_heard("When do you open?")
        await until(lambda: live.open_calls[0].memory(0).said)
        await first.close(1011)
        second = await service.next_session(DEADLINE_S)
        await until(lambda: second.asked_to_speak)
        assert second.told == [Told("caller", "When do you open?")]
        assert "greeting" not in second.settings["agent"]
        assert second.asked_to_speak == 1


async def test_elevenlabs_is_told_by_a_contextual_update():
    async with serving(agent={"protocol": "elevenlabs"}) as live, live.bridged() as (_, first):
        await first.send_said("Hello?")
        await first.send_heard("It is me.")
        await until(lambda: len(live.open_calls[0].memory(0).said) == 2)
        first.abort()
        second = await live.agent.next_session(DEADLINE_S)
        await until(lambda: second.told)
        assert second.told == [Told("agent", "Hello?"), Told("caller", "It is me.")]


async def test_openai_is_told_what_retell_web_has_heard():
    async with two_agents("retell-web", "openai") as (live, service), live.bridged() as (_, first):
        await first.send_said("Hello?", is_finished=False)
        await first.send_said("Hello? Who is there?")
        await first.send_heard("It is me.", is_finished=False)
        await first.send_heard("It is me. When do you open?")
        await until(lambda: len(live.open_calls[0].memory(0).said) == 2)
        await first.close(1011)
        second = await service.next_session(DEADLINE_S)
        await until(lambda: second.asked_to_speak)
        assert second.told == [
            Told("agent", "Hello? Who is there?"),
            Told("caller", "It is me. When do you open?"),
        ]


async def test_successor_that_hangs_gives_way_to_the_next_session():
    async with serving(limits={"successor_s": 0.3}) as live, live.bridged() as (caller, first):
        hangs = HttpAnswer(status=101, delay_s=DEADLINE_S)
        live.agent.upgrade_answers.append(hangs)
        first.abort()
        await until(lambda: len(live.agent.sessions) == 3)
        *_, third = live.agent.sessions.values()
        await bridged(live)
        await caller.send_frames(CALLERS, paced=False)
        await until(lambda: len(third.received) == len(CALLERS))


async def test_same_agent_is_tried_twice_in_a_call_and_then_it_is_lost():
    async with serving() as live, live.bridged() as (caller, first):
        session = await live.agent.next_session(DEADLINE_S)
        assert session is first
        for _ in range(2):
            session.abort()
            session = await live.agent.next_session(DEADLINE_S)
            await bridged(live)
        session.abort()
        await soon(caller.closed.wait())
        assert caller.close_code == 1011
        assert len(live.agent.sessions) == 3
        assert (await caller.follow_redirect()).verbs == ["Say", "Hangup"]


async def test_failure_that_would_repeat_itself_ends_the_call():
    async with serving(agent={"protocol": "openai"}) as live, live.bridged() as (caller, session):
        error = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "no"}
        await session.send_json({"type": "error", "error": error})
        await soon(caller.closed.wait())
        assert caller.close_code == 1011
        assert len(live.agent.sessions) == 1
