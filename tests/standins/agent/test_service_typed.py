"""The messages of the stand-in agent service, checked by the types and clients of the vendors' own SDKs."""

import asyncio
import json
import typing
import warnings

import aiohttp
import httpx
import pydantic
import pytest
from standins_client import DEADLINE_S, connected, soon

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import Faults
from bridge.standins.agent.formats import FORMATS
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import STALE_FRAME

with warnings.catch_warnings():
    # Both SDKs import what the websockets library has deprecated; that is theirs to change.
    warnings.filterwarnings("ignore", message=r"websockets\.", category=DeprecationWarning)
    from deepgram import AsyncDeepgramClient
    from deepgram.agent.v1.socket_client import V1SocketClientResponse
    from deepgram.agent.v1.types import AgentV1KeepAlive, AgentV1SendFunctionCallResponse, AgentV1Settings
    from deepgram.environment import DeepgramClientEnvironment
    from elevenlabs.client import ElevenLabs
    from elevenlabs.conversational_ai.conversation import AsyncAudioInterface, AsyncConversation, ClientTools
    from elevenlabs.types import AsrInputFormat, TtsOutputFormat
from openai import AsyncOpenAI
from openai.types.live import ServerEvent as LiveServerEvent
from openai.types.realtime import RealtimeServerEvent
from retell import AsyncRetell
from retell.types import PhoneCallResponse

SERVER_EVENT = pydantic.TypeAdapter(RealtimeServerEvent)
# A session as the service has it, beside what a client may set; the types only know the latter.
SESSION_FIELDS = {"session.id", "session.object"}
DEEPGRAM_TYPES = {
    model.model_fields["type"].default: model
    for model in typing.get_args(V1SocketClientResponse)
    if isinstance(model, type) and issubclass(model, pydantic.BaseModel) and "type" in model.model_fields
}


def unknown_fields(value: object, path: str = "") -> set[str]:
    """The fields that a validated model took without knowing them."""
    if isinstance(value, pydantic.BaseModel):
        known = {name: getattr(value, name) for name in type(value).model_fields}
        found = {f"{path}{name}" for name in value.model_extra or {}}
        return found.union(*(unknown_fields(item, f"{path}{name}.") for name, item in known.items()))
    if isinstance(value, list):
        return set().union(*(unknown_fields(item, path) for item in value))
    return set()


async def test_everything_sent_as_openai_is_of_its_types():
    async with connected("openai", behaviour=silent, violates=True) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await session.send_audio(b"a" * 160)
        await session.end_turn()
        await session.send_audio(b"b" * 160)
        await session.send_interrupt()
        item_id = list(session.items)[-1]
        heard = {"item_id": item_id, "content_index": 0, "audio_end_ms": 20}
        await client.socket.send_json({"type": "conversation.item.truncate", **heard})
        call_id = await session.send_function_call("transfer", {"to": "+1"})
        output = {"type": "function_call_output", "call_id": call_id, "output": "{}"}
        await client.socket.send_json({"type": "conversation.item.create", "item": output})
        await session.fail_response(type="server_error", code=None, message="Sorry.")
        await session.send_error("internal_error", "Oops.")
        await client.socket.send_json({"type": "nothing"})
        await soon(lambda: len(client.of_type("error")) == 2)
        seen = set()
        for message in client.messages:
            event = SERVER_EVENT.validate_python(message)
            assert event.type == message["type"]
            assert unknown_fields(event) <= SESSION_FIELDS, message
            seen.add(event.type)
        assert seen == {
            "session.created",
            "session.updated",
            "response.created",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.function_call_arguments.done",
            "response.done",
            "input_audio_buffer.speech_started",
            "conversation.item.truncated",
            "conversation.item.added",
            "conversation.item.done",
            "error",
        }


async def test_openai_refusal_of_a_session_is_of_its_types():
    async with connected("openai", behaviour=silent, faults=Faults(fail_ready=True)) as (client, _):
        (error,) = client.of_type("error")
        assert unknown_fields(SERVER_EVENT.validate_python(error)) == set()


