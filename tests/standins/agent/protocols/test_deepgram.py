"""The stand-in agent service as Deepgram's Voice Agent: its messages, and its list of violations."""

import asyncio
import json

import pytest
from standins_client import DEADLINE_S, connected, one_violation, refused, soon

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import Faults
from bridge.standins.agent.service import AgentService


def changed_settings(side: str, **changes) -> dict:
    audio = {
        "input": {"encoding": "mulaw", "sample_rate": 8000},
        "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
    }
    audio[side] |= changes
    return {"type": "Settings", "audio": audio, "agent": {}}


@pytest.mark.parametrize(
    ("message", "violation"),
    [
        ({"type": "KeepAlive"}, "KeepAlive before Settings"),
        (changed_settings("input", encoding="linear16"), "audio.input"),
        (changed_settings("input", sample_rate=16000), "audio.input"),
        (changed_settings("output", sample_rate=24000), "audio.output"),
        (changed_settings("output", container="wav"), "audio.output"),
        (changed_settings("output") | {"agent": None}, "the agent is None"),
        (changed_settings("output") | {"agent": "no id"}, "UUID"),
        (changed_settings("output") | {"greeting": "Hi!"}, "the settings have ['greeting']"),
        ({"type": "Settings", "agent": {}}, "KeyError('audio')"),
    ],
)
async def test_deepgram_wants_settings_of_mulaw_first(message, violation):
    async with connected("deepgram", behaviour=silent, greets=False, violates=True) as (client, session):
        await client.socket.send_json(message)
        await one_violation(session, violation)
        await soon(lambda: client.of_type("Error"))
        assert violation in client.of_type("Error")[0]["description"]
        assert not session.ready.is_set() and session.keepalives == []
        await client.socket.send_json(client.settings)
        await soon(lambda: client.of_type("SettingsApplied"))
        await client.socket.send_json({"type": "KeepAlive"})
        await soon(lambda: session.keepalives)
        await client.socket.send_json(client.settings)
        await soon(lambda: len(session.violations) == 2)
        assert "Settings came twice" in session.violations[1]


async def test_deepgram_audio_before_its_settings_are_applied_is_a_violation():
    options = {"behaviour": silent, "greets": False, "violates": True, "faults": Faults(ready_delay_s=0.2)}
    async with connected("deepgram", **options) as (client, session):
        await client.socket.send_json(client.settings)
        await client.say(b"a")
        await one_violation(session, "audio before SettingsApplied")
        await soon(lambda: client.of_type("SettingsApplied"))
        await client.say(b"b")
        await soon(lambda: session.received_raw == [b"b"])


async def test_deepgram_refuses_without_the_key():
    async with AgentService(protocol="deepgram") as service:
        await refused(service, service.ws_url, 401)
        await refused(service, service.ws_url, 401, Authorization="Bearer key_standin")
        await refused(service, service.ws_url, 401, Authorization="Token wrong")


async def test_deepgram_reports_the_end_of_an_utterance_interrupted_or_not():
    async with connected("deepgram", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        session.turn_pause_s = 0.05
        await session.send_audio(b"a")
        await session.send_audio(b"b")
        await soon(lambda: client.of_type("AgentAudioDone"))
        assert client.frames[-1] == '{"type":"AgentAudioDone"}'
        assert client.frames[-3:-1] == client.audio == [b"a", b"b"]
        session.turn_pause_s = 3600.0
        await session.send_audio(b"c")
        await session.send_interrupt()
        await soon(lambda: len(client.of_type("AgentAudioDone")) == 2)
        assert client.audio == [b"a", b"b", b"c"] and session.stale == []


async def test_deepgram_function_call_takes_its_response_once():
    async with connected("deepgram", behaviour=silent, violates=True) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        call_id = await session.send_function_call("transfer", {"to": "+1"})
        await session.send_function_call("elsewhere", {}, client_side=False)
        await soon(lambda: len(client.of_type("FunctionCallRequest")) == 2)
        mine, theirs = (message["functions"][0] for message in client.of_type("FunctionCallRequest"))
        assert (mine["id"], mine["name"], mine["client_side"]) == (call_id, "transfer", True)
        assert json.loads(mine["arguments"]) == {"to": "+1"}
        response = {"type": "FunctionCallResponse", "id": call_id, "name": "transfer", "content": "ok"}
        await client.socket.send_json(response)
        await soon(lambda: session.function_outputs == [(call_id, "transfer", "ok")])
        assert session.violations == []
        await client.socket.send_json(response | {"id": theirs["id"], "name": "elsewhere"})
        await one_violation(session, "no function call of 'elsewhere'")


async def test_deepgram_says_goodbye_once_its_function_call_is_answered():
    async with connected("deepgram", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        goodbye = asyncio.create_task(session.send_goodbye("hang_up", {}, [b"bye", b"bye"]))
        await soon(lambda: client.of_type("FunctionCallRequest"))
        assert client.audio == []
        [function] = client.of_type("FunctionCallRequest")[0]["functions"]
        response = {"type": "FunctionCallResponse", "id": function["id"], "name": "hang_up", "content": "ok"}
        await client.socket.send_json(response)
        await asyncio.wait_for(goodbye, DEADLINE_S)
        await soon(lambda: client.of_type("AgentAudioDone"))
        assert client.audio == [b"bye", b"bye"]


async def test_deepgram_warns_of_its_limit_and_closes_in_the_ordinary_way():
    async with connected("deepgram", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await session.reach_limit()
        await asyncio.wait_for(client.closed.wait(), DEADLINE_S)
        codes = [message["code"] for message in client.of_type("Warning", "Error")]
        assert codes == ["MAXIMUM_SESSION_LENGTH_APPROACHING", "MAXIMUM_SESSION_LENGTH_REACHED"]
        assert client.socket.close_code == 1000


async def test_deepgram_notes_what_is_added_to_its_prompt():
    async with connected("deepgram", behaviour=silent) as (client, session):
        await client.socket.send_json({"type": "UpdatePrompt", "prompt": "Be brief."})
        await soon(lambda: client.of_type("PromptUpdated"))
        assert session.prompts == ["Be brief."]
