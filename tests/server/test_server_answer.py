"""Calls that the user's answer webhook decides, on real sockets: who takes them, with which values, asked once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from aiohttp import web
from live import PLAIN_AND_TLS, Live, soon, until
from user_side import UserSide, user_side

from bridge.standins.agent.faults import HttpAnswer

pytestmark = PLAIN_AND_TLS

STREAM = ["Connect", "Redirect"]
FALLBACK = ["Say", "Hangup"]

Start = Callable[..., Awaitable[Live]]


@pytest.fixture
async def user(tls) -> AsyncIterator[UserSide]:
    async with user_side(tls) as user:
        yield user


@pytest.fixture
def start(user: UserSide, live_server: Any, tmp_path: Path) -> Start:
    """Starts a bridge that asks the user's webhook, and whose routes lead to the agent `user`."""

    async def start_one(**overrides: Any) -> Live:
        return await live_server(**{**user.settings(tmp_path), "BRIDGE_AGENT": "user", **overrides})

    return start_one


def customer(text: str) -> dict[str, Any]:
    return {"values": {"customer": text}}


def warnings(logs) -> list[str]:
    return [line for line in logs.lines if line.startswith("WARNING") and "answer webhook" in line]


# Agents and values


async def test_disabled_agent_of_an_answer_is_passed_over_and_the_rest_of_the_answer_counts(
    start, user, tmp_path
):
    file = tmp_path / "user.toml"
    live = await start(BRIDGE_ANSWER_AGENTS="retell")
    file.write_text(file.read_text() + "[retell]\ndisabled = true\n")
    live.server.reload()
    user.answer = {"agents": ["retell", "user"], **customer("Zoë")}
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: user.hellos)
        assert user.hellos[0]["customer"] == "Zoë"
    assert live.agent.requests == []


async def test_agent_gets_the_values_of_the_answer(start, user):
    live = await start()
    user.answer = customer("Zoë")
    async with live.answered(caller="+4930123456") as caller:
        await caller.open_stream()
        await until(lambda: user.hellos)
        assert user.hellos == [{"customer": "Zoë", "call": caller.call_sid}]
        (question,) = user.questions
        assert user.ids == [caller.call_sid]
        assert (question["call_sid"], question["from"], question["to"], question["agents"]) == (
            caller.call_sid,
            "+4930123456",
            "+14155550100",
            ["user"],
        )
        assert (question["form"]["CallStatus"], question["param"]) == ("ringing", {})


async def test_parameters_of_the_webhooks_url_are_in_the_question(start, user):
    live = await start()
    async with live.caller() as caller:
        await caller.post_voice("/voice?tenant=a%20b")
        assert user.questions[0]["param"] == {"tenant": "a b"}


@pytest.mark.parametrize(
    "hostile",
    ["{env.ACME_KEY}", '{from}"},{"call":"x', "\\", "\x00\n\u2028\U0001f600", "{{x}}{value.customer!}"],
)
async def test_value_arrives_exactly_as_the_webhook_gave_it(start, user, hostile):
    live = await start(ACME_KEY="canary")
    user.answer = customer(hostile)
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: user.hellos)
        assert user.hellos == [{"customer": hostile, "call": caller.call_sid}]


async def test_agent_of_the_answer_takes_the_call_in_place_of_the_routes(start, user):
    live = await start(BRIDGE_AGENT="retell")
    user.answer = {"agents": ["user", "echo", "retell"], **customer("Zoë")}
    async with live.caller() as caller:
        # Nobody here knows the echo.
        assert (await caller.post_voice()).verbs == STREAM
        assert len(live.agent.sessions) == 1
    user.answer = {"agents": ["user", "retell"], **customer("Zoë")}
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: user.hellos)
    assert len(live.agent.sessions) == 1


async def test_agent_after_a_dialled_one_gets_the_values(start, user):
    live = await start(agent={"protocol": "retell-sip"}, BRIDGE_AGENT="retell-sip")
    user.answer = {"agents": ["retell-sip", "user"], **customer("Zoë")}
    async with live.caller() as caller:
        answer = await caller.post_voice()
        assert answer.verbs == ["Dial"]
        await dial_is_over(caller, answer, "busy")
        assert caller.answer.verbs == STREAM
        await caller.open_stream()
        await until(lambda: user.hellos)
        assert user.hellos == [{"customer": "Zoë", "call": caller.call_sid}]
        assert len(user.questions) == 1


