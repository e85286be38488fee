"""Agents in a file that Twilio reaches by itself: good tables, the problems of bad ones, and their sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.agents.agent import Agent, CallInfo, Resources, SessionError
from bridge.agents.described_dial import DialDescription, describe_dial
from bridge.agents.directory import DirectoryError, open_directory
from bridge.agents.hand_over import SipAddress, VendorStream, VendorTwiml, VendorWebhook
from bridge.agents.health import AgentHealth
from bridge.agents.sessions import Session, Sessions
from bridge.agents.slots import Slots
from bridge.metrics import Metrics

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"
WITH_DIAL = [path for path in sorted(EXAMPLES.glob("*.toml")) if ".dial" in path.read_text()]
CALL = CallInfo(
    "CA" + "2" * 32, "+15551234567", "+14155550100", {"form.CallerName": "{env.KEY} & <Co>\n\x07"}
)
CANARY = "canary-7f3a"
TWIML = '<Response><Connect><Stream url="wss://v.example/1" /></Connect></Response>'
SESSION = """
[mine.session]
url = "{url}/session"
reply = ["id"]
"""


class Service:
    """The REST API of a vendor: a reply for each path."""

    def __init__(self) -> None:
        self.url = ""
        self.replies: dict[str, str] = {
            "/session": '{"id":"s1","joinUrl":"wss://v.example/join"}',
            "/twiml": TWIML,
        }
        self.status = 200
        self.is_hanging = False
        self.let_go = asyncio.Event()
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.raw_path, await request.json()))
        self.headers = dict(request.headers)
        if self.is_hanging:
            await self.let_go.wait()
        return web.Response(text=self.replies[request.path], status=self.status)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_post("/{path:.*}", service.handle)
    async with TestServer(app) as server:
        service.url = str(server.make_url("")).rstrip("/")
        yield service
        service.let_go.set()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def make(tmp_path, service, http):
    """Makes the sessions of a process with the agents ``mine`` and the echo; ``{url}`` is the service's."""

    def make_sessions(table: str, session_s: float = 5.0, **variables: str) -> Sessions:
        path = tmp_path / "agents.toml"
        path.write_text(table.replace("{url}", service.url))
        directory = open_directory(["mine", "echo"], "", str(path), {"key": CANARY, **variables})
        return Sessions(directory, Resources(http, session_s), AgentHealth(Metrics()), Slots(Metrics()))

    return make_sessions


async def handed_over(sessions: Sessions, call: CallInfo = CALL) -> object:
    """How a call gets to the agent; the agent gives a session."""
    opened = await sessions.open(call, ("mine", "echo"))
    assert opened.agents == ("mine", "echo")
    return sessions.hand_over(opened, call)


def problems(folder: Path, table: str) -> list[str]:
    path = folder / "agents.toml"
    path.write_text(table)
    with pytest.raises(DirectoryError) as caught:
        open_directory(["mine"], "", str(path), {"key": CANARY})
    start = f"BRIDGE_AGENTS_FILE: {path}: "
    shown = [text.removeprefix(start) for _, text in caught.value.problems if text.startswith(start)]
    assert CANARY not in str(caught.value)
    return shown


# Good tables


async def test_sip_address_takes_values_of_the_session_the_call_and_the_environment(make, service):
    sessions = make(
        SESSION + '[mine.dial]\nsip = "sip:{session.id}@{env.KEY}.example;transport=tls?X-To={to}"'
    )
    assert await handed_over(sessions) == SipAddress(
        f"sip:s1@{CANARY}.example;transport=tls?X-To=%2B14155550100"
    )


async def test_sip_address_without_values_of_a_session_needs_none(make, service):
    sessions = make('[mine.dial]\nsip = "sip:{env.KEY}@sip.api.openai.com;transport=tls"')
    assert await handed_over(sessions) == SipAddress(f"sip:{CANARY}@sip.api.openai.com;transport=tls")
    assert service.asked == []


