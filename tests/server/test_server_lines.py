"""The lines of the log that tell a call: one when it is answered, one when it is over."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from live import API_KEY, serving, until

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService

CALLER = "+14155550123"
# Of each protocol, what its service calls a session.
SESSION_IDS = {
    "retell": r"[A-Za-z0-9_-]+",
    "retell-web": r"[A-Za-z0-9_-]+",
    "retell-twilio": r"[A-Za-z0-9_-]+",
    "openai": r"sess_\w+",
    "openai-live": r"\w+",
    "elevenlabs": r"\w+",
    "deepgram": r"[\w-]+",
}


def line(logs: Any, event: str) -> str:
    [found] = [line for line in logs.lines if f"event='{event}'" in line]
    return found


@pytest.mark.parametrize("protocol", SESSION_IDS)
async def test_call_is_two_lines_with_the_session_of_its_service(logs, tmp_path, protocol):
    (tmp_path / "agent.json").write_text(json.dumps({"language": "en"}))
    settings = {"BRIDGE_AGENT": protocol, "DEEPGRAM_AGENT_FILE": str(tmp_path / "agent.json")}
    async with serving(agent={"protocol": protocol}, **settings) as live, live.bridged() as (caller, _):
        await caller.hang_up()
        await until(lambda: live.is_idle)
    answered, over = line(logs, "call answered"), line(logs, "call ended")
    for text in (answered, over):
        assert f"agent='{protocol}'" in text
        assert "route='default'" in text
        assert "from_number='+141…23'" in text
        assert CALLER not in text
    assert re.search(r"answered_s=0\.\d+", answered)
    assert "why='caller_stopped'" in over
    assert re.search(rf"session='{SESSION_IDS[protocol]}'", over)
    assert re.search(r"agent_connect_s=\d", over)
    # Both ends close at once.
    assert re.search("caller_closed='(bridge|peer) 1000' agent_closed='bridge 1000'", over)


async def test_line_of_the_end_says_how_a_lost_media_socket_closed(logs):
    async with serving(limits={"grace_s": 0.1}) as live:
        async with live.bridged() as (caller, _):
            await caller.hang_up(stop=False, code=4001)
        await until(lambda: live.is_idle)
    assert "caller_closed='peer 4001'" in line(logs, "call ended")


async def test_whole_numbers_are_logged_where_that_is_wanted(logs):
    async with serving(BRIDGE_LOG_NUMBERS="1") as live, live.bridged() as (caller, _):
        await caller.hang_up()
        await until(lambda: live.is_idle)
    for event in ("call answered", "call ended"):
        assert f"from_number='{CALLER}'" in line(logs, event)


async def test_line_of_the_end_says_which_agents_were_there_and_how_their_sockets_closed(logs):
    options = {"protocol": "openai", "behaviour": silent, "account": Account(key=API_KEY)}
    async with AgentService(**options) as service:
        settings = {**service.environment(), "BRIDGE_AGENT": "retell,openai"}
        async with serving(**settings) as live:
            async with live.bridged() as (_, first):
                await first.close(1011, "fault of mine")
                await service.next_session(10.0)
                await until(lambda: [line for line in logs.lines if "trying next" in line])
            await until(lambda: live.is_idle)
    assert "agent='retell' next='openai'" in line(logs, "agent unavailable, trying next")
    over = line(logs, "call ended")
    assert "agent='openai' fallen_back_from=['retell: close 1011 fault of mine']" in over
