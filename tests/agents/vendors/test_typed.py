"""
Messages to agents, checked against the types of the vendors' own SDKs.

ElevenLabs' SDK has no types for its socket. There the stand-in, which the SDK's own client talks to as well, checks
every message.
"""

from __future__ import annotations

import base64
import json
import typing
import warnings

import aiohttp
import pydantic
import pytest

from bridge.agents.agent import CallInfo, Dialogue, Resources, StreamInfo
from bridge.agents.hand_over import SipAddress
from bridge.agents.succession import Memory, Said, Speaker
from bridge.agents.turns import HeardTurn
from bridge.agents.vendors import deepgram as bridge_deepgram
from bridge.agents.vendors import openai as bridge_openai
from bridge.agents.vendors import openai_live as bridge_live
from bridge.agents.vendors import retell_sip

with warnings.catch_warnings():
    # The SDK imports names that the websockets library has deprecated.
    warnings.filterwarnings("ignore", message=r"websockets\.", category=DeprecationWarning)
    from deepgram.agent.v1.types import (
        AgentV1InjectUserMessage,
        AgentV1KeepAlive,
        AgentV1SendFunctionCallResponse,
        AgentV1Settings,
        AgentV1UpdatePrompt,
    )
from openai.types.live import ClientEvent as LiveClientEvent
from openai.types.live import ServerEvent as LiveServerEvent
from openai.types.live import SessionConfig
from openai.types.realtime import RealtimeClientEvent
from openai.types.shared import ChatModel
from retell.types import CallRegisterPhoneCallParams

CLIENT_EVENT = pydantic.TypeAdapter(RealtimeClientEvent)
CALL = CallInfo("CA" + "1" * 32, "+14155550123", "+14155550100")
MEMORY = Memory((Said(Speaker.AGENT, "Hello?"), Said(Speaker.CALLER, "When do you open?")), True)
STARTED = StreamInfo(CALL, "AC" + "1" * 32, "MZ" + "1" * 32, {}, True)
AUDIO = base64.b64encode(bytes(160))


def unknown_fields(value: object, path: str = "") -> set[str]:
    """The fields that a validated model accepted although it does not define them."""
    if isinstance(value, pydantic.BaseModel):
        known = {name: getattr(value, name) for name in type(value).model_fields}
        found = {f"{path}{name}" for name in value.model_extra or {}}
        return found.union(*(unknown_fields(item, f"{path}{name}.") for name, item in known.items()))
    if isinstance(value, list):
        return set().union(*(unknown_fields(item, path) for item in value))
    return set()


def dialogue_of(memory: Memory | None = None, **settings: str) -> Dialogue:
    of_openai = bridge_openai.OpenAiSettings(openai_api_key="key", **settings)
    agent = bridge_openai.AGENT.describe(of_openai, Resources(None, 1.0, may_transfer=True))
    return agent.dialogue(StreamInfo(CALL, "AC", "MZ", {}, True, memory), lambda: 1)


def openai_messages() -> dict[str, bytes]:
    plain = dialogue_of(openai_realtime_tools="0")
    full = dialogue_of(
        openai_realtime_voice="marin",
        openai_realtime_instructions="Be brief.",
        openai_realtime_keys="1",
    )
    [update] = full.opening()
    _, greeting = full.read(b'{"type":"session.updated","session":{}}')
    keys, _ = full.on_dtmf("12#")
    [notice] = full.on_limit_near(60.0)
    full.read(
        b'{"type":"response.content_part.added","response_id":"resp_1","item_id":"item_1","content_index":0,'
        b'"part":{"type":"audio"}}'
    )
    [truncate] = full.on_interrupt([HeardTurn("item_1", 1234, is_all=False)])
    call = {"type": "function_call", "status": "completed", "call_id": "call_1", "name": "hang_up"}
    done = {"type": "response.output_item.done", "item": {**call, "arguments": "{}"}}
    result, _ = full.read(json.dumps(done).encode())
    _, agents, callers = dialogue_of(MEMORY).opening()
    return {
        "agent's conversation.item.create": agents,
        "caller's conversation.item.create": callers,
        "keys' conversation.item.create": keys,
        "limit's conversation.item.create": notice,
        "function's conversation.item.create": result.message,
        "plain session.update": next(iter(plain.opening())),
        "session.update": update,
        "response.create": greeting.message,
        "conversation.item.truncate": truncate,
        "input_audio_buffer.append": plain.to_agent.wrap_payload(AUDIO),
    }


@pytest.mark.parametrize("name", openai_messages())
def test_message_to_openai_is_of_its_types(name):
    event = CLIENT_EVENT.validate_json(openai_messages()[name])
    assert event.type == name.split()[-1]
    assert unknown_fields(event) == set()