async def test_session_that_takes_over_in_mid_call_gets_the_values(start, user):
    live = await start()
    user.answer, user.leaves = customer("Zoë"), 1
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: len(user.hellos) == 2)
        assert user.hellos == 2 * [{"customer": "Zoë", "call": caller.call_sid}]
        assert len(user.questions) == 1


async def dial_is_over(caller, answer, status: str) -> None:
    action = ElementTree.fromstring(answer.body).find("Dial").attrib["action"]
    form = caller._form(None, {"CallStatus": "in-progress", "DialCallStatus": status})
    caller.answer = await caller.post(action, form)


# Without an agent


@pytest.mark.parametrize(
    ("answer", "twiml"),
    [
        ({"dial": "+4930123456"}, "<Dial>+4930123456</Dial><Hangup />"),
        (
            {"say": "Wir <schließen>.", "language": "de-DE"},
            '<Say language="de-DE">Wir &lt;schließen&gt;.</Say><Hangup />',
        ),
        ({"say": "We are closed."}, "<Say>We are closed.</Say><Hangup />"),
        ({"reject": True}, '<Reject reason="rejected" />'),
        ({"reject": "busy"}, '<Reject reason="busy" />'),
    ],
)
async def test_answer_without_an_agent_is_twiml_that_stays_the_same(start, user, answer, twiml):
    # BRIDGE_TRANSFER_TO allows nothing: the number is the operator's own word.
    live = await start(BRIDGE_MAX_CALLS=1)
    user.answer = answer
    async with live.caller() as caller:
        assert f"<Response>{twiml}</Response>" in (await caller.post_voice()).body
        user.answer = {}
        assert f"<Response>{twiml}</Response>" in (await caller.post_voice()).body
        assert caller.answer.problems == []
        assert len(user.questions) == 1
    # It takes no place.
    assert live.admitted == 0
    assert user.hellos == []


@pytest.mark.parametrize(("status", "verbs"), [("completed", ["Hangup"]), ("no-answer", FALLBACK)])
async def test_sip_address_is_dialled_and_the_fallback_follows_where_it_does_not_answer(
    start, user, status, verbs
):
    live = await start()
    user.answer = {"dial": "sip:desk@pbx.example.com;transport=tls?x-a=1&x-b=2"}
    async with live.caller() as caller:
        answer = await caller.post_voice()
        assert (answer.verbs, answer.dial) == (["Dial"], user.answer["dial"])
        assert (await caller.post_voice()).body == answer.body
        await dial_is_over(caller, answer, status)
        assert caller.answer.verbs == verbs
    assert len(user.questions) == 1


# Failures


async def test_slow_answer_costs_its_bound_and_the_route_takes_the_call(start, user, logs):
    late = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await late.wait()
        return web.json_response({"reject": True})

    live = await start(limits={"answer_s": 0.2})
    user.answer = answer
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: user.hellos)
        late.set()
    assert user.hellos[0]["customer"] == ""
    (line,) = warnings(logs)
    assert "kind='timeout'" in line
    found = await live.metrics()
    assert found['bridge_answers_total{result="timeout"}'] == 1
    assert found['bridge_answers_total{result="used"}'] == 0


async def test_agent_without_a_session_gets_the_time_that_the_webhook_left(start, user, logs):
    late = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await late.wait()
        return web.Response()

    # The webhook may take half of it.
    live = await start(BRIDGE_SESSION_S=0.4, BRIDGE_AGENT="retell")
    live.agent.rest_answers.append(HttpAnswer(delay_s=1.0))
    user.answer = answer
    async with live.caller() as caller:
        assert (await caller.post_voice()).verbs == FALLBACK
        late.set()
    (line,) = [line for line in logs.lines if "agent unavailable" in line]
    (left_s,) = re.findall(r"no session within ([0-9.e-]+) s", line)
    assert float(left_s) <= 0.2


async def test_call_that_is_not_admitted_is_not_asked_about(start, user):
    live = await start(BRIDGE_MAX_CALLS=1)
    async with live.answered(), live.caller() as second:
        assert (await second.post_voice()).verbs == ["Reject"]
        live.server.drain()
        await soon(live.server.drained(0))
        assert (await second.post_voice()).verbs == FALLBACK
    assert len(user.questions) == 1


async def test_webhook_that_comes_again_after_a_failed_session_is_not_asked_about_again(start, user):
    live = await start(BRIDGE_AGENT="retell")
    live.refuse_sessions()
    user.answer = customer("Zoë")
    async with live.caller() as caller:
        assert (await caller.post_voice()).verbs == FALLBACK
        live.agent.rest_answers.clear()
        assert (await caller.post_voice()).verbs == STREAM
    assert len(user.questions) == 1
