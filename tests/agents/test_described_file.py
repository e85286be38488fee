"""The file of agents that need no code: good tables, the problems of bad ones, and placeholders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.agents.agent import Agent, CallInfo, Resources, SessionError
from bridge.agents.directory import Directory, DirectoryError, open_directory

CALL = CallInfo("CA" + "2" * 32, "+15551234567", "+14155550100")
CANARY = "canary-7f3a"
JSON = """
to_agent = '{"audio":"{audio}"}'
from_agent = { path = "delta", equal = { type = "audio" } }
"""
FULL = """
[acme]
url = "wss://agent.example/{session.id}?key={env.ACME_KEY}"
headers = { Authorization = "Bearer {session.token}", X-Key = "{env.acme_key}" }
first = ['{"start":"{call_sid}"}']
to_agent = '{"type":"audio","b64":"{audio}"}'
from_agent = { path = "body.b64", equal = { type = "audio" }, absent_or_equal = { rate = 16000 } }
encoding = "pcm16"
sample_rate = 16000
ready = "ready"
interrupt = { type = "stop", now = true }
ended = { type = "bye" }
hang_up = { type = "hang_up" }
error = { type = "error" }
turn = { type = "turn" }
transfer = { match = { type = "transfer" }, to = "body.to" }
answers = [{ match = { type = "ping" }, answer = '{"type":"pong","id":{id}}' }]
dtmf = '{"digit":"{digit}"}'
keepalive = '{"type":"alive"}'
keepalive_s = 5

[acme.session]
url = "https://api.example/{env.acme_region}/calls"
headers = { X-Key = "{env.acme_key}" }
body = { from = "{from}", to = ["{to}"] }
reply = ["id", "token"]
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path


def directory(folder: Path, content: str, name: str = "mine", **variables: str) -> Directory:
    (folder / "agents.toml").write_text(content)
    return open_directory([name], "", str(folder / "agents.toml"), variables)


def problems(folder: Path, content: str, **variables: str) -> list[str]:
    with pytest.raises(DirectoryError) as caught:
        directory(folder, content, **variables)
    assert CANARY not in str(caught.value)
    assert "Value error" not in str(caught.value)
    return [text for _, text in caught.value.problems]


# Good tables


@pytest.mark.parametrize(
    "lines",
    [
        JSON,
        "binary = true",
        "binary = true\nencoding = 'pcm16'\nsample_rate = 24000\nready = 'go'",
        JSON + "encoding = 'pcm16'\nsample_rate = 8000",
        JSON + "keepalive_s = 0.5",
    ],
)
def test_good_table_is_an_agent(folder, lines):
    opened = directory(folder, f"[mine]\nurl = 'wss://h'\n{lines}")
    assert opened.names == {"mine"}
    assert opened.route("", "", datetime.now(UTC)).chain("CA1") == ("mine",)


def test_everything_that_can_be_said_is_an_agent(folder):
    assert directory(folder, FULL, "acme", acme_key="k", acme_region="eu").names == {"acme"}


# Bad tables


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        ("to_agent = '{audio}'", "mine.from_agent: ", "is missing: the place of the base64 text"),
        (JSON + "interupt = 'x'", "mine.interupt: ", "unknown key; did you mean interrupt?"),
        (JSON + "answers = [{ match = 'x' }]", "mine.answers.0.answer: ", "is missing: the answer"),
        (JSON + "[mine.session]\nurl = 'https://h'", "mine.session.reply: ", "is missing: "),
    ],
)
def test_bad_table_is_reported_with_the_file_and_the_place(folder, lines, place, words):
    shown = problems(folder, f"[mine]\nurl = 'wss://h'\n{lines}")[0]
    start = f"BRIDGE_AGENTS_FILE: {folder / 'agents.toml'}: {place}"
    assert shown.startswith(start)
    assert words in shown.removeprefix(start)


@pytest.mark.parametrize("url", ["https://h", "h", "", "//h"])
def test_url_must_be_of_a_websocket(folder, url):
    shown = problems(folder, f"[mine]\nurl = '{url}'\n{JSON}")[0]
    assert shown.startswith(f"BRIDGE_AGENTS_FILE: {folder / 'agents.toml'}: mine.url: ")


def test_name_of_a_built_in_agent_is_refused(folder):
    shown = problems(folder, f"[echo]\nurl = 'wss://h'\n{JSON}[mine]\nurl = 'wss://h'\n{JSON}")
    path = folder / "agents.toml"
    start = f"BRIDGE_AGENTS_FILE: {path}: echo: is the name of a built-in agent; use another"
    assert [text.partition(", or ")[0] for text in shown] == [start]


def test_what_is_no_table_is_refused(folder):
    shown = problems(folder, f"mine = 5\n[other]\nurl = 'wss://h'\n{JSON}")
    assert shown[0].startswith(f"BRIDGE_AGENTS_FILE: {folder / 'agents.toml'}: mine: ")


def test_problems_of_every_table_are_reported_together(folder):
    shown = problems(folder, "[mine]\nurl = 'h'\nbinary = true\n[other]\nbinary = 'yes'\n")
    places = {text.split(": ")[2] for text in shown if text.startswith("BRIDGE_AGENTS_FILE: ")}
    assert places == {"mine.url", "other.url", "other.binary"}


def test_values_of_a_bad_table_are_not_shown(folder):
    bad = f"[mine]\nurl = '{CANARY}'\nheaders = {{ Authorization = ['{CANARY}'] }}\nfirst = '{CANARY}'"
    assert len(problems(folder, bad)) > 2


