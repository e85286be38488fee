"""The stand-in agent service as ElevenLabs: its messages, and its list of violations."""

import asyncio
from urllib.parse import urlencode

import aiohttp
import pytest
from standins_client import DEADLINE_S, calling, connected, one_violation, refused, soon

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import Faults, HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import STALE_FRAME


async def test_elevenlabs_lets_in_by_key_or_by_signed_url():
    async with (
        AgentService(protocol="elevenlabs", behaviour=silent) as service,
        aiohttp.ClientSession() as http,
    ):
        agent = "?agent_id=agent_standin"
        await refused(service, service.ws_url + agent, 401)
        await refused(service, service.ws_url + agent, 401, **{"xi-api-key": "wrong"})
        await refused(service, service.ws_url + "?agent_id=x", 404, **{"xi-api-key": "key_standin"})
        await refused(service, service.ws_url + agent + "&conversation_signature=x", 401)
        sign = service.url + "/v1/convai/conversation/get-signed-url" + agent
        async with http.get(sign, headers={"xi-api-key": "wrong"}) as response:
            assert response.status == 401
        service.rest_answers.append(HttpAnswer(status=500))
        async with http.get(sign, headers={"xi-api-key": "key_standin"}) as response:
            assert response.status == 500
        async with http.get(sign, headers={"xi-api-key": "key_standin"}) as response:
            assert response.status == 200
            url = (await response.json())["signed_url"]
        await refused(service, url.replace("agent_standin", "other"), 401)
        async with http.ws_connect(url):
            session = await service.next_session()
            assert service.sessions[session.call_id] is session
        with pytest.raises(aiohttp.WSServerHandshakeError, match="409"):
            await http.ws_connect(url)
        assert len(service.requests) == 3


async def test_elevenlabs_service_without_a_key_has_a_public_agent():
    async with AgentService(protocol="elevenlabs", behaviour=silent, account=Account(key="")) as service:
        assert "ELEVENLABS_API_KEY" not in service.environment()
        query = urlencode({"agent_id": service.account.agent_id})
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{service.ws_url}?{query}"):
            await service.next_session()
        assert service.violations == []


async def test_elevenlabs_sends_the_formats_once_the_bridge_has_spoken_or_after_a_moment():
    options = {"behaviour": silent, "greets": False, "account": Account(to_caller_format="pcm_16000")}
    async with connected("elevenlabs", **options) as (client, session):
        await soon(lambda: client.of_type("conversation_initiation_metadata"))
        (metadata,) = client.of_type("conversation_initiation_metadata")
        assert metadata["conversation_initiation_metadata_event"] == {
            "conversation_id": session.call_id,
            "agent_output_audio_format": "pcm_16000",
            "user_input_audio_format": "ulaw_8000",
        }
        assert session.messages == []
    async with AgentService(protocol="elevenlabs", behaviour=silent) as service:
        service.on_session = lambda session: setattr(session, "client_data_wait_s", 3600.0)
        async with calling(service) as (client, session):
            assert session.messages == [{"type": "conversation_initiation_client_data"}]
            await client.say(b"a")
            await soon(lambda: session.received)
            await client.socket.send_json({"type": "conversation_initiation_client_data"})
            await one_violation(session, "not the first message")


async def test_elevenlabs_takes_audio_from_the_start():
    async with connected("elevenlabs", behaviour=silent, greets=False, faults=Faults(ready_delay_s=0.2)) as (
        client,
        session,
    ):
        await client.say(b"a")
        await soon(lambda: session.received)
        assert not session.ready.is_set()


async def test_elevenlabs_audio_after_an_interruption_is_old_by_its_event_id():
    async with connected("elevenlabs", behaviour=silent) as (client, session):
        await session.send_audio(b"a" * 160)
        await session.send_interrupt()
        await session.send_audio(b"b" * 160)
        await soon(lambda: client.audio and client.audio[-1] == b"b" * 160)
        (interruption,) = client.of_type("interruption")
        interrupted_id = interruption["interruption_event"]["event_id"]
        ids = [message["audio_event"]["event_id"] for message in client.of_type("audio")]
        assert ids[0] == ids[1] == ids[2] == ids[3] <= interrupted_id < ids[4]
        assert client.audio[1:4] == session.stale == [STALE_FRAME] * 3
        assert client.messages.index(interruption) == client.messages.index(client.of_type("audio")[1]) - 1


