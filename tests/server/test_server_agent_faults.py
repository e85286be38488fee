"""
Each agent in each kind of trouble: who takes the call, what the next agent knows, and what the log says.

In no case is there silence: the caller's words reach the next agent, and its words the caller.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from itertools import product
from typing import Any

import pytest
from agent_trouble_cases import CANNOT, CASES
from agent_trouble_file import agents_file
from agent_troubles import (
    AGENTS,
    DIALLED,
    EXAMPLES,
    MESSAGE_BYTES,
    TABLES,
    TROUBLE_S,
    TROUBLES,
    WITH_TRANSCRIPTS,
    Case,
    with_format,
)
from live import API_KEY, DEADLINE_S, Live, serving, until

from bridge.agents.succession import FailureKind
from bridge.call.state import Call, State
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.protocols.openai import OpenAISession
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.protocols.turns import TurnSession
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import Told
from bridge.standins.numbered import make_numbered
from bridge.standins.process import free_port

# Eight seconds, more than it takes to lose the agent, in pieces of 100 ms.
SENTENCE = [b"".join(make_numbered(n, seed=1) for n in range(m, m + 5)) for m in range(0, 400, 5)]
ANSWER = [make_numbered(n, seed=2) for n in range(10)]
CALLERS = [make_numbered(n, seed=3) for n in range(10)]
CALLER_SAID = "It is me."


def cases(*, is_in_mid_call: bool) -> Iterable[Any]:
    """Each agent of each case, named for pytest."""
    return [
        pytest.param(case, agent, id=f"{agent}-{case.trouble}-{case.log[:24]}")
        for case in CASES
        if (case.act is not None) == is_in_mid_call
        for agent in case.agents
    ]


def test_each_agent_has_a_case_of_each_trouble_or_cannot_be_in_it():
    shown = {(agent, case.trouble) for case in CASES for agent in case.agents}
    assert shown | CANNOT.keys() == set(product((*AGENTS, *DIALLED), TROUBLES))
    assert not shown & CANNOT.keys()


@pytest.fixture
def kinds(monkeypatch) -> list[FailureKind]:
    """The reasons for which the call has lost its agents."""
    kinds: list[FailureKind] = []
    lose = Call.on_agent_lost

    def noted(call: Call, now: float, *args: Any, **options: Any) -> None:
        kinds.append(options.get("kind", FailureKind.LOST))
        lose(call, now, *args, **options)

    monkeypatch.setattr(Call, "on_agent_lost", noted)
    return kinds


@pytest.fixture
def start(tmp_path):
    """Starts a bridge whose chain is an agent of a case, then one of OpenAI's protocol, which greets."""

    @contextlib.asynccontextmanager
    async def start_one(agent: str, case: Case) -> AsyncIterator[tuple[Live, AgentService]]:
        (tmp_path / "agent.json").write_text(json.dumps({"language": "en", "greeting": "Hi!"}))
        port = free_port()
        async with AgentService(protocol="openai", behaviour=silent, account=Account(key=API_KEY)) as second:
            text = agents_file(f"ws://127.0.0.1:{port}", second.ws_url, EXAMPLES)
            (tmp_path / "agents.toml").write_text(text)
            (tmp_path / "prompt.txt").write_text("Be brief.")
            settings = {
                "OPENAI_REALTIME_GREETS": "0",
                "OPENAI_LIVE_GREETS": "0",
                "DEEPGRAM_AGENT_FILE": tmp_path / "agent.json",
                "BRIDGE_AGENTS_FILE": tmp_path / "agents.toml",
                "ASSEMBLYAI_PROMPT_FILE": tmp_path / "prompt.txt",
                "FIRST_KEY": API_KEY,
                "NEXT_KEY": API_KEY,
                "BRIDGE_AGENT": f"{agent},next",
                "BRIDGE_AGENT_MESSAGE_MAX_BYTES": MESSAGE_BYTES,
                **case.settings,
            }
            options = {"protocol": agent, "port": port, **case.options}
            async with serving(agent=options, limits={"trouble_s": TROUBLE_S}, **settings) as live:
                announce = with_format("announced_format", "mulaw") if agent in TABLES else None
                live.agent.on_session = case.prepare or announce
                live.agent.rest_answers.extend([case.rest] if case.rest else [])
                live.agent.upgrade_answers.extend([case.upgrade] if case.upgrade else [])
                yield live, second
            assert second.violations == []
            assert [session.violations for session in second.sessions.values() if session.violations] == []

    return start_one


def audible(mulaw: bytes) -> bytes:
    """Mu-law with one zero in place of its two, as it is after a way through PCM."""
    return mulaw.replace(b"\x7f", b"\xff")


async def check_next_agent(
    live: Live, caller: Any, second: AgentService, before: list[bytes]
) -> OpenAISession:
    """The caller, who has heard this, and the next agent hear each other; returns that one's end of the call."""
    session = await second.next_session(DEADLINE_S)
    assert isinstance(session, OpenAISession)
    await until(lambda: any(call.state is State.BRIDGED for call in live.open_calls))
    await caller.send_frames(CALLERS, paced=False)
    await until(lambda: len(session.received) == len(CALLERS))
    assert [item.audio for item in session.received] == CALLERS
    await session.send_frames(ANSWER, paced=False)
    await until(lambda: len(caller.received_audio) >= len(before) + len(ANSWER))
    assert list(map(audible, caller.received_audio)) == list(map(audible, before + ANSWER))
    assert not [item for item in caller.received if item.message.event == "clear"]
    # Either it greets or it goes on.
    await until(lambda: session.asked_to_speak)
    assert session.asked_to_speak == 1
    return session


def check_log(lines: Iterable[str], words: str) -> None:
    lost = [line for line in lines if line.startswith("WARNING") and "agent unavailable, trying next" in line]
    assert len(lost) == 1
    assert words in lost[0]


@pytest.mark.parametrize(("case", "agent"), cases(is_in_mid_call=False))
async def test_agent_in_trouble_at_the_start_is_followed_by_the_next_one(start, logs, kinds, case, agent):
    async with start(agent, case) as (live, second), live.answered() as caller:
        await caller.open_stream()
        session = await check_next_agent(live, caller, second, [])
        assert session.told == []
    check_log(logs.lines, case.log)
    assert kinds == ([] if case.kind is None else [case.kind])


@pytest.mark.parametrize(("case", "agent"), cases(is_in_mid_call=True))
async def test_agent_in_trouble_in_mid_sentence_is_followed_by_one_that_knows_what_was_said(
    start, logs, kinds, case, agent
):
    async with start(agent, case) as (live, second), live.bridged() as (caller, first):
        if isinstance(first, TurnSession):
            # The pause until the service acts does not end its turn.
            first.turn_pause_s = 60.0
        if agent in WITH_TRANSCRIPTS:
            await first.send_heard(CALLER_SAID)
        await first.send_frames(SENTENCE, paced=False)
        await until(lambda: len(caller.received_audio) == len(SENTENCE))
        await case.act(first)
        session = await check_next_agent(live, caller, second, SENTENCE)
        # What Deepgram was saying is known too.
        said = [told for told in session.told if told.speaker == "caller"]
        assert said == ([Told("caller", CALLER_SAID)] if agent in WITH_TRANSCRIPTS else [])
    check_log(logs.lines, case.log)
    assert kinds == [case.kind]