def test_variables_named_but_not_set_are_reported(folder):
    with pytest.raises(DirectoryError) as caught:
        directory(folder, FULL, "acme", acme_region="eu", ACME_KEY="no variable is in capitals here")
    path = folder / "agents.toml"
    assert caught.value.problems == [("acme_key", f"ACME_KEY: is missing: agent acme in {path} uses it")]


def test_variables_of_tables_that_are_not_in_use_are_not_wanted(folder):
    assert directory(folder, FULL, "echo").names == {"echo"}


# Placeholders


class Service:
    """Gives sessions and keeps the requests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], object]] = []
        self.answer: dict[str, object] = {"callId": "abc", "token": "t0ken", "more": 1}

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.raw_path, dict(request.headers), await request.json()))
        return web.json_response(self.answer)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_post("/{path:.*}", service.handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        service.url = str(server.make_url("")).rstrip("/")
        service.tools = Resources(http, 5.0)
        yield service


@pytest.fixture
async def tools() -> AsyncIterator[Resources]:
    async with aiohttp.ClientSession() as http:
        yield Resources(http, 5.0)


def agent_of(folder: Path, content: str, tools: Resources, **variables: str) -> Agent:
    return directory(folder, f"[mine]\n{content}\n{JSON}", **variables).describe(tools)["mine"]


async def test_agent_without_a_session_is_not_asked_for_one(folder, tools):
    agent = agent_of(folder, "url = 'wss://h'", tools)
    assert await agent.open_session(CALL) == {}
    assert agent.hand_over is None


async def test_variables_stand_in_the_url_and_the_headers_in_either_spelling(folder, tools):
    lines = """
    url = "wss://h/{env.acme_path}?k={env.ACME_KEY}&{{other}}"
    headers = { Authorization = "Bearer {env.ACME_KEY}", X-Plain = "{env.acme_path} {{}}" }
    """
    endpoint = agent_of(folder, lines, tools, acme_path="a/b", acme_key=CANARY).endpoint({}, CALL)
    assert endpoint.url == f"wss://h/a/b?k={CANARY}&{{{{other}}}}"
    assert endpoint.headers == {"Authorization": f"Bearer {CANARY}", "X-Plain": "a/b {{}}"}


SESSION = """
url = "wss://h/{session.callId}"
headers = { Authorization = "Bearer {session.token}" }
[mine.session]
url = "SERVICE/{env.region}/calls?from={from}"
headers = { X-Key = "{env.KEY}", X-From = "{from}" }
body = { call = "{call_sid}", say = 'a 5" {from}', n = 1, to = ["{to}"], key = "{env.key}" }
reply = ["callId", "token"]
"""


def agent_with_session(folder: Path, service: Service) -> Agent:
    content = f"[mine]\n{JSON}{SESSION.replace('SERVICE', service.url)}"
    return directory(folder, content, region="eu", key=CANARY).describe(service.tools)["mine"]


async def test_session_is_asked_for_with_what_is_known_of_the_call(folder, service):
    agent = agent_with_session(folder, service)
    session = await agent.open_session(CALL)
    assert session == {"callId": "abc", "token": "t0ken"}
    ((path, headers, body),) = service.asked
    assert path == "/eu/calls?from=%2B15551234567"
    assert (headers["X-Key"], headers["X-From"]) == (CANARY, CALL.from_number)
    assert body == {
        "call": CALL.call_sid,
        "say": 'a 5" +15551234567',
        "n": 1,
        "to": [CALL.to_number],
        "key": CANARY,
    }
    endpoint = agent.endpoint(session, CALL)
    assert (endpoint.url, endpoint.headers) == ("wss://h/abc", {"Authorization": "Bearer t0ken"})


@pytest.mark.parametrize(
    "from_number",
    [
        '","n":2,"x":"',
        ',"n":2,"x":',
        "\\",
        "a&from=b#c?d/../e%2F",
        "x\r\nX-Key: mine",
        "{call_sid}{env.key}",
        "sip:jos\u00e9@example.com;x=y z",
        "",
    ],
)
async def test_what_a_caller_claims_to_be_stays_in_its_place(folder, service, from_number):
    call = CallInfo(CALL.call_sid, from_number, CALL.to_number)
    await agent_with_session(folder, service).open_session(call)
    ((path, headers, body),) = service.asked
    assert parse_qsl(path.partition("?")[2], keep_blank_values=True) == [("from", from_number)]
    assert path.startswith("/eu/calls?from=")
    assert headers["X-Key"] == CANARY
    assert unquote(headers["X-From"]) == unquote(from_number)
    assert set(body) == {"call", "say", "n", "to", "key"}
    assert (body["say"], body["n"]) == (f'a 5" {from_number}', 1)


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ({"token": "x"}, "reply has no valid callId"),
        ({"callId": 5, "token": "x"}, "reply has no valid callId"),
        ({"callId": "a b", "token": "x"}, "reply has no valid callId"),
        ({"callId": "a\r\nX: y", "token": "x"}, "reply has no valid callId"),
        ({"callId": "abc", "token": ""}, "reply has no valid token"),
    ],
)
async def test_reply_without_what_is_wanted_is_no_session(folder, service, answer, shown):
    service.answer = answer
    with pytest.raises(SessionError) as caught:
        await agent_with_session(folder, service).open_session(CALL)
    assert str(caught.value) == shown
