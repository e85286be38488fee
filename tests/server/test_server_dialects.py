"""A whole call with each example of an agents file in `examples/agents`, against a stand-in of its service."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from live import API_KEY, DEADLINE_S, Live, serving, until

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import NO_FAULTS, Faults
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.audio import frames, speech

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"
# The protocol of the stand-in, the agent's name in the file, and its variables beside the key.
CASES = {
    "xai": ("grok", {}),
    "azure-openai": ("azure", {"AZURE_OPENAI_RESOURCE": "mine", "AZURE_OPENAI_DEPLOYMENT": "gpt-realtime"}),
    "inworld": ("inworld", {}),
}
CALLER = "+14155550123"
QUESTION = list(frames(speech("caller_question")))
ANSWER = list(frames(speech("agent_greeting")))
GOODBYE = list(frames(speech("agent_goodbye")))


def test_every_example_has_its_call():
    assert {path.stem for path in EXAMPLES.glob("*.toml") if "openai-realtime" in path.read_text()} == set(
        CASES
    )


Start = Callable[..., contextlib.AbstractAsyncContextManager[tuple[Live, AgentService]]]


@pytest.fixture
def start(tmp_path) -> Start:
    """Starts a bridge with the agent of an example, and a stand-in of its service."""

    @contextlib.asynccontextmanager
    async def start_one(
        example: str, faults: Faults = NO_FAULTS, **settings: Any
    ) -> AsyncIterator[tuple[Live, AgentService]]:
        agent, variables = CASES[example]
        account, key = Account(key=API_KEY), {f"{example.upper().replace('-', '_')}_API_KEY": API_KEY}
        options = {"protocol": example, "behaviour": silent, "account": account, "faults": faults}
        async with AgentService(**options) as service:
            text = (EXAMPLES / f"{example}.toml").read_text()
            # The path and the query stay those of the example.
            text = re.sub(r'"wss://[^/"]*/', f'"ws://127.0.0.1:{service.port}/', text)
            (tmp_path / "agents.toml").write_text(text)
            file = tmp_path / "agents.toml"
            settings |= {"BRIDGE_AGENTS_FILE": file, "BRIDGE_AGENT": agent, **key, **variables}
            async with serving(**settings) as live:
                yield live, service
            assert service.violations == []
            assert [session.violations for session in service.sessions.values() if session.violations] == []

    return start_one


@pytest.mark.parametrize("example", CASES)
async def test_example_is_a_call_with_its_service(start, example):
    async with start(example) as (live, service), live.answered() as caller:
        await caller.open_stream()
        session = await service.next_session()
        await until(lambda: session.asked_to_speak)
        assert session.session["instructions"].count(CALLER) == 1
        await asyncio.gather(
            caller.send_frames(QUESTION, paced=False), session.send_frames(ANSWER, paced=False)
        )
        await until(lambda: b"".join(caller.received_audio) == b"".join(ANSWER))
        await until(lambda: b"".join(item.audio for item in session.received) == b"".join(QUESTION))
        await session.send_interrupt()
        await until(lambda: caller.received[-1].message.event == "clear")
        await until(lambda: session.truncates)
        await session.send_frames(GOODBYE, paced=False)
        await session.send_call_ended()
        async with asyncio.timeout(3 * DEADLINE_S):
            await caller.closed.wait()
        assert caller.close_code == 1000
        assert b"".join(caller.received_audio) == b"".join(ANSWER + GOODBYE)
        # The last words have played.
        caller.playout.advance(asyncio.get_running_loop().time())
        assert caller.playout.buffered_bytes == 0
        assert b"".join(GOODBYE) in caller.heard()


@pytest.mark.parametrize("example", CASES)
async def test_first_word_is_kept_while_the_session_begins(start, example):
    async with start(example, Faults(ready_delay_s=0.3)) as (live, service), live.answered() as caller:
        await caller.open_stream()
        await caller.send_frames(QUESTION, paced=False)
        session = await service.next_session()
        await until(lambda: len(session.received) == len(QUESTION))
        assert [item.audio for item in session.received] == QUESTION


@pytest.mark.parametrize("prefixes", ["", "+4930"])
@pytest.mark.parametrize("example", CASES)
async def test_transfer_is_offered_where_a_number_is_allowed(start, example, prefixes):
    async with start(example, BRIDGE_TRANSFER_TO=prefixes) as (live, service), live.answered() as caller:
        await caller.open_stream()
        session = await service.next_session()
        await until(lambda: session.ready.is_set())
        tools = [tool["name"] for tool in session.session["tools"]]
        assert tools == ["hang_up", *(["transfer_call"] if prefixes else [])]
