"""A whole call with each example of an agents file in `examples/agents`, against a stand-in of its service."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from live import API_KEY, serving, soon, until

from bridge.standins.agent.behaviours import silent
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


def test_every_example_has_its_call():
    assert {path.stem for path in EXAMPLES.glob("*.toml") if "openai-realtime" in path.read_text()} == set(
        CASES
    )


@pytest.mark.parametrize("example", CASES)
async def test_example_is_a_call_with_its_service(example, tmp_path):
    agent, variables = CASES[example]
    account, key = Account(key=API_KEY), {f"{example.upper().replace('-', '_')}_API_KEY": API_KEY}
    async with AgentService(protocol=example, behaviour=silent, account=account) as service:
        text = (EXAMPLES / f"{example}.toml").read_text()
        # The path and the query stay those of the example.
        text = re.sub(r'"wss://[^/"]*/', f'"ws://127.0.0.1:{service.port}/', text)
        (tmp_path / "agents.toml").write_text(text)
        settings = {"BRIDGE_AGENTS_FILE": tmp_path / "agents.toml", "BRIDGE_AGENT": agent, **key, **variables}
        async with serving(**settings) as live, live.answered() as caller:
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
            await session.send_frames(ANSWER, paced=False)
            await session.send_call_ended()
            await soon(caller.closed.wait())
            assert caller.close_code == 1000
            assert b"".join(caller.received_audio) == 2 * b"".join(ANSWER)
        assert service.violations == session.violations == []