async def test_twiml_is_asked_for_with_the_values_of_the_call(make, service):
    service.replies["/twiml"] = '{"call":{"twiml":"<Response/>"}}'
    sessions = make(
        """
        [mine.dial.twiml_from]
        url = "{url}/twiml?to={to}"
        headers = { Authorization = "Bearer {env.KEY}", X-Name = "{form.CallerName}" }
        body = { from = "{from}", name = "{form.CallerName}", deep = [{ sid = "{call_sid}" }] }
        twiml = "call.twiml"
        """
    )
    assert await handed_over(sessions) == VendorTwiml("<Response/>")
    name = CALL.values["form.CallerName"]
    body = {"from": CALL.from_number, "name": name, "deep": [{"sid": CALL.call_sid}]}
    assert service.asked == [("/twiml?to=%2B14155550100", body)]
    assert service.headers["Authorization"] == f"Bearer {CANARY}"
    assert service.headers["X-Name"] == "{env.KEY}%20&%20<Co>%0A%07"


async def test_twiml_may_need_a_session_first(make, service):
    sessions = make(SESSION + '[mine.dial.twiml_from]\nurl = "{url}/twiml"\nbody = { id = "{session.id}" }')
    assert await handed_over(sessions) == VendorTwiml(TWIML)
    assert service.asked == [("/session", {}), ("/twiml", {"id": "s1"})]


async def test_webhook_of_the_vendor_takes_values_percent_encoded(make):
    sessions = make('[mine.dial]\nredirect = "https://v.example/twilio?key={env.KEY}&name={form.CallerName}"')
    assert await handed_over(sessions) == VendorWebhook(
        f"https://v.example/twilio?key={CANARY}&name=%7Benv.KEY%7D%20%26%20%3CCo%3E%0A%07"
    )


async def test_stream_of_the_vendor_has_its_url_from_the_reply_and_its_parameters(make):
    sessions = make(
        SESSION.replace('["id"]', '["id", "joinUrl"]')
        + '[mine.dial]\nstream_url = "{session.joinUrl}"\n'
        + 'parameters = { from = "{from}", id = "{session.id}", name = "{form.CallerName}" }'
    )
    # XML cannot hold the last character of the name.
    parameters = {"from": CALL.from_number, "id": "s1", "name": "{env.KEY} & <Co>\n"}
    assert await handed_over(sessions) == VendorStream("wss://v.example/join", parameters)


@pytest.mark.parametrize("path", WITH_DIAL, ids=lambda path: path.stem)
async def test_example_is_a_good_table(path, http):
    text = path.read_text()
    name = next(line.split(".")[0].strip("[") for line in text.splitlines() if line.startswith("["))
    names = (
        "OPENAI_PROJECT_ID",
        "XAI_PHONE_NUMBER",
        "ELEVENLABS_API_KEY",
        "ELEVENLABS_AGENT_ID",
        "VAPI_API_KEY",
    )
    names += ("VAPI_PHONE_NUMBER_ID", "VAPI_ASSISTANT_ID", "ULTRAVOX_AGENT_ID", "ULTRAVOX_API_KEY")
    names += ("HUME_CONFIG_ID", "HUME_API_KEY")
    directory = open_directory([name], "", str(path), {variable.lower(): "x" for variable in names})
    agent = directory.describe(Resources(http, 1.0))[name]
    assert agent.hand_over is not None
    assert agent.endpoint is None


