"""Retell's protocol: its sessions, against a service that fails in many ways, and its messages."""

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator, Callable

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.agents import session_request as agent_rest
from bridge.agents.agent import (
    Audio,
    AudioFormat,
    CallInfo,
    Control,
    Ignored,
    Resources,
    SessionError,
)
from bridge.agents.session_request import retry_after_s
from bridge.agents.vendors import retell
from bridge.agents.vendors.retell import RetellDialogue, RetellSettings

CALL = CallInfo("CA" + "2" * 32, "+15551234567", "+15557654321")
GOOD = {"call_id": "abc_-123", "access_token": "secret-token"}
API_KEY = "key-canary"
# Statuses that stand for a failure of the service.
NEVER, CUT_OFF = 299, 298
PAYLOAD = base64.b64encode(bytes(range(160))).decode()


def settings(api_url: str) -> RetellSettings:
    return RetellSettings(
        retell_api_key=API_KEY,
        retell_agent_id="agent",
        retell_api_url=api_url,
        retell_ws_url="wss://h.example/audio-websocket",
    )


class Service:
    """The agent's service: gives ``answers`` in order, the last one forever, and keeps the requests."""

    def __init__(self) -> None:
        self.answers: list[Callable[[], web.Response | None]] = [lambda: web.json_response(GOOD, status=201)]
        self.asked: list[tuple[str, dict[str, str], object]] = []
        self.session_s = 2.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, dict(request.headers), await request.json()))
        answer = (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])()
        if answer is None:
            request.transport.close()
            return web.Response()
        if answer.status == NEVER:
            await asyncio.sleep(60)
        if answer.status == CUT_OFF:
            reply = web.StreamResponse(headers={"Content-Length": "100"})
            await reply.prepare(request)
            await reply.write(b"{")
            request.transport.close()
            return reply
        return answer

    def gives(self, *answers: web.Response | dict | int | None) -> None:
        """Set the answers: a response, JSON, a bare status, or None for a closed connection."""

        def make(answer: web.Response | dict | int | None) -> Callable[[], web.Response | None]:
            if isinstance(answer, dict):
                return lambda: web.json_response(answer)
            if isinstance(answer, int):
                return lambda: web.Response(status=answer)
            return lambda: answer

        self.answers = [make(answer) for answer in answers]

    async def open(self, url: str | None = None) -> dict[str, str]:
        async with aiohttp.ClientSession() as http:
            agent = retell.AGENT.describe(settings(url or self.url), Resources(http, self.session_s))
            return await agent.open_session(CALL)

    async def refusal(self, url: str | None = None) -> str:
        with pytest.raises(SessionError) as caught:
            await self.open(url)
        assert API_KEY not in str(caught.value)
        return str(caught.value)


@pytest.fixture
async def service(monkeypatch) -> AsyncIterator[Service]:
    # The waits keep their proportions and take no time.
    monkeypatch.setattr(agent_rest.random, "uniform", lambda low, high: 0.02)
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    async with TestServer(app) as server:
        service.url = str(server.make_url("")).rstrip("/")
        yield service


# The session


async def test_session_is_asked_for_once_as_documented(service):
    assert await service.open() == GOOD
    ((path, headers, body),) = service.asked
    assert path == "/v2/create-web-call"
    assert headers["Authorization"] == f"Bearer {API_KEY}"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "agent_id": "agent",
        "audio_websocket_protocol": "twilio",
        "audio_encoding": "mulaw",
        "sample_rate": 8000,
        "metadata": {"callSid": CALL.call_sid, "from": CALL.from_number},
    }


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ('{"age": 5}', "the dynamic variable age must be a text, in quotes"),
        ("[]", "must hold a JSON object"),
        ('{"name": "{name}"}', "unknown placeholder {name}"),
    ],
)
def test_dynamic_variables_that_retell_does_not_take_are_refused_at_start(variables, shown):
    given = {"retell_api_key": "k", "retell_agent_id": "a", "retell_dynamic_variables": variables}
    with pytest.raises(ValidationError, match=re.escape(shown)):
        RetellSettings.model_validate(given)


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_any_2xx_with_a_session_is_good(service, status):
    service.gives(web.json_response({**GOOD, "call_status": "registered"}, status=status))
    assert await service.open() == GOOD


@pytest.mark.parametrize("failure", [429, 502, 503, 504])
async def test_passing_failure_is_tried_twice_again(service, failure):
    service.gives(failure, failure, GOOD)
    assert await service.open() == GOOD
    assert len(service.asked) == 3
    service.gives(failure)
    service.asked.clear()
    await service.refusal()
    assert len(service.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 500, 501])
