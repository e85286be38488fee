"""The stand-in agent service as the OpenAI Realtime API: its messages, and its list of violations."""

import asyncio
import json

import pytest
from standins_client import DEADLINE_S, OpenAI, connected, one_violation, refused, soon

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import Faults
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import STALE_FRAME

PCM_24K = {"type": "audio/pcm", "rate": 24000}
PCMU = {"type": "audio/pcmu"}


def format_update(side: str, audio_format: dict) -> dict:
    update = json.loads(json.dumps(OpenAI.update))
    update["session"]["audio"][side]["format"] = audio_format
    return update


@pytest.mark.parametrize(
    ("message", "violation"),
    [
        ({"type": "input_audio_buffer.append", "audio": "YQ=="}, "audio before session.updated"),
        ({"type": "response.create"}, "response.create before session.update"),
        ({"type": "session.update", "session": {"type": "transcription"}}, "session.type"),
        ({"type": "session.update", "session": {"type": "realtime"}}, "audio.input.format"),
        (format_update("input", PCM_24K), "audio.input.format"),
        (format_update("output", PCM_24K), "audio.output.format"),
        (format_update("output", PCMU | {"rate": 8000}), "audio.output.format"),
        ({"type": "session.update"}, "KeyError"),
    ],
)
async def test_openai_wants_a_session_of_mulaw_first(message, violation):
    async with connected("openai", behaviour=silent, greets=False, violates=True) as (client, session):
        await client.socket.send_json(message | {"event_id": "mine"})
        await one_violation(session, violation)
        await soon(lambda: client.of_type("error"))
        assert violation in client.of_type("error")[0]["error"]["message"]
        assert client.of_type("error")[0]["error"]["event_id"] == "mine"
        assert not client.of_type("session.updated") and session.received == []
        await client.greet()
        await soon(lambda: client.of_type("session.updated"))
        (updated,) = client.of_type("session.updated")
        assert updated["session"]["audio"]["input"]["format"] == PCMU
        assert (
            updated["session"]["instructions"] == "Be brief."
            and updated["session"]["model"] == "gpt-realtime-2.1"
        )
        await client.say(b"a")
        await soon(lambda: session.received)
        assert len(session.violations) == 1


async def test_openai_audio_while_the_session_is_being_made_is_a_violation():
    options = {"behaviour": silent, "greets": False, "violates": True, "faults": Faults(ready_delay_s=0.2)}
    async with connected("openai", **options) as (client, session):
        await client.socket.send_json(client.update)
        await client.say(b"a")
        await one_violation(session, "audio before session.updated")
        await soon(lambda: client.of_type("session.updated"))
        await client.say(b"b")
        await soon(lambda: session.received)
        assert session.received_raw == [b"b"]


async def test_openai_refuses_without_the_key_or_a_model():
    async with AgentService(protocol="openai") as service:
        key = {"Authorization": "Bearer key_standin"}
        await refused(service, service.ws_url + "?model=m", 401)
        await refused(service, service.ws_url + "?model=m", 401, Authorization="Bearer wrong")
        await refused(service, service.ws_url, 400, **key)


