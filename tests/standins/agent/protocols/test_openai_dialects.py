"""The services that speak OpenAI's protocol at their own addresses: what each of them wants."""

from __future__ import annotations

import asyncio

import pytest
from standins_client import DEADLINE_S, OpenAI, connected, one_violation, refused, soon

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.service import AgentService

WRONG = {
    "xai": [
        ("?model=m", {"api-key": "key_standin"}, 401),
        ("", {"Authorization": "Bearer key_standin"}, 400),
    ],
    "azure-openai": [
        ("?model=m", {"Authorization": "Bearer key_standin"}, 401),
        ("", {"api-key": "key_standin"}, 400),
    ],
    "inworld": [
        ("?key=k&protocol=realtime", {"Authorization": "Bearer key_standin"}, 401),
        ("?protocol=realtime", {"Authorization": "Basic key_standin"}, 400),
    ],
}


@pytest.mark.parametrize("protocol", WRONG)
async def test_each_refuses_without_its_header_and_its_parameters(protocol):
    for query, headers, status in WRONG[protocol]:
        async with AgentService(protocol=protocol) as service:
            await refused(service, service.ws_url + query, status, **headers)


@pytest.mark.parametrize(
    ("side", "field"), [("output", {"voice": "eve"}), ("input", {"turn_detection": {"type": "server_vad"}})]
)
async def test_grok_wants_voice_and_turn_detection_beside_the_audio(side, field):
    async with connected("xai", behaviour=silent, greets=False, violates=True) as (client, session):
        audio = OpenAI.update["session"]["audio"]
        audio = {**audio, side: {**audio[side], **field}}
        update = {**OpenAI.update, "session": {**OpenAI.update["session"], "audio": audio}}
        await client.socket.send_json(update)
        await one_violation(session, "beside audio")


async def test_grok_begins_with_a_conversation():
    async with connected("xai", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await soon(lambda: client.of_type("session.updated"))
        assert [message["type"] for message in client.messages[:3]] == [
            "conversation.created",
            "ping",
            "session.created",
        ]