async def test_lasting_failure_is_not_tried_again(service, status):
    service.gives(status, GOOD)
    assert await service.refusal() == f"status {status}"
    assert len(service.asked) == 1


async def test_refused_connection_is_retried_and_then_reported(service):
    began = time.monotonic()
    assert await service.refusal(f"http://127.0.0.1:{unused_port()}") == "ClientConnectorError"
    assert time.monotonic() - began < service.session_s


async def test_retry_after_is_honoured(service):
    service.gives(web.Response(status=429, headers={"Retry-After": "1"}), GOOD)
    began = time.monotonic()
    assert await service.open() == GOOD
    assert time.monotonic() - began >= 1


async def test_retry_after_beyond_all_the_time_there_is_gives_up_at_once(service):
    service.gives(web.Response(status=429, headers={"Retry-After": "999999999"}), GOOD)
    assert await service.refusal() == "service asks to retry in 1e+09 s"
    assert len(service.asked) == 1


async def test_read_time_out_is_not_tried_again(service):
    service.session_s = 0.3
    service.gives(NEVER)
    assert await service.refusal() == "no session within 0.3 s"
    assert len(service.asked) == 1


async def test_deadline_is_for_all_attempts_together(service):
    service.session_s = 0.3
    service.gives(503, 503, NEVER)
    began = time.monotonic()
    assert await service.refusal() == "no session within 0.3 s"
    assert time.monotonic() - began < 0.6


async def test_redirect_is_not_followed_with_the_key(service):
    service.gives(web.Response(status=307, headers={"Location": f"{service.url}/elsewhere"}))
    assert await service.refusal() == "status 307"
    assert [path for path, _, _ in service.asked] == ["/v2/create-web-call"]


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (web.Response(text="<html>Welcome</html>", content_type="text/html"), "reply is not JSON"),
        (web.Response(status=204), "reply is not JSON"),
        (web.Response(body=b""), "reply is not JSON"),
        (web.Response(body=b'{"call_id":"abc"'), "reply is not JSON"),
        (web.Response(body=b"[1]"), "reply has no valid call_id"),
        (web.Response(body=b"null"), "reply has no valid call_id"),
        ({"access_token": "x"}, "reply has no valid call_id"),
        ({**GOOD, "call_id": None}, "reply has no valid call_id"),
        ({**GOOD, "call_id": 5}, "reply has no valid call_id"),
        ({**GOOD, "call_id": ""}, "reply has no valid call_id"),
        ({**GOOD, "call_id": "a/../b"}, "reply has no valid call_id"),
        ({**GOOD, "call_id": "a b"}, "reply has no valid call_id"),
        ({**GOOD, "call_id": "abc\n"}, "reply has no valid call_id"),
        ({**GOOD, "call_id": "a?b=c"}, "reply has no valid call_id"),
        ({**GOOD, "call_id": "é"}, "reply has no valid call_id"),
        ({**GOOD, "call_id": "a" * 129}, "reply has no valid call_id"),
        ({"call_id": "abc"}, "reply has no valid access_token"),
        ({**GOOD, "access_token": ""}, "reply has no valid access_token"),
        ({**GOOD, "access_token": "a\r\nX: y"}, "reply has no valid access_token"),
        ({**GOOD, "access_token": "a" * 8193}, "reply has no valid access_token"),
        (web.Response(body=b" " * (10 << 20)), "reply of more than 65536 bytes"),
    ],
)
async def test_bad_reply_is_refused_in_words_and_not_asked_for_again(service, answer, shown):
    if isinstance(answer, web.Response):
        answer = answer.status, answer.body, answer.content_type
        service.answers = [lambda: web.Response(status=answer[0], body=answer[1], content_type=answer[2])]
    else:
        service.gives(answer)
    assert await service.refusal() == shown
    assert len(service.asked) == 1


async def test_cut_off_reply_is_refused(service):
    service.gives(CUT_OFF, GOOD)
    assert await service.refusal() == "ClientPayloadError"
    assert len(service.asked) == 1


# The wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("9" * 15, 999_999_999_999_999),
        ("Fri, 14 Nov 2023 22:13:50 GMT", 30),
        ("Fri, 14 Nov 2023 22:13:00 GMT", 0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("1" * 19, None),
        ("Fri, 99 Nov 2023 22:13:50 GMT", None),
        ("Fri, 14 Nov 2023 22:13:50 +99999999999999999999", None),
    ],
)
def test_retry_after(header, seconds):
    assert retry_after_s(header, 1_700_000_000.0) == seconds