async def test_openai_deltas_of_the_old_item_follow_an_interrupt():
    async with connected("openai", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await session.send_audio(b"a" * 160)
        await client.say(b"c" * 800)
        await soon(lambda: session.received)
        await session.send_interrupt()
        await session.send_audio(b"b" * 160)
        await soon(lambda: client.audio and client.audio[-1] == b"b" * 160)
        old, new = session.items
        (started,) = client.of_type("input_audio_buffer.speech_started")
        assert started["audio_start_ms"] == 100 and started["item_id"] not in session.items
        deltas = client.of_type("response.output_audio.delta")
        assert [delta["item_id"] for delta in deltas] == [old] * 4 + [new]
        assert client.audio == [b"a" * 160, STALE_FRAME, STALE_FRAME, STALE_FRAME, b"b" * 160]
        assert session.stale == [STALE_FRAME] * 3
        assert [item.audio for item in session.sent] == [b"a" * 160, b"b" * 160]
        types = [message["type"] for message in client.messages]
        first = types.index("response.output_audio.delta")
        interrupted = types.index("input_audio_buffer.speech_started")
        done = types.index("response.done")
        assert first < interrupted < done < types.index("response.created", done)
        assert client.of_type("response.done")[0]["response"]["status"] == "cancelled"
        assert session.items[old].sent_ms == 80 and session.items[new].sent_ms == 20


async def test_openai_without_stale_frames_sends_nothing_after_an_interrupt():
    async with connected("openai", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        session.stale_frames = 0
        await session.send_audio(b"a")
        await session.send_interrupt()
        await soon(lambda: client.of_type("response.done"))
        assert client.audio == [b"a"]


async def test_openai_utterance_ends_after_a_pause_and_the_next_is_another_item():
    async with connected("openai", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        session.turn_pause_s = 0.05
        await session.send_audio(b"a")
        await session.send_audio(b"b")
        await soon(lambda: client.of_type("response.done"))
        assert client.of_type("response.done")[0]["response"]["status"] == "completed"
        await session.send_audio(b"c")
        await session.begin_turn()
        await session.send_audio(b"d")
        await soon(lambda: len(client.of_type("response.done")) == 3)
        items = [delta["item_id"] for delta in client.of_type("response.output_audio.delta")]
        assert items[0] == items[1] and len(set(items)) == 3
        responses = [delta["response_id"] for delta in client.of_type("response.output_audio.delta")]
        assert len(set(responses)) == 3


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({}, None),
        ({"audio_end_ms": 0}, None),
        ({"audio_end_ms": 41}, "of 40.0 ms"),
        ({"audio_end_ms": -1}, "audio_end_ms is -1"),
        ({"audio_end_ms": 10.5}, "audio_end_ms is 10.5"),
        ({"content_index": 1}, "no content 1"),
        ({"item_id": "item_x"}, "no item"),
    ],
)
async def test_openai_truncates_no_more_than_was_sent(changes, violation):
    async with connected("openai", behaviour=silent, violates=violation is not None) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        session.stale_frames = 0
        await session.send_audio(b"a" * 320)
        await session.send_interrupt()
        (item_id,) = session.items
        message = {"item_id": item_id, "content_index": 0, "audio_end_ms": 40} | changes
        await client.socket.send_json({"type": "conversation.item.truncate", **message})
        await soon(lambda: client.of_type("conversation.item.truncated", "error"))
        assert session.truncates == [tuple(message.values())]
        if violation is None:
            (truncated,) = client.of_type("conversation.item.truncated")
            assert message.items() <= truncated.items()
        else:
            await one_violation(session, violation)
            assert violation in client.of_type("error")[0]["error"]["message"]


async def test_openai_function_call_takes_its_output_once():
    async with connected("openai", behaviour=silent, violates=True) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        call_id = await session.send_function_call("transfer", {"to": "+1"})
        await soon(lambda: client.of_type("response.done"))
        (done,) = client.of_type("response.function_call_arguments.done")
        assert (done["name"], done["call_id"]) == ("transfer", call_id)
        assert json.loads(done["arguments"]) == {"to": "+1"}
        (item,) = client.of_type("response.output_item.done")
        assert item["item"]["type"] == "function_call" and item["item"]["arguments"] == done["arguments"]
        output = {"type": "function_call_output", "call_id": call_id, "output": "{}"}
        await client.socket.send_json({"type": "conversation.item.create", "item": output})
        await soon(lambda: session.function_outputs == [(call_id, "{}")])
        await soon(lambda: client.of_type("conversation.item.done"))
        assert session.violations == []
        await client.socket.send_json({"type": "conversation.item.create", "item": output})
        await one_violation(session, "is waiting for its output")


async def test_openai_calls_and_words_of_one_response_are_in_it():
    async with connected("openai", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await session.send_function_call("hang_up", {}, is_last=False)
        await session.send_audio(b"a")
        await session.send_function_call("other", {}, is_last=False)
        await session.end_turn()
        await soon(lambda: client.of_type("response.done"))
        assert len(client.of_type("response.created")) == len(client.of_type("response.done")) == 1
        [response_id] = {message["response_id"] for message in client.messages if "response_id" in message}
        assert client.of_type("response.done")[0]["response"]["id"] == response_id


async def test_openai_makes_one_response_at_a_time():
    async with connected("openai", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await session.send_audio(b"a")
        await client.socket.send_json({"type": "response.create", "event_id": "mine"})
        await soon(lambda: client.of_type("error"))
        [error] = client.of_type("error")
        assert error["error"]["code"] == "conversation_already_has_active_response"
        assert error["error"]["event_id"] == "mine"
        assert (session.refused_requests, session.asked_to_speak) == (1, 0)
        await session.end_turn()
        await client.socket.send_json({"type": "response.create"})
        await soon(lambda: session.asked_to_speak == 1)


async def test_openai_fails_the_responses_that_it_is_asked_to_fail():
    problem = {"type": "server_error", "code": None, "message": "Sorry."}
    async with connected("openai", behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        session.failures.append(problem)
        await client.socket.send_json({"type": "response.create"})
        await soon(lambda: client.of_type("response.done"))
        [done] = client.of_type("response.done")
        assert done["response"]["status"] == "failed"
        assert done["response"]["status_details"] == {"type": "failed", "error": problem}
        await client.socket.send_json({"type": "response.create"})
        await soon(lambda: session.asked_to_speak == 2)


async def test_openai_truncates_no_item_without_audio():
    async with connected("openai", behaviour=silent, violates=True) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await session.begin_turn()
        (item_id,) = session.items
        where = {"item_id": item_id, "content_index": 0, "audio_end_ms": 0}
        await client.socket.send_json({"type": "conversation.item.truncate", **where})
        await one_violation(session, "Only model output audio messages can be truncated")


async def test_openai_refuses_truncates_and_confirms_another_format_if_it_should():
    async with connected("openai", behaviour=silent, greets=False) as (client, session):
        session.confirmed_format, session.refuses_truncates = PCM_24K, True
        await client.greet()
        await soon(lambda: client.of_type("session.updated"))
        (updated,) = client.of_type("session.updated")
        assert [updated["session"]["audio"][side]["format"] for side in ("input", "output")] == [PCM_24K] * 2
        where = {"item_id": "x", "content_index": 0, "audio_end_ms": 0}
        await client.socket.send_json({"type": "conversation.item.truncate", **where})
        await soon(lambda: client.of_type("error"))
        assert client.of_type("error")[0]["error"]["code"] == "unsupported_content_type"