async def test_everything_sent_as_gpt_live_is_of_its_types():
    async with connected("openai-live", behaviour=silent, violates=True) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        for kind in ("instructions", "thinking", "commentary"):
            append = {"type": f"session.{kind}.append", "delegation_id": None, "content": "x"}
            await client.socket.send_json(append)
        await client.say(b"a")
        await session.send_audio(b"a" * 160)
        await session.send_heard("Hello there?")
        await session.send_said("Yes.")
        await session.send_usage()
        await session.begin_work(("hang_up", {}))
        await session.end_work()
        await client.socket.send_json({"type": "nothing"})
        await client.socket.send_json({"type": "session.close"})
        await soon(lambda: client.of_type("session.closed"))
        seen = set()
        for message in client.messages:
            event = pydantic.TypeAdapter(LiveServerEvent).validate_python(message)
            assert event.type == message["type"]
            # The types do not give a message of audio an id.
            assert unknown_fields(event) <= {"event_id"}, message
            seen.add(event.type)
        assert seen == {
            "session.started",
            "session.instructions.appended",
            "session.thinking.appended",
            "session.commentary.appended",
            "session.output_audio.delta",
            "session.input_transcript.delta",
            "session.output_transcript.delta",
            "session.usage.updated",
            "session.delegation.created",
            "response.event",
            "session.closed",
            "error",
        }


async def test_client_of_openai_has_a_conversation():
    async with AgentService(protocol="openai", behaviour=silent) as service:
        base_url = service.ws_url.removesuffix("/realtime")
        async with (
            AsyncOpenAI(api_key=service.account.key, websocket_base_url=base_url) as openai,
            openai.realtime.connect(model="gpt-realtime") as connection,
        ):
            session = await service.next_session()
            assert (await connection.recv()).type == "session.created"
            pcmu = {"format": {"type": "audio/pcmu"}}
            await connection.session.update(
                session={"type": "realtime", "audio": {"input": pcmu, "output": pcmu}}
            )
            assert (await connection.recv()).session.audio.output.format.type == "audio/pcmu"
            await connection.input_audio_buffer.append(audio="YQ==")
            await soon(lambda: session.received_raw == [b"a"])
            await session.send_audio(b"b" * 160)
            while (event := await connection.recv()).type != "response.output_audio.delta":
                pass
            await connection.conversation.item.truncate(
                item_id=event.item_id, content_index=event.content_index, audio_end_ms=20
            )
            await soon(lambda: session.truncates)
            call_id = await session.send_function_call("transfer", {"to": "+1"})
            await connection.conversation.item.create(
                item={"type": "function_call_output", "call_id": call_id, "output": "{}"}
            )
            await soon(lambda: session.function_outputs)
        await asyncio.wait_for(session.closed.wait(), DEADLINE_S)
        assert session.violations == service.violations == []


async def test_everything_sent_as_deepgram_is_of_its_types():
    async with connected("deepgram", behaviour=silent, violates=True) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await session.send_audio(b"a")
        await session.send_interrupt()
        await session.send_function_call("transfer", {"to": "+1"})
        await client.socket.send_json({"type": "UpdatePrompt", "prompt": "Be brief."})
        await client.socket.send_json({"type": "nothing"})
        await soon(lambda: client.of_type("Error"))
        await session.reach_limit()
        await soon(lambda: len(client.of_type("Error")) == 2)
        for message in client.messages:
            model = DEEPGRAM_TYPES[message["type"]].model_validate(message)
            assert unknown_fields(model) == set(), message
        assert {message["type"] for message in client.messages} == {
            "Welcome",
            "SettingsApplied",
            "ConversationText",
            "AgentStartedSpeaking",
            "AgentAudioDone",
            "UserStartedSpeaking",
            "FunctionCallRequest",
            "PromptUpdated",
            "Warning",
            "Error",
        }


# It looks up a deprecated exception as it connects.
@pytest.mark.filterwarnings("ignore:websockets\\.:DeprecationWarning")
async def test_client_of_deepgram_has_a_conversation():
    async with AgentService(protocol="deepgram", behaviour=silent) as service:
        address = service.ws_url.removesuffix("/v1/agent/converse")
        environment = DeepgramClientEnvironment(
            base=service.url, production=address, agent=address, agent_rest=service.url
        )
        deepgram = AsyncDeepgramClient(api_key=service.account.key, environment=environment)
        async with deepgram.agent.v1.connect() as connection:
            session = await service.next_session()
            assert (await connection.recv()).type == "Welcome"
            mulaw = {"encoding": "mulaw", "sample_rate": 8000}
            settings = {"audio": {"input": mulaw, "output": {**mulaw, "container": "none"}}, "agent": {}}
            await connection.send_settings(AgentV1Settings.model_validate(settings))
            assert (await connection.recv()).type == "SettingsApplied"
            await connection.send_media(b"a")
            await connection.send_keep_alive(AgentV1KeepAlive())
            await soon(lambda: session.keepalives)
            assert session.received_raw == [b"a"]
            await session.send_audio(b"b")
            while (await connection.recv()) != b"b":
                pass
            call_id = await session.send_function_call("transfer", {})
            response = {"id": call_id, "name": "transfer", "content": "ok"}
            await connection.send_function_call_response(
                AgentV1SendFunctionCallResponse.model_validate(response)
            )
            await soon(lambda: session.function_outputs)
        await asyncio.wait_for(session.closed.wait(), DEADLINE_S)
        assert session.violations == service.violations == []


