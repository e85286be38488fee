"""The stand-in agent service as OpenAI's GPT-Live: its messages, and its list of violations."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest
from standins_client import DEADLINE_S, OpenAiLive, connected, one_violation, refused, soon

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import Faults
from bridge.standins.agent.protocols.openai_live_events import APPEND_TOKENS
from bridge.standins.agent.service import AgentService

START = OpenAiLive.start
APPEND = {"type": "session.instructions.append", "delegation_id": None, "content": "Greet."}


def start_with(path: str, value: Any) -> dict[str, Any]:
    """The start of a session with one field changed or added."""
    message = copy.deepcopy(START)
    place = message["session"]
    *parents, last = path.split(".")
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return message


@pytest.mark.parametrize(
    ("message", "violation"),
    [
        ({"type": "session.input_audio.append", "audio": "YQ=="}, "before session.started"),
        (APPEND, "before session.started"),
        ({"type": "session.close"}, "before session.started"),
        ({"type": "input_audio_buffer.append", "audio": "YQ=="}, "unknown event"),
        ({**START, "model": "x"}, "Unknown parameter: 'model'"),
        (start_with("turn_detection", None), "Unknown parameter: 'session.turn_detection'"),
        (start_with("audio.output.format", {}), "Unknown parameter: 'session.audio.output.format'"),
        (start_with("delegation.responses.tools", [{"x": 1}]), "responses.tools.x"),
        (start_with("audio.format", {"type": "audio/pcm", "rate": 24000}), "audio.format"),
        (start_with("model", ""), "session.model is missing"),
        (start_with("delegation", {"type": "client"}), "delegation"),
        ({"type": "session.start", "session": {"model": "m"}}, "KeyError"),
    ],
)
async def test_session_starts_with_what_the_service_knows_and_nothing_comes_before(message, violation):
    async with connected("openai-live", behaviour=silent, greets=False, violates=True) as (client, session):
        await client.socket.send_json(message)
        await one_violation(session, violation)
        await soon(lambda: client.of_type("error"))
        assert not client.of_type("session.started") and session.received == []
        await client.socket.send_json(START)
        await soon(lambda: client.of_type("session.started"))
        [started] = client.of_type("session.started")
        assert started["session"].items() >= START["session"].items()
        await client.say(b"a")
        await soon(lambda: session.received)


async def test_audio_while_the_session_is_being_started_is_a_violation():
    options = {"behaviour": silent, "greets": False, "violates": True, "faults": Faults(ready_delay_s=0.2)}
    async with connected("openai-live", **options) as (client, session):
        await client.socket.send_json(START)
        await client.say(b"a")
        await one_violation(session, "before session.started")


async def test_socket_needs_the_key_and_no_query():
    async with AgentService(protocol="openai-live") as service:
        key = {"Authorization": "Bearer key_standin"}
        await refused(service, service.ws_url, 401)
        await refused(service, service.ws_url + "?model=m", 400, **key)


async def test_append_takes_effect_with_the_next_audio():
    async with connected("openai-live", behaviour=silent) as (client, session):
        await client.socket.send_json(APPEND)
        await soon(lambda: session.appended == [("instructions", "Greet.")])
        assert not client.of_type("session.instructions.appended")
        await client.say(b"a")
        await soon(lambda: client.of_type("session.instructions.appended"))


@pytest.mark.parametrize(
    ("changed", "violation"),
    [
        ({"content": "a" * (APPEND_TOKENS + 1)}, "more than 500 tokens"),
        ({"content": ""}, "no text"),
        ({"content": ["a"]}, "no text"),
        ({"delegation_id": "d"}, "delegation_id is not null"),
        ({"role": "user"}, "Unknown parameter: 'role'"),
    ],
)
async def test_append_is_a_text_of_500_tokens_at_most(changed, violation):
    async with connected("openai-live", behaviour=silent, violates=True) as (client, session):
        await client.socket.send_json({**APPEND, "content": "a" * APPEND_TOKENS})
        await soon(lambda: session.appended)
        assert session.violations == []
        await client.socket.send_json({**APPEND, **changed})
        await one_violation(session, violation)


def result(of_call: str, **changed: Any) -> dict[str, Any]:
    item = {"type": "function_call_output", "call_id": of_call, "output": "{}", **changed}
    return {"type": "response.item.create", "item": item}


async def test_delegated_work_goes_on_once_all_results_are_there():
    async with connected("openai-live", behaviour=silent) as (client, session):
        calls = await session.begin_work(("one", {"a": 1}), ("two", {}))
        await soon(lambda: len(client.of_type("response.event")) == 7)
        assert client.of_type("session.delegation.created")[0]["delegation"]["target"] == "responses"
        nested = [message["event"] for message in client.of_type("response.event")]
        items = [event["item"] for event in nested if event["type"] == "response.output_item.done"]
        assert [(item["call_id"], item["name"]) for item in items] == [(calls[0], "one"), (calls[1], "two")]
        assert json.loads(items[0]["arguments"]) == {"a": 1}
        for call_id in calls:
            await client.socket.send_json(result(call_id))
        await soon(lambda: session.function_outputs == [(call_id, "{}") for call_id in calls])
        await session.end_work()
        await client.socket.send_json({"type": "response.create"})
        await soon(lambda: session.responses == 1)


@pytest.mark.parametrize(
    ("is_answered", "is_complete", "violation"),
    [
        (False, True, "function calls have no results"),
        (True, False, "a response is under way"),
        (None, True, "nothing to go on with"),
    ],
)
async def test_work_that_cannot_go_on_is_refused(is_answered, is_complete, violation):
    async with connected("openai-live", behaviour=silent, violates=True) as (client, session):
        calls = await session.begin_work(*([] if is_answered is None else [("one", {})]))
        for call_id in calls if is_answered else ():
            await client.socket.send_json(result(call_id))
            await soon(lambda: session.function_outputs)
        if is_complete:
            await session.end_work()
        await client.socket.send_json({"type": "response.create"})
        await one_violation(session, violation)
        assert session.responses == 0


@pytest.mark.parametrize("changed", [{"call_id": "other"}, {"output": {}}, {"type": "message"}, {"x": 1}])
async def test_result_of_no_call_is_a_violation(changed):
    async with connected("openai-live", behaviour=silent, violates=True) as (client, session):
        [call_id] = await session.begin_work(("one", {}))
        await client.socket.send_json(result(call_id, **changed))
        await soon(lambda: len(session.violations) == 1)


async def test_session_is_closed_with_what_it_costs_and_takes_nothing_after():
    async with connected("openai-live", behaviour=silent, violates=True) as (client, session):
        await session.send_usage()
        await client.socket.send_json({"type": "session.close"})
        await soon(lambda: client.of_type("session.closed"))
        [closed] = client.of_type("session.closed")
        assert (closed["reason"], closed["usage"]) == ("close_requested", {"seconds": 1})
        assert (session.closed_reason, session.billed_s) == ("close_requested", 1)
        assert client.of_type("session.usage.updated")[0]["usage"] == {"seconds": 1}
        assert not client.closed.is_set()
        await client.say(b"a")
        await one_violation(session, "after session.close")


async def test_session_that_ends_by_itself_says_why_and_closes():
    async with connected("openai-live", behaviour=silent) as (client, session):
        await session.send_closed("expired")
        await asyncio.wait_for(client.closed.wait(), DEADLINE_S)
        assert client.of_type("session.closed")[0]["reason"] == "expired"


async def test_model_streams_silence_while_it_says_nothing_if_it_is_asked_to():
    options = {"behaviour": silent, "greets": False}
    async with connected("openai-live", **options) as (client, session):
        session.streams_silence = True
        await client.greet()
        await soon(lambda: len(client.audio) >= 3)
        assert set(b"".join(client.audio)) == {0xFF}
        assert session.sent == []


async def test_transcripts_come_in_fragments():
    async with connected("openai-live", behaviour=silent) as (client, session):
        await session.send_heard("When do you open?")
        await session.send_said("At nine.")
        await soon(lambda: client.of_type("session.output_transcript.delta")[1:])
        heard = client.of_type("session.input_transcript.delta")
        assert [message["delta"] for message in heard] == ["When", " do", " you", " open?"]
        assert all(type(message["start_ms"]) is int for message in heard)
