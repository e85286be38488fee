"""Agents that Twilio dials: the TwiML that sends a call to one, and what comes after it."""

import asyncio
from dataclasses import replace
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import until
from webhook_bench import (
    BASE,
    CALL,
    FALLBACK,
    OTHER_CALL,
    RINGING,
    SETTINGS,
    STREAM,
    Bench,
    parameters_of,
    sign,
    twilio,
    verbs,
    with_call_sid,
)

from bridge.agents.agent import SessionError
from bridge.call.ends import Outcome
from bridge.http.messages import Response
from bridge.server.registry import Phase
from bridge.twilio.tokens import ResumeState, Tokens

DIAL = ["Dial"]
HANGUP = ["Hangup"]
NOT_REACHED = ["busy", "failed", "no-answer", "canceled"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def bench() -> Bench:
    """Two agents that are dialled, then one with a socket."""
    return bench_of("sip", "sip-2", "media")


def bench_of(*names: str, **overrides: str) -> Bench:
    bench = Bench(**overrides)
    bench.sessions.names = names
    bench.sessions.dialled = {name for name in names if name.startswith("sip")}
    return bench


def dial_of(response: Response) -> tuple[dict[str, str], str]:
    """The attributes of a Dial, and the address in it."""
    assert verbs(response) == DIAL
    (dial,) = ElementTree.fromstring(response.body)
    (sip,) = dial
    assert sip.tag == "Sip"
    return dial.attrib, sip.text


def action_of(response: Response) -> str:
    """The query of a Dial's action."""
    action = urlsplit(dial_of(response)[0]["action"])
    assert f"{action.scheme}://{action.netloc}{action.path}" == BASE + "/voice/dialled"
    assert action.fragment == "rc=2&rp=ct,5xx&ct=2000"
    return action.query


async def dialled(bench: Bench, query: str, status: str, call_sid: str = CALL, **changes: str) -> Response:
    """Return the answer to Twilio after a Dial; ``changes`` replace fields of the form."""
    form = {**dict(with_call_sid(call_sid)), "CallStatus": "in-progress", "DialCallStatus": status, **changes}
    return await bench.webhooks.dialled(twilio("/voice/dialled", list(form.items()), query=query))


def state_for(call_sid: str, *agents: str, tokens: Tokens) -> str:
    return f"s={tokens.seal_resume(ResumeState(call_sid, 0, 0, list(agents)))}"


# To the agent


async def test_call_is_dialled_and_its_caller_hears_ringing_until_the_agent_answers():
    bench = bench_of("sip", BRIDGE_DIAL_S="12.4")
    attributes, address = dial_of(await bench.voice())
    assert address == "sip:id1@sip.example"
    action = attributes.pop("action")
    assert attributes == {"answerOnBridge": "true", "timeout": "12", "method": "POST"}
    assert action.startswith(BASE + "/voice/dialled?s=")
    state = bench.tokens.open_resume(action.partition("?s=")[2].partition("#")[0])
    assert (state.call_sid, state.agents) == (CALL, [])


async def test_those_after_the_dialled_one_ride_in_its_action(bench):
    query = action_of(await bench.voice())
    assert bench.tokens.open_resume(query.removeprefix("s=")).agents == ["sip-2", "media"]


async def test_same_call_again_gets_the_same_twiml_and_no_second_session(bench):
    first = await bench.voice()
    assert (await bench.voice()).body == first.body
    assert len(bench.asked) == 1


async def test_same_call_in_parallel_gets_one_session(bench):
    bench.gate.clear()
    asked = [asyncio.create_task(bench.voice()) for _ in range(20)]
    await until(lambda: bench.asked)
    bench.gate.set()
    assert len({response.body for response in await asyncio.gather(*asked)}) == 1
    assert len(bench.asked) == 1


async def test_dialled_call_takes_no_place():
    bench = bench_of("sip", BRIDGE_MAX_CALLS="1")
    for n in range(3):
        assert verbs(await bench.voice(f"CA{n:032x}")) == DIAL
    assert (bench.calls.live, bench.calls.admitted) == (0, 0)
    bench.sessions.dialled.clear()
    assert verbs(await bench.voice()) == STREAM
    assert verbs(await bench.voice(OTHER_CALL)) == ["Reject"]


async def test_call_that_ends_while_its_session_is_opened_is_not_dialled(bench):
    bench.gate.clear()
    asking = asyncio.ensure_future(bench.voice())
    await until(lambda: bench.asked)
    await bench.webhooks.voice_status(twilio("/voice/status", [*RINGING[:2], ("CallStatus", "canceled")]))
    bench.gate.set()
    assert verbs(await asking) == HANGUP


# After it


@pytest.mark.parametrize("status", ["completed", "answered"])
async def test_conversation_that_is_over_is_hung_up(bench, status):
    query = action_of(await bench.voice())
    assert verbs(await dialled(bench, query, status)) == HANGUP
    assert len(bench.asked) == 1


@pytest.mark.parametrize("status", NOT_REACHED)
async def test_agent_that_is_not_reached_is_followed_by_the_next(bench, status):
    query = action_of(await bench.voice())
    second = await dialled(bench, query, status, From="+15551234567", To="+14155550100")
    assert dial_of(second)[1] == "sip:id2@sip-2.example"
    third = await dialled(bench, action_of(second), status)
    assert verbs(third) == STREAM
    token = bench.tokens.open_media(parameters_of(third))
    assert (token.call_sid, token.session["agents"], token.session["credentials"]["call_id"]) == (
        CALL,
        ["media"],
        "id3",
    )
    assert bench.sessions.tried == [("sip", "sip-2", "media"), ("sip-2", "media"), ("media",)]
    assert (bench.asked[1].from_number, bench.asked[1].to_number) == ("+15551234567", "+14155550100")


async def test_agent_after_a_dialled_one_gets_the_values_of_the_first_webhook(bench):
    bench.sessions.used = {"param.tenant"}
    first = await bench.webhooks.voice(twilio("/voice", RINGING, query="tenant=acme"))
    second = await dialled(bench, action_of(first), "busy")
    third = await dialled(bench, action_of(second), "busy")
    assert [call.values["param.tenant"] for call in bench.asked] == 3 * ["acme"]
    assert bench.tokens.open_media(parameters_of(third)).session["values"] == {"param.tenant": "acme"}


async def test_media_agent_that_follows_takes_a_place_and_can_be_claimed(bench):
    bench.sessions.names = ("sip", "media")
    response = await dialled(bench, action_of(await bench.voice()), "busy")
    assert bench.calls.admitted == 1
    known = bench.calls.find(CALL)
    assert (known.phase, known.outcome, known.session.agents) == (Phase.ADMITTED, None, ("media",))
    assert (await bench.voice()).status == 200
    assert bench.tokens.open_media(parameters_of(response)).media_id == known.media_id


@pytest.mark.parametrize("status", NOT_REACHED)
async def test_last_agent_that_is_not_reached_gives_the_fallback(status):
    bench = bench_of("sip")
    assert verbs(await dialled(bench, action_of(await bench.voice()), status)) == FALLBACK
    assert bench.refused("not_answered") == 1


@pytest.mark.parametrize("error", [SessionError("status 500"), KeyError("an internal fault")])
async def test_next_agent_without_a_session_gives_the_fallback(bench, logs, error):
    query = action_of(await bench.voice())

    def fail() -> dict[str, str]:
        raise error

    bench.answer = fail
    assert verbs(await dialled(bench, query, "failed")) == FALLBACK
    assert len(logs.faults()) == (not isinstance(error, SessionError))
    assert bench.calls.admitted == 0
    assert bench.calls.find(CALL) is None
    logs.records.clear()


async def test_process_that_does_not_know_the_call_tries_the_next_agent(bench):
    query = action_of(await bench.voice())
    other = bench_of("sip", "sip-2", "media")
    assert dial_of(await dialled(other, query, "no-answer"))[1] == "sip:id1@sip-2.example"


@pytest.mark.parametrize("status", NOT_REACHED)
@pytest.mark.parametrize("call_status", ["completed", "canceled", "no-answer"])
async def test_caller_who_hung_up_while_it_rang_costs_no_further_session(bench, status, call_status):
    query = action_of(await bench.voice())
    assert verbs(await dialled(bench, query, status, CallStatus=call_status)) == HANGUP
    assert len(bench.asked) == 1


async def test_asked_again_it_answers_the_same_dial_and_opens_no_second_session(bench):
    query = action_of(await bench.voice())
    second = await dialled(bench, query, "busy")
    assert (await dialled(bench, query, "busy")).body == second.body
    assert len(bench.asked) == 2


async def test_asked_again_it_answers_the_stream_of_the_same_session(bench):
    bench.sessions.names = ("sip", "media")
    query = action_of(await bench.voice())
    answers = [await dialled(bench, query, "busy") for _ in range(2)]
    tokens = [bench.tokens.open_media(parameters_of(response)) for response in answers]
    assert replace(tokens[0], answered_at=tokens[1].answered_at) == tokens[1]
    assert len(bench.asked) == 2


async def test_asked_in_parallel_it_opens_one_session():
    bench = bench_of("sip", "media", BRIDGE_MAX_CALLS="1")
    query = action_of(await bench.voice())
    bench.gate.clear()
    asked = [asyncio.create_task(dialled(bench, query, "busy")) for _ in range(20)]
    await until(lambda: len(bench.asked) == 2)
    bench.gate.set()
    tokens = [bench.tokens.open_media(parameters_of(response)) for response in await asyncio.gather(*asked)]
    assert len({token.media_id for token in tokens}) == 1
    assert len(bench.asked) == 2


async def test_asked_again_after_the_next_agents_call_is_over_it_hangs_up(bench):
    bench.sessions.names = ("sip", "media")
    query = action_of(await bench.voice())
    await dialled(bench, query, "busy")
    bench.calls.finish(CALL, Outcome.ENDED, 0.0)
    assert verbs(await dialled(bench, query, "busy")) == HANGUP
    assert len(bench.asked) == 2


async def test_next_agent_of_a_full_bridge_is_the_fallback():
    bench = bench_of("sip", "media", BRIDGE_MAX_CALLS="1")
    query = action_of(await bench.voice())
    bench.sessions.names = ("media",)
    await bench.go_live(OTHER_CALL)
    assert verbs(await dialled(bench, query, "busy")) == FALLBACK
    assert bench.refused("full") == 1
    bench.calls.finish(OTHER_CALL, Outcome.ENDED, 0.0)
    assert verbs(await dialled(bench, query, "busy")) == STREAM


# What is not believed


async def test_state_that_is_not_this_calls_gives_the_fallback_and_opens_nothing(bench):
    good = action_of(await bench.voice())
    others = state_for(CALL, "media", tokens=Tokens(["other"], 60))
    another = state_for(OTHER_CALL, "media", tokens=bench.tokens)
    media = bench.tokens.seal_media(bench.tokens.open_media(parameters_of(await bench_of("media").voice())))[
        "token"
    ]
    for query in (another, others, f"s={media}", good[:-2], f"{good}&{good}", "", "s=", "s=%ff", "x=1"):
        assert verbs(await dialled(bench, query, "busy")) == FALLBACK
    assert len(bench.asked) == 1
    assert bench.calls.find(CALL).outcome is Outcome.DIALLED


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"x_twilio_signature": None}, 403),
        ({"x_twilio_signature": "x" * 28}, 403),
        ({"x_twilio_signature": sign(BASE + "/voice/dialled", RINGING)}, 403),
        ({"content_type": "application/json"}, 415),
    ],
)
async def test_request_that_is_not_twilios_is_refused(bench, changes, status):
    query = action_of(await bench.voice())
    request = twilio("/voice/dialled", RINGING, query=query, **changes)
    assert (await bench.webhooks.dialled(request)).status == status
    assert len(bench.asked) == 1


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from([*NOT_REACHED, "completed"]),
    st.lists(st.sampled_from(["sip", "sip-2", "media"]), max_size=3),
)
def test_whatever_became_of_the_dial_the_answer_is_twiml(status, agents):
    """Any DialCallStatus with any chain is answered with TwiML and status 200."""

    async def ask() -> Response:
        bench = bench_of("sip", *agents)
        return await dialled(bench, action_of(await bench.voice()), status)

    assert verbs(asyncio.run(ask())) in (HANGUP, FALLBACK, STREAM, DIAL)
