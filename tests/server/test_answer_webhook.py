"""Questions to the user's webhook on real sockets: each way to fail, and what stays of an answer."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from certificates import Tls
from user_side import SECRET, UserSide, user_side

from bridge.agents.agent import CallInfo
from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.answer import Answer
from bridge.server.answer_webhook import ANSWER_MAX_BYTES, EMPTY, FAILURES, USED, AnswerWebhook
from bridge.server.events.standard_webhooks import WebhookSigner
from bridge.server.outgoing import client_tls, http_session
from bridge.server.store.answers import KeptAnswers
from bridge.server.store.breaker import Breaker
from bridge.server.store.memory import MemoryStore
from bridge.standins.process import free_port

DOCS = Path(__file__).parents[2] / "docs"
CALL_SID = "CA" + "2" * 32
CALL = CallInfo(
    CALL_SID,
    "+15551234567",
    "+14155550100",
    {"form.CallerName": "Zoë", "form.To": "+14155550100", "param.tenant": "acme"},
)
CHAIN = ("openai", "echo")
LONG_S, SHORT_S = 5.0, 0.2

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Process:
    """One process that asks."""

    def __init__(self, url: str, http: aiohttp.ClientSession, store: MemoryStore, answer_s: float) -> None:
        self.metrics = Metrics()
        kept = KeptAnswers(store, Breaker(store, self.metrics), Seal(["auth"]))
        self.webhook = AnswerWebhook(
            url,
            WebhookSigner([SECRET]),
            http,
            kept,
            {"openai", "front-desk"}.__contains__,
            self.metrics,
            time.monotonic,
            answer_s,
        )

    async def ask(self, info: CallInfo = CALL) -> Answer:
        return await self.webhook.answer_for(info, CHAIN)

    def results(self) -> dict[str, float]:
        """The results that were counted."""
        found = {result: self.count(result) for result in (USED, EMPTY, *FAILURES)}
        return {result: count for result, count in found.items() if count}

    def count(self, result: str) -> float | None:
        return self.metrics.registry.get_sample_value("bridge_answers_total", {"result": result})


@pytest.fixture
async def user() -> AsyncIterator[UserSide]:
    async with user_side() as user:
        yield user


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_session(client_tls(), 3600.0) as session:
        yield session


@pytest.fixture
def process(user, http) -> Process:
    return Process(f"{user.url}/answer", http, MemoryStore(), LONG_S)


def warnings(logs) -> list[str]:
    return [line for line in logs.lines if line.startswith("WARNING")]


async def test_question_has_the_call_and_the_agents_of_its_route(user, process):
    await process.ask()
    assert user.ids == [CALL_SID]
    assert user.questions == [
        {
            "type": "call.incoming",
            "call_sid": CALL_SID,
            "from": "+15551234567",
            "to": "+14155550100",
            "form": {"CallerName": "Zoë", "To": "+14155550100"},
            "param": {"tenant": "acme"},
            "agents": ["openai", "echo"],
        }
    ]


async def test_every_result_is_counted_from_zero_on(process):
    assert [process.count(result) for result in (USED, EMPTY, *FAILURES)] == 11 * [0.0]


async def test_answer_is_kept_for_this_process_and_the_others(user, http, logs):
    store = MemoryStore()
    first, second = (Process(f"{user.url}/answer", http, store, LONG_S) for _ in range(2))
    user.answer = {"agents": ["front-desk"], "values": {"customer": "Zoë"}}
    answer = Answer(agents=("front-desk",), values={"customer": "Zoë"})
    assert [await each.ask() for each in (first, first, second)] == [answer, answer, answer]
    assert len(user.questions) == 1
    assert (first.results(), second.results()) == ({USED: 1}, {})
    assert first.metrics.registry.get_sample_value("bridge_answer_seconds_count") == 1
    assert warnings(logs) == []


async def test_connection_stays_open_for_the_next_call(user, process):
    peers = []

    async def answer(request: web.Request) -> web.Response:
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response(status=204)

    user.answer = answer
    for n in range(3):
        await process.ask(CallInfo(f"CA{n:032x}", "", ""))
    assert len(set(peers)) == 1


@pytest.mark.parametrize("response", [{"status": 204}, {"status": 200}, {"status": 200, "text": "{}"}])
async def test_answer_that_says_nothing_leaves_the_call_to_the_routes(user, process, logs, response):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(**response)

    user.answer = answer
    assert await process.ask() == Answer()
    assert process.results() == {EMPTY: 1}
    assert warnings(logs) == []


async def test_fields_without_effect_are_one_warning_without_their_values(user, process, logs):
    user.answer = {"dial": "+4930123456", "agents": ["openai"], "agent": "canary"}
    assert await process.ask() == Answer(dial="+4930123456")
    assert process.results() == {USED: 1}
    (line,) = warnings(logs)
    assert "ignored=['agents', 'agent'] used=['dial']" in line
    assert CALL_SID in line
    assert "canary" not in line


async def test_example_of_the_documents_reads_the_question_and_answers(http, monkeypatch):
    [example] = re.findall(r"```python\n(.*?)```", (DOCS / "answer.md").read_text(), re.DOTALL)
    monkeypatch.setenv("BRIDGE_WEBHOOK_SECRET", SECRET)
    names: dict[str, Any] = {}
    exec(compile(example, "answer.md", "exec"), names)
    async with TestServer(names["app"]) as server:
        process = Process(str(server.make_url("/answer")), http, MemoryStore(), LONG_S)
        known = await process.ask(replace(CALL, from_number="+14155550123"))
    assert known == Answer(agents=("front-desk",), values={"customer": "Zoë", "orders": "3"})


# Failures


def says(**response: object) -> Answering:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(**response)

    return answer


async def hangs(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def drips(request: web.Request) -> web.StreamResponse:
    """A byte now and then, so that no single wait is long."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