def live_messages() -> dict[str, bytes]:
    settings = bridge_live.OpenAiLiveSettings(
        openai_api_key="key", openai_live_voice="marin", openai_live_keys="1"
    )
    dialogue = bridge_live.OpenAiLiveDialogue(settings, "Be brief.", MEMORY, may_transfer=True)
    [start] = dialogue.opening()
    _, _, instructions = dialogue.read(b'{"type":"session.started","session":{}}')
    call = {"type": "function_call", "call_id": "c", "name": "hang_up", "arguments": "{}"}
    event = {"type": "response.output_item.done", "item": call}
    result, *_ = dialogue.read(json.dumps({"type": "response.event", "event": event}).encode())
    [respond] = dialogue.read(b'{"type":"response.event","event":{"type":"response.completed"}}')
    return {
        "session.start": start,
        "session.instructions.append": instructions.message,
        "session.thinking.append": next(iter(dialogue.on_dtmf("1"))),
        "session.input_audio.append": dialogue.to_agent.wrap_payload(AUDIO),
        "response.item.create": result.message,
        "response.create": respond.message,
        "session.close": next(iter(dialogue.closing())),
    }


@pytest.mark.parametrize("name", live_messages())
def test_message_to_gpt_live_is_of_its_types(name):
    event = pydantic.TypeAdapter(LiveClientEvent).validate_json(live_messages()[name])
    assert event.type == name
    assert unknown_fields(event) == set()


def test_every_message_that_gpt_live_sends_has_a_meaning_or_none():
    dialogue = bridge_live.OpenAiLiveDialogue(bridge_live.OpenAiLiveSettings(openai_api_key="key"), "", None)
    union, _ = typing.get_args(LiveServerEvent)
    for kind in typing.get_args(union):
        [name] = typing.get_args(kind.model_fields["type"].annotation)
        assert all("unknown" not in str(event) for event in dialogue.read(b'{"type":"%s"}' % name.encode()))


def test_models_of_gpt_live_are_of_its_types():
    settings = bridge_live.OpenAiLiveSettings(openai_api_key="key")
    event = json.loads(live_messages()["session.start"])
    known = SessionConfig.model_fields["model"].annotation
    assert settings.openai_live_model in str(known)
    assert event["session"]["model"] == settings.openai_live_model
    assert settings.openai_live_delegation_model in typing.get_args(ChatModel)


@pytest.mark.parametrize("memory", [None, MEMORY])
def test_messages_to_deepgram_are_of_its_types(memory):
    agent = {
        "language": "en",
        "greeting": "Hello",
        "listen": {"provider": {"type": "deepgram", "model": "nova-3"}},
    }
    dialogue = bridge_deepgram.DeepgramDialogue(agent, memory)
    [settings] = dialogue.read(b'{"type":"Welcome","request_id":"x"}')
    model = AgentV1Settings.model_validate(json.loads(settings.message))
    assert unknown_fields(model) == set()
    assert (model.audio.input.encoding, model.audio.output.container) == ("mulaw", "none")
    if memory is not None:
        inject = list(dialogue.read(b'{"type":"SettingsApplied"}'))[1]
        assert unknown_fields(AgentV1InjectUserMessage.model_validate(json.loads(inject.message))) == set()
    assert unknown_fields(AgentV1KeepAlive.model_validate(json.loads(dialogue.keepalive))) == set()
    request = {
        "type": "FunctionCallRequest",
        "functions": [{"id": "f1", "name": "unheard_of", "arguments": "{}", "client_side": True}],
    }
    [answer] = dialogue.read(json.dumps(request).encode())
    response = AgentV1SendFunctionCallResponse.model_validate(json.loads(answer.message))
    assert (unknown_fields(response), response.id, response.name) == (set(), "f1", "unheard_of")
    [prompt] = dialogue.on_limit_near(60.0)
    assert unknown_fields(AgentV1UpdatePrompt.model_validate(json.loads(prompt))) == set()
    [keys] = bridge_deepgram.DeepgramDialogue(agent, takes_keys=True).on_dtmf("1")
    assert unknown_fields(AgentV1InjectUserMessage.model_validate(json.loads(keys))) == set()


@pytest.mark.parametrize("from_number", ["+14155550123", "anonymous"])
async def test_registration_of_a_phone_call_is_of_retells_types(monkeypatch, from_number):
    asked: list[dict[str, typing.Any]] = []

    async def ask(resources, method, url, headers, *, fields, json):
        asked.append(json)
        return {"call_id": "c1"}

    monkeypatch.setattr(retell_sip, "ask", ask)
    settings = retell_sip.RetellSipSettings(
        retell_api_key="key",
        retell_agent_id="agent",
        retell_dynamic_variables='{"caller": "{from}"}',
        retell_metadata='{"shop": "Main Street"}',
    )
    async with aiohttp.ClientSession() as http:
        agent = retell_sip.AGENT.describe(settings, Resources(http, 1.0))
        session = await agent.open_session(CallInfo(CALL.call_sid, from_number, CALL.to_number))
    types = typing.get_type_hints(CallRegisterPhoneCallParams)
    model = pydantic.create_model(
        "Registration",
        __config__=pydantic.ConfigDict(extra="forbid"),
        **{
            name: (kind, ...) if name in CallRegisterPhoneCallParams.__required_keys__ else (kind, None)
            for name, kind in types.items()
            if name != "agent_override"
        },
    )
    model.model_validate(asked[0])
    assert ("from_number" in asked[0]) == (from_number != "anonymous")
    assert agent.hand_over(session, CALL) == SipAddress("sip:c1@sip.retellai.com;transport=tcp")