async def test_elevenlabs_pings_are_answered_once():
    async with AgentService(protocol="elevenlabs", behaviour=silent) as service:
        service.on_session = lambda session: setattr(session, "ping_every_s", 0.02)
        async with calling(service) as (client, session):
            await soon(lambda: len(session.pongs) >= 2)
            pings = [message["ping_event"]["event_id"] for message in client.of_type("ping")]
            assert session.pongs == pings[: len(session.pongs)]
            await client.socket.send_json({"type": "pong", "event_id": pings[0]})
            await one_violation(session, "KeyError")


async def test_elevenlabs_tool_call_takes_its_result_once():
    async with connected("elevenlabs", behaviour=silent, violates=True) as (client, session):
        call_id = await session.send_tool_call("transfer", {"to": "+1"})
        await soon(lambda: client.of_type("client_tool_call"))
        call = client.of_type("client_tool_call")[0]["client_tool_call"]
        assert (call["tool_name"], call["tool_call_id"], call["parameters"]) == (
            "transfer",
            call_id,
            {"to": "+1"},
        )
        result = {"type": "client_tool_result", "tool_call_id": call_id, "result": "ok", "is_error": False}
        await client.socket.send_json(result)
        await soon(lambda: session.tool_results == [(call_id, "ok", False)])
        await client.socket.send_json(result)
        await one_violation(session, "KeyError")


VARIABLES = {"name": "Ada", "age": 36}


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"dynamic_variables": VARIABLES}, None),
        ({"dynamic_variables": {"age": 36}}, "Missing required dynamic variables in first message: {'name'}"),
        ({}, "Missing required dynamic variables in first message: {'name'}"),
        (
            {
                "dynamic_variables": VARIABLES,
                "conversation_config_override": {"tts": {"voice_id": "v"}, "agent": {"first_message": "Hi"}},
            },
            "Override for field 'voice_id' is not allowed by config.",
        ),
    ],
)
async def test_elevenlabs_takes_client_data_that_its_agent_wants(sent, reason):
    account = Account(
        required_variables=frozenset({"name"}), allowed_overrides=frozenset({"agent.first_message"})
    )
    async with connected("elevenlabs", behaviour=silent, greets=False, account=account) as (client, session):
        data = {"type": "conversation_initiation_client_data", **sent}
        await client.socket.send_json(data)
        await soon(lambda: client.of_type("conversation_initiation_metadata") or client.closed.is_set())
        assert session.client_data == data
        assert client.closed.is_set() is (reason is not None)
        if reason is not None:
            assert client.socket.close_code == 1008
            assert not session.ready.is_set()


@pytest.mark.parametrize(
    ("end", "code"),
    [("exceed_quota", 1002), ("reach_limit", 1000)],
)
async def test_elevenlabs_says_why_it_ends_and_closes(end, code):
    async with connected("elevenlabs", behaviour=silent) as (client, session):
        await getattr(session, end)()
        await asyncio.wait_for(client.closed.wait(), DEADLINE_S)
        assert (len(client.of_type("error")), client.socket.close_code) == (1, code)


async def test_elevenlabs_says_goodbye_once_its_tool_call_is_answered():
    async with connected("elevenlabs", behaviour=silent) as (client, session):
        goodbye = asyncio.create_task(session.send_goodbye("hang_up", {}, [b"bye", b"bye"]))
        await soon(lambda: client.of_type("client_tool_call"))
        assert client.audio == []
        call_id = client.of_type("client_tool_call")[0]["client_tool_call"]["tool_call_id"]
        result = {"type": "client_tool_result", "tool_call_id": call_id, "result": "ok", "is_error": False}
        await client.socket.send_json(result)
        await asyncio.wait_for(goodbye, DEADLINE_S)
        await soon(lambda: client.audio == [b"bye", b"bye"])


async def test_elevenlabs_writes_numbers_as_texts_if_that_is_wanted():
    async with AgentService(protocol="elevenlabs", behaviour=silent) as service:
        service.on_session = lambda session: setattr(session, "has_text_ids", True)
        async with calling(service) as (client, session):
            await session.send_ping()
            await soon(lambda: session.pongs)
            assert client.of_type("ping")[0]["ping_event"]["event_id"] == str(session.pongs[0])