async def resets(request: web.Request) -> web.Response:
    request.transport.abort()
    return web.Response()


async def is_no_http(request: web.Request) -> web.Response:
    request.transport.write(b"220 mail.example.com\r\n\r\n")
    request.transport.close()
    return web.Response()


async def breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"agents":["openai"')
    request.transport.close()
    return response


async def never_ends(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(4096 * b" ")


JSON = {"content_type": "application/json"}


@pytest.mark.parametrize(
    ("answer", "kind", "problem"),
    [
        (hangs, "timeout", "no answer within 0.2 s"),
        (drips, "timeout", "no answer within 0.2 s"),
        (resets, "connection", "it closed the connection without an answer"),
        (is_no_http, "connection", "ClientResponseError"),
        (breaks_off, "connection", "ClientPayloadError"),
        (says(status=302, headers={"Location": "/answer"}), "redirect", "status 302"),
        (says(status=307, headers={"Location": "/answer"}), "redirect", "status 307"),
        (says(status=500, text='{"reject":true}', **JSON), "status", "status 500"),
        (says(status=404), "status", "status 404"),
        (never_ends, "too_large", "more than 65536 bytes"),
        (says(body=b'{"say":"' + ANSWER_MAX_BYTES * b"x" + b'"}'), "too_large", "more than 65536 bytes"),
        (says(text="<html>"), "not_json", "is not JSON"),
        (says(text='{"say":5}'), "wrong", "say: must be a text"),
        (says(text='{"values":{"a":{"b":1}}}'), "wrong", "values.a: must be a text, a number"),
        (says(text='{"agents":["nobody"]}'), "unknown_agent", "unknown agent nobody"),
    ],
)
async def test_failure_is_one_warning_with_its_kind_and_leaves_the_call_to_the_routes(
    user, http, logs, answer, kind, problem
):
    waits = answer in (hangs, drips)
    process = Process(f"{user.url}/answer", http, MemoryStore(), SHORT_S if waits else LONG_S)
    user.answer = answer
    assert await process.ask() == Answer()
    # It is not asked again, neither by a redirect nor by a webhook that comes again.
    assert await process.ask() == Answer()
    assert len(user.questions) == 1
    assert process.results() == {kind: 1}
    (line,) = warnings(logs)
    assert "answer webhook failed, the routes decide" in line
    assert f"kind='{kind}'" in line
    assert problem in line
    assert CALL_SID in line


async def test_nobody_at_the_address_is_a_failure(http, logs):
    process = Process(f"http://127.0.0.1:{free_port()}/answer?key=canary", http, MemoryStore(), LONG_S)
    assert await process.ask() == Answer()
    assert process.results() == {"connection": 1}
    (line,) = warnings(logs)
    assert "its host refuses the connection" in line
    assert "canary" not in line


async def test_certificate_that_nobody_vouches_for_is_a_failure(http, logs, tmp_path):
    async with user_side(Tls(tmp_path)) as user:
        process = Process(f"{user.url}/answer", http, MemoryStore(), LONG_S)
        assert await process.ask() == Answer()
        assert user.questions == []
    assert process.results() == {"tls": 1}
    (line,) = warnings(logs)
    assert "certificate refused: " in line


async def test_server_without_tls_is_a_failure_of_tls(user, http):
    process = Process(f"https{user.url.removeprefix('http')}/answer", http, MemoryStore(), LONG_S)
    assert await process.ask() == Answer()
    assert process.results() == {"tls": 1}


async def test_question_that_is_given_up_leaves_nothing_behind(user, process):
    arrived = asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        arrived.set()
        return await hangs(request)

    user.answer = answer
    asking = asyncio.create_task(process.ask())
    await arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    user.answer = {"reject": True}
    assert await process.ask() == Answer(reject="rejected")