class Ears(AsyncAudioInterface):
    """The caller's end of ElevenLabs' own client."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.interrupts = 0

    async def start(self, input_callback):
        await input_callback(b"a")

    async def stop(self):
        pass

    async def output(self, audio):
        self.heard.append(audio)

    async def interrupt(self):
        self.interrupts += 1


@pytest.fixture
def http():
    # Their client would leave its own connections open.
    with httpx.Client() as client:
        yield client


@pytest.mark.parametrize("is_signed", [True, False])
async def test_client_of_elevenlabs_has_a_conversation(is_signed, http):
    async def transfer(parameters):
        return f"to {parameters['to']}"

    ears, latencies, disconnections = Ears(), [], []

    async def on_latency(ms):
        latencies.append(ms)

    async def on_disconnect(details):
        disconnections.append(details.reason)

    # It sends the key for signed URLs alone.
    key = "key_standin" if is_signed else ""
    async with AgentService(protocol="elevenlabs", behaviour=silent, account=Account(key=key)) as service:
        tools = ClientTools(loop=asyncio.get_running_loop())
        tools.register("transfer", transfer, is_async=True)
        conversation = AsyncConversation(
            ElevenLabs(api_key="key_standin", base_url=service.url, httpx_client=http),
            service.account.agent_id,
            requires_auth=is_signed,
            audio_interface=ears,
            client_tools=tools,
            callback_latency_measurement=on_latency,
            callback_disconnect=on_disconnect,
        )
        await conversation.start_session()
        session = await service.next_session()
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        assert session.received_raw == [b"a"]
        assert session.messages[0]["source_info"]["source"] == "python_sdk"
        await session.send_audio(b"b" * 160)
        await session.send_interrupt()
        await session.send_audio(b"c" * 160)
        await soon(lambda: len(ears.heard) >= 2)
        # Its own rule of event ids drops what is stale.
        assert len(session.stale) == 3 and STALE_FRAME not in ears.heard
        assert ears.heard == [b"b" * 160, b"c" * 160] and ears.interrupts == 1
        await session.send_ping()
        await soon(lambda: len(session.pongs) == 1)
        await session.send_ping()
        await soon(lambda: latencies == [50])
        await session.send_tool_call("transfer", {"to": "+1"})
        await soon(lambda: session.tool_results)
        assert session.tool_results[0].result == "to +1" and not session.tool_results[0].is_error
        await session.send_call_ended()
        assert await asyncio.wait_for(conversation.wait_for_session_end(), DEADLINE_S) == session.call_id
        assert disconnections == ["agent"]
        assert session.violations == service.violations == []


def test_audio_formats_are_among_those_of_elevenlabs():
    for formats in (AsrInputFormat, TtsOutputFormat):
        assert FORMATS.keys() <= set(typing.get_args(typing.get_args(formats)[0]))


async def test_registered_phone_call_is_of_retells_type():
    async with AgentService(protocol="retell-sip") as service:
        async with AsyncRetell(api_key=service.account.key, base_url=service.url, max_retries=0) as retell:
            call = await retell.call.register_phone_call(
                agent_id=service.account.agent_id,
                direction="inbound",
                from_number="+1",
                to_number="+2",
                metadata={"callSid": "CA1"},
                retell_llm_dynamic_variables={"name": "Ada"},
            )
        assert call.call_id in service.sessions and call.call_status == "registered"
        headers = {"Authorization": f"Bearer {service.account.key}"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                service.url + "/v2/register-phone-call", json=service.requests[0], headers=headers
            ) as response,
        ):
            assert response.status == 201
            text = await response.text()
        assert unknown_fields(PhoneCallResponse.model_validate(json.loads(text))) == set()
        assert service.violations == []