# A service that is unwell


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": 500}, "status 500"),
        ({"status": 403}, "status 403"),
        ({"/session": "sorry"}, "reply is not JSON"),
        ({"/session": '{"id":5}'}, "reply has no valid id"),
        ({"/session": '{"id":"a b"}'}, "reply has no valid id"),
        ({"/session": "[]"}, "reply has no valid id"),
        ({"/twiml": "<html/>"}, "the root of the reply's XML is not <Response>"),
        ({"/twiml": 70_000 * "x"}, "reply of more than 65536 bytes"),
    ],
)
async def test_next_agent_follows_a_service_that_is_unwell(make, service, logs, change, reason):
    service.status = change.pop("status", 200)
    service.replies |= change
    sessions = make(SESSION + '[mine.dial]\ntwiml_from = { url = "{url}/twiml" }')
    opened = await sessions.open(CALL, ("mine", "echo"))
    assert opened == Session(("echo",), {})
    (line,) = [line for line in logs.lines if "agent unavailable, trying next" in line]
    assert reason in line
    assert CANARY not in line


async def test_next_agent_follows_a_service_that_hangs(make, service):
    service.is_hanging = True
    sessions = make('[mine.dial.twiml_from]\nurl = "{url}/twiml"', session_s=0.3)
    assert (await sessions.open(CALL, ("mine", "echo"))).agents == ("echo",)


@pytest.mark.parametrize(
    ("dial", "reply", "reason"),
    [
        ('stream_url = "{session.id}"', "https://v.example/x", "stream URL is none that Twilio takes"),
        ('stream_url = "{session.id}"', "wss://v.example/x?a=1", "stream URL is none that Twilio takes"),
        ('stream_url = "{session.id}"', "wss://", "stream URL is none that Twilio takes"),
        ('redirect = "{session.id}"', "http://v.example/x", "https URL is none that Twilio takes"),
        ('sip = "{session.id}"', "tel:+1555", "SIP address is none that Twilio takes"),
        ('sip = "sip:{session.id}@v.example"', 300 * "x", "SIP address is none that Twilio takes"),
        (
            'stream_url = "wss://v.example"\nparameters = { id = "{session.id}" }',
            498 * "x",
            "parameter id has more",
        ),
    ],
)
async def test_next_agent_follows_a_reply_that_twilio_would_refuse(make, service, logs, dial, reply, reason):
    service.replies["/session"] = f'{{"id":"{reply}"}}'
    sessions = make(f"{SESSION}\n[mine.dial]\n{dial}")
    assert (await sessions.open(CALL, ("mine", "echo"))).agents == ("echo",)
    (line,) = [line for line in logs.lines if "agent unavailable, trying next" in line]
    assert reason in line


async def test_plain_stream_is_for_a_service_that_is_plain_too(http):
    async def open_at(url: str) -> object:
        table = {"session": {"url": url, "reply": ["id"]}, "dial": {"stream_url": "{session.id}"}}
        agent = describe(table, http)
        return agent.hand_over({"id": "ws://127.0.0.1:1/x"}, CALL)

    assert await open_at("http://127.0.0.1:1") == VendorStream("ws://127.0.0.1:1/x")
    with pytest.raises(SessionError, match="does not begin with wss://"):
        await open_at("https://v.example")


def describe(table: dict[str, object], http: aiohttp.ClientSession) -> Agent:
    return describe_dial(DialDescription.model_validate(table), Resources(http, 1.0))


async def test_call_without_a_required_value_goes_to_the_next_agent(make):
    sessions = make('[mine.dial]\nsip = "sip:{value.desk!}@v.example"')
    assert (await sessions.open(CALL, ("mine", "echo"))).agents == ("echo",)
    with_value = CallInfo(CALL.call_sid, "", "", {"value.desk": "a/b"})
    assert await handed_over(sessions, with_value) == SipAddress("sip:a%2Fb@v.example")


# Bad tables