@given(
    st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d\d:\d\d:\d\d [+-]?\d{0,20}")
)
@example(" ")
@example("0 0 0")
def test_any_retry_after_is_a_number_or_nothing(header):
    """Any header gives seconds not below 0, or None, never an exception."""
    seconds = retry_after_s(header, 1_700_000_000.0)
    assert seconds is None or seconds >= 0


def test_wait_doubles_with_jitter():
    waits = [[agent_rest._Backoff(8.0).get_timeout(attempt) for _ in range(100)] for attempt in (1, 2)]
    for wait_s, middle_s in zip(waits, (0.5, 1.0), strict=True):
        assert all(0.75 * middle_s <= one <= 1.25 * middle_s for one in wait_s)
        assert len(set(wait_s)) > 1


def read(message: bytes) -> object:
    """The one event of a message."""
    (event,) = RetellDialogue().read(message)
    return event


# The socket


@pytest.fixture
async def wire():
    async with aiohttp.ClientSession() as http:
        yield retell.AGENT.describe(settings("http://h.example"), Resources(http, 8))


async def test_endpoint_has_the_call_in_its_path_and_the_token_in_its_header(wire):
    endpoint = wire.endpoint(GOOD, CALL)
    assert endpoint.url == "wss://h.example/audio-websocket/abc_-123"
    assert endpoint.headers == {"Authorization": "Bearer secret-token"}


def test_audio_to_the_agent_is_exactly_this():
    assert orjson.loads(RetellDialogue.to_agent.wrap_payload(PAYLOAD.encode())) == {
        "type": "audio",
        "audio_encoding": "mulaw",
        "sample_rate": 8000,
        "data": PAYLOAD,
    }


@pytest.mark.parametrize(
    ("fields", "is_fast"),
    [
        ({"type": "audio", "data": PAYLOAD}, True),
        ({"data": PAYLOAD, "type": "audio"}, True),
        ({"type": "audio", "data": PAYLOAD, "audio_encoding": "mulaw", "sample_rate": 8000}, True),
        ({"type": "audio", "data": PAYLOAD, "audio_encoding": "s16le", "sample_rate": 8000}, False),
        ({"type": "audio", "data": PAYLOAD, "sample_rate": 16000}, False),
        ({"type": "audio", "data": PAYLOAD, "sample_rate": "8000"}, False),
        ({"type": "audio", "data": "not base64"}, False),
        ({"type": "interrupt", "data": PAYLOAD}, False),
        ({"data": PAYLOAD}, False),
    ],
)
def test_only_plain_mulaw_goes_the_fast_way(fields, is_fast):
    message = orjson.dumps(fields)
    span = RetellDialogue.audio.find(message)
    assert (span is not None) is is_fast
    if span is not None:
        assert read(message) == Audio(message[span[0] : span[1]])


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (b'{"type":"interrupt"}', Control.INTERRUPT),
        (b'{"type":"interrupt","reason":"x"}', Control.INTERRUPT),
        (b'{"type":"call_ended"}', Control.ENDED),
        (b'{"type":"audio","data":"AAAA"}', Audio(b"AAAA")),
        (
            b'{"type":"audio","data":"AAAA","audio_encoding":"s16le","sample_rate":16000}',
            Audio(b"AAAA", AudioFormat("pcm16", 16000)),
        ),
        (b'{"type":"audio","data":"!"}', Audio(b"!")),
        (b'{"type":"audio"}', Ignored("missing_field")),
        (b'{"type":"audio","data":null}', Ignored("missing_field")),
        (b'{"type":"audio","data":5}', Ignored("missing_field")),
        (b'{"type":"audio","data":"AAAA","sample_rate":true}', Ignored("unknown_audio")),
        (b'{"type":"audio","data":"AAAA","sample_rate":"8000"}', Ignored("unknown_audio")),
        (b'{"type":"audio","data":"AAAA","audio_encoding":null}', Ignored("unknown_audio")),
        (b'{"type":"update"}', Ignored("unknown_type")),
        (b'{"type":["audio"]}', Ignored("unknown_type")),
        (b'{"type":null}', Ignored("unknown_type")),
        (b"{}", Ignored("unknown_type")),
        (b"[]", Ignored("not_object")),
        (b"3", Ignored("not_object")),
        (b"clear", Ignored("not_json")),
        (b"", Ignored("not_json")),
        (b"[" * 100_000, Ignored("not_json")),
        (b'{"type":"\\ud800"}', Ignored("not_json")),
    ],
)
def test_messages_of_the_agent(message, meaning):
    assert read(message) == meaning


@given(st.binary())
def test_any_bytes_mean_something(message):
    """Any bytes are audio, a control or ignored, never an exception."""
    assert isinstance(read(message), Audio | Control | Ignored)
