"""
Each agent in each kind of trouble: who takes the call, what the next agent knows, and what the log says.

The next agent is OpenAI's stand-in. In no case is there silence: the caller's words reach it, and its words the caller.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from live import API_KEY, DEADLINE_S, Live, serving, until

from bridge.call.state import State
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import Faults, HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import AgentSession, Told
from bridge.standins.numbered import make_numbered

HALF_A_SENTENCE = [make_numbered(n, seed=1) for n in range(10)]
ANSWER = [make_numbered(n, seed=2) for n in range(10)]
CALLERS = [make_numbered(n, seed=3) for n in range(10)]
MESSAGE_BYTES = 65536
SOCKETS = ("deepgram", "elevenlabs", "retell", "retell-web", "retell-twilio")
WITH_TRANSCRIPTS = ("deepgram", "elevenlabs", "retell-web")


class AtStart(NamedTuple):
    """Trouble before the agent is ready: what its service does, and the words in the log."""

    agents: tuple[str, ...]
    log: str
    rest: HttpAnswer | None = None
    upgrade: HttpAnswer | None = None
    options: dict[str, Any] = {}  # noqa: RUF012
    settings: dict[str, str] = {}  # noqa: RUF012


class InMidCall(NamedTuple):
    """Trouble in the middle of a sentence: what the agent does, and the words in the log."""

    agents: tuple[str, ...]
    log: str
    act: Callable[[Any], Awaitable[None]]


REST = ("elevenlabs", "retell", "retell-web", "retell-twilio")
AT_START = {
    "no credit, by its API": AtStart(REST, "status 402", rest=HttpAnswer(status=402)),
    "no credit, at its socket": AtStart(SOCKETS, "upgrade refused: 402", upgrade=HttpAnswer(status=402)),
    "wrong key, by its API": AtStart(REST, "status 401", rest=HttpAnswer(status=401)),
    "wrong key, at its socket": AtStart(SOCKETS, "upgrade refused: 401", upgrade=HttpAnswer(status=401)),
    "server error": AtStart(SOCKETS, "upgrade refused: 500", upgrade=HttpAnswer(status=500)),
    "rate limit, by its API": AtStart(
        REST, "asks to retry in 30 s", rest=HttpAnswer(status=429, headers={"Retry-After": "30"})
    ),
    "rate limit, at its socket": AtStart(SOCKETS, "upgrade refused: 429", upgrade=HttpAnswer(status=429)),
    "refused settings, by its API": AtStart(REST, "status 422", rest=HttpAnswer(status=422)),
    "refused settings, by an error": AtStart(
        ("deepgram", "elevenlabs"), "rror", options={"faults": Faults(fail_ready=True)}
    ),
    "missing variables": AtStart(
        ("elevenlabs",),
        "close 1008 Missing required dynamic variables in first message: {'name'}",
        options={"account": Account(key=API_KEY, required_variables=frozenset({"name"}))},
    ),
    "never ready": AtStart(
        ("deepgram", "elevenlabs"),
        "not ready within 0.5 s",
        options={"faults": Faults(ready_delay_s=30.0)},
        settings={"BRIDGE_AGENT_CONNECT_S": "0.5"},
    ),
}


async def deepgrams_error(session: Any) -> None:
    await session.send_error("INTERNAL_SERVER_ERROR", "Something broke.")


async def elevenlabs_error_and_ordinary_close(session: Any) -> None:
    event = {"code": 1002, "message": "The LLM failed.", "error_type": "llm_error"}
    await session.send_json({"type": "error", "error_event": event})
    await session.close(1000)


async def too_long(session: Any) -> None:
    await session.send_raw(json.dumps({"type": "x", "event": "x", "long": MESSAGE_BYTES * "x"}))


async def reset(session: Any) -> None:
    session.abort()


IN_MID_CALL = {
    "deepgram's error and ordinary close": InMidCall(
        ("deepgram",), "Error INTERNAL_SERVER_ERROR: Something broke.", deepgrams_error
    ),
    "deepgram's session limit": InMidCall(
        ("deepgram",), "Error MAXIMUM_SESSION_LENGTH_REACHED", lambda session: session.reach_limit()
    ),
    "deepgram's wrong format": InMidCall(
        ("deepgram",), "Error USER_AUDIO_FORMAT", lambda session: session.send_error("USER_AUDIO_FORMAT", "")
    ),
    "elevenlabs' error and ordinary close": InMidCall(
        ("elevenlabs",), "error 1002 llm_error The LLM failed.", elevenlabs_error_and_ordinary_close
    ),
    "elevenlabs' quota": InMidCall(
        ("elevenlabs",), "This request exceeds your quota limit.", lambda session: session.exceed_quota()
    ),
    "elevenlabs' session limit": InMidCall(
        ("elevenlabs",), "max_duration_exceeded", lambda session: session.reach_limit()
    ),
    "close for a fault": InMidCall(SOCKETS, "close 1011 fault", lambda session: session.close(1011, "fault")),
    "reset": InMidCall(SOCKETS, "no close frame", reset),
    "over-long message": InMidCall(SOCKETS, "1009", too_long),
}


@pytest.fixture
def agent_file(tmp_path):
    path = tmp_path / "agent.json"
    path.write_text(json.dumps({"language": "en", "greeting": "Hi!"}))
    return path


@contextlib.asynccontextmanager
async def followed(
    protocol: str, agent_file: object, options: dict[str, Any], **settings: object
) -> AsyncIterator[tuple[Live, AgentService]]:
    """A bridge whose chain is an agent of a protocol, then OpenAI."""
    second = AgentService(protocol="openai", behaviour=silent, account=Account(key=API_KEY))
    async with second:
        others = {
            **second.environment(),
            "OPENAI_REALTIME_GREETS": "0",
            "BRIDGE_AGENT": f"{protocol},openai",
            "BRIDGE_AGENT_MESSAGE_MAX_BYTES": MESSAGE_BYTES,
            "DEEPGRAM_AGENT_FILE": agent_file,
            **settings,
        }
        async with serving(agent={"protocol": protocol, **options}, **others) as live:
            yield live, second
        assert second.violations == []
        assert [session.violations for session in second.sessions.values() if session.violations] == []


async def check_next_agent(live: Live, caller: Any, session: AgentSession, heard_before: int) -> None:
    await until(lambda: any(call.state is State.BRIDGED for call in live.open_calls))
    await caller.send_frames(CALLERS, paced=False)
    await until(lambda: len(session.received) == len(CALLERS))
    await session.send_frames(ANSWER, paced=False)
    await until(lambda: len(caller.received_audio) == heard_before + len(ANSWER))
    assert caller.received_audio[heard_before:] == ANSWER


@pytest.mark.parametrize(
    ("name", "protocol"), [(name, agent) for name, trouble in AT_START.items() for agent in trouble.agents]
)
async def test_agent_in_trouble_at_the_start_is_followed_by_the_next_one(agent_file, logs, name, protocol):
    trouble = AT_START[name]
    async with followed(protocol, agent_file, trouble.options, **trouble.settings) as (live, second):
        live.agent.rest_answers.extend([trouble.rest] if trouble.rest else [])
        live.agent.upgrade_answers.extend([trouble.upgrade] if trouble.upgrade else [])
        async with live.answered() as caller:
            await caller.open_stream()
            session = await second.next_session(DEADLINE_S)
            await check_next_agent(live, caller, session, 0)
        assert session.told == []
    assert [line for line in logs.lines if line.startswith("WARNING") and trouble.log in line]


@pytest.mark.parametrize(
    ("name", "protocol"), [(name, agent) for name, trouble in IN_MID_CALL.items() for agent in trouble.agents]
)
async def test_agent_in_trouble_in_mid_sentence_is_followed_by_one_that_knows_what_was_said(
    agent_file, logs, name, protocol
):
    trouble = IN_MID_CALL[name]
    async with (
        followed(protocol, agent_file, {}) as (live, second),
        live.bridged() as (caller, first),
    ):
        told = []
        if protocol in WITH_TRANSCRIPTS:
            await first.send_heard("It is me.")
            await until(lambda: live.open_calls[0].memory(0).said)
            told = [Told("caller", "It is me.")]
        await first.send_frames(HALF_A_SENTENCE, paced=False)
        await until(lambda: len(caller.received_audio) == len(HALF_A_SENTENCE))
        await trouble.act(first)
        session = await second.next_session(DEADLINE_S)
        await check_next_agent(live, caller, session, len(HALF_A_SENTENCE))
        # What Deepgram was saying is known too.
        assert session.told[:1] == told[:1]
        assert caller.received_audio[: len(HALF_A_SENTENCE)] == HALF_A_SENTENCE
        assert not [item for item in caller.received if item.message.event == "clear"]
    assert [line for line in logs.lines if line.startswith("WARNING") and trouble.log in line]