NOT_ONE = "must have exactly one of sip, twiml_from, redirect, stream_url"


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ("[mine.dial]", f"mine.dial: {NOT_ONE}"),
        ("[mine.dial]\nsip = 'sip:a@b'\nredirect = 'https://a'", f"mine.dial: {NOT_ONE}"),
        ("[mine]\ndial = 5", "mine.dial: must be a table: { ... }"),
        (
            "[mine.dial]\nphone = '+1'",
            "mine.dial.phone: unknown key; known: parameters, redirect, sip, stream_url",
        ),
        ("[mine.dial]\nstream = 'wss://a'", "mine.dial.stream: unknown key; did you mean stream_url?"),
        ("[mine.dial]\nsip = 5", "mine.dial.sip: must be a text in quotes"),
        (
            "[mine.dial]\nsip = 'a@b'",
            "mine.dial.sip: must be a SIP address, e.g. sip:agent@sip.example.com;transport",
        ),
        ("[mine.dial]\nredirect = 'http://a'", "mine.dial.redirect: must be a URL that begins with https://"),
        (
            "[mine.dial]\nstream_url = 'https://a'",
            "mine.dial.stream_url: must be a URL that begins with wss://",
        ),
        (
            "[mine.dial]\nstream_url = 'wss://a?b={from}'",
            "mine.dial.stream_url: Twilio takes no query in the URL of a stream; use parameters",
        ),
        (
            "[mine.dial]\nsip = 'sip:a@b'\nparameters = { a = 'b' }",
            "mine.dial: parameters go with stream_url only",
        ),
        (
            "[mine.dial]\ntwiml_from = { url = 'ftp://a' }",
            "mine.dial.twiml_from.url: must begin with https:// or http://",
        ),
        ("[mine.dial]\ntwiml_from = { }", "mine.dial.twiml_from.url: is missing"),
        (
            "[mine.dial]\nsip = 'sip:{session.id}@b'",
            "mine.dial.sip: unknown placeholder {session.id}; available: {call_sid}, {from}",
        ),
        (
            "[mine.session]\nurl = 'https://a'\nreply = ['no']\n[mine.dial]\nsip = 'sip:{session.id}@b'",
            "mine.dial.sip: unknown placeholder {session.id}; session.reply has {session.no}",
        ),
        ("[mine.session]\nurl = 'https://a'\n[mine.dial]\nsip = 'sip:a@b'", "mine.session.reply: is missing"),
        (
            "[mine.dial]\nsip = 'sip:{caller}@b'",
            "mine.dial.sip: unknown placeholder {caller}; available: {call_sid}, {from}",
        ),
        ("[mine.dial]\nsip = 'sip:{evn.KEY}@b'", "mine.dial.sip: unknown placeholder {evn.KEY}; available: "),
        (
            "[mine.session]\nurl = 'https://a/{session.id}'\nreply = ['id']\n[mine.dial]\nsip = 'sip:a@b'",
            "mine.session.url: unknown placeholder {session.id}; available: ",
        ),
        (
            "[mine]\nurl = 'wss://a'\nbinary = true\n[mine.dial]\nsip = 'sip:a@b'",
            "mine.url: unknown key; known: dial, disabled, max_calls, session",
        ),
    ],
)
def test_bad_table_is_reported_with_its_place_and_what_would_be_right(tmp_path, table, shown):
    found = problems(tmp_path, table)
    assert [text for text in found if text.startswith(shown)], found


def test_problems_of_a_table_are_reported_together(tmp_path):
    table = """
        [mine]
        max_calls = 0
        session = { url = "https://a/{caller}", reply = ["id"] }
        [mine.dial]
        stream_url = "wss://a/{session.id}"
        parameters = { who = "{form}", no = "{session.no}" }
        stream = "x"
    """
    assert sorted(text.partition(": ")[0] for text in problems(tmp_path, table)) == [
        "mine.dial.parameters.no",
        "mine.dial.parameters.who",
        "mine.dial.stream",
        "mine.max_calls",
        "mine.session.url",
    ]


def test_missing_variable_is_reported_with_the_agent_that_uses_it(tmp_path):
    path = tmp_path / "agents.toml"
    path.write_text("[mine.dial]\nsip = 'sip:{env.MISSING}@b'")
    with pytest.raises(DirectoryError, match=r"MISSING: is missing: agent mine in .* uses it"):
        open_directory(["mine"], "", str(path), {})
