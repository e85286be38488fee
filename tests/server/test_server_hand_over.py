"""Whole calls at a vendor that takes Twilio's stream or writes the TwiML itself, and what follows where it does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer
from live import soon, until

from bridge.standins.twilio.caller import Caller

AGENTS = """
[by-stream.session]
url = "{url}/calls"
body = {{ caller = "{{from}}" }}
reply = ["joinUrl"]
[by-stream.dial]
stream_url = "{{session.joinUrl}}"
parameters = {{ caller = "{{from}}" }}

[by-twiml.dial.twiml_from]
url = "{url}/twiml"
body = {{ sid = "{{call_sid}}" }}
twiml = "details.twiml"

[by-webhook.dial]
redirect = "https://vendor.example/twilio?key={{env.VENDOR_KEY}}"

[by-sip.dial]
sip = "sip:desk@vendor.example;transport=tls"
"""


class Vendor:
    """A vendor with a REST API and a socket that takes Twilio's stream."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, str]] = []
        # The messages of Twilio in the streams so far.
        self.events: list[str] = []
        self.parameters: dict[str, str] = {}

    @property
    def stream_url(self) -> str:
        return self.url.replace("http", "ws") + "/join"

    async def open_call(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        return web.json_response({"joinUrl": self.stream_url})

    async def write_twiml(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        twiml = f'<Response><Connect><Stream url="{self.stream_url}"/></Connect></Response>'
        return web.json_response({"details": {"twiml": twiml}})

    async def take_stream(self, request: web.Request) -> web.WebSocketResponse:
        """Take one message of audio, then leave."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            assert message.type is WSMsgType.TEXT
            fields = message.json()
            self.events.append(fields["event"])
            if fields["event"] == "start":
                self.parameters = fields["start"]["customParameters"]
            if fields["event"] == "media":
                await socket.close()
        return socket


@pytest.fixture
async def vendor(tmp_path) -> AsyncIterator[Vendor]:
    vendor = Vendor()
    app = web.Application()
    app.router.add_post("/calls", vendor.open_call)
    app.router.add_post("/twiml", vendor.write_twiml)
    app.router.add_get("/join", vendor.take_stream)
    async with TestServer(app) as server:
        vendor.url = str(server.make_url("")).rstrip("/")
        (tmp_path / "agents.toml").write_text(AGENTS.format(url=vendor.url))
        yield vendor


@pytest.fixture
def start(live_server, vendor, tmp_path: Path):
    async def start_with(agents: str):
        return await live_server(
            BRIDGE_AGENT=agents, BRIDGE_AGENTS_FILE=tmp_path / "agents.toml", VENDOR_KEY="canary-key"
        )

    return start_with


async def check_echo_follows(caller: Caller) -> None:
    """Let the vendor leave at once; the next agent of the chain, the echo, takes the call."""
    await caller.open_stream()
    await caller.send_media(b"to the vendor")
    answer = await soon(caller.go_on())
    assert answer.problems == []
    assert answer.verbs == ["Connect", "Redirect"]
    await caller.send_media(b"hello")
    await until(lambda: caller.received_audio == [b"hello"])


async def test_stream_that_a_vendor_leaves_at_once_is_followed_by_the_next_agent(start, vendor):
    live = await start("by-stream,echo")
    async with live.caller(caller="client:alice") as caller:
        answer = await caller.post_voice()
        assert answer.problems == []
        assert (answer.stream_url, answer.verbs) == (vendor.stream_url, ["Connect", "Redirect"])
        assert live.admitted == 0
        await check_echo_follows(caller)
    assert vendor.asked == [{"caller": "client:alice"}]
    assert vendor.parameters == {"caller": "client:alice"}
    assert vendor.events == ["connected", "start", "media"]


async def test_twiml_of_a_vendor_is_answered_and_followed_by_the_next_agent(start, vendor):
    live = await start("by-twiml,echo")
    async with live.caller() as caller:
        answer = await caller.post_voice()
        assert answer.problems == []
        assert (answer.stream_url, answer.verbs) == (vendor.stream_url, ["Connect", "Redirect"])
        await check_echo_follows(caller)
        assert vendor.asked == [{"sid": caller.call_sid}]


async def test_call_goes_to_the_vendors_webhook(start, logs):
    live = await start("by-webhook")
    async with live.caller() as caller:
        answer = await caller.post_voice()
        assert answer.problems == []
        assert (answer.verbs, answer.redirect_url) == (
            ["Redirect"],
            "https://vendor.example/twilio?key=canary-key",
        )
        (line,) = [line for line in logs.lines if "call handed over" in line]
        assert "by='VendorWebhook'" in line
        assert "canary-key" not in "".join(logs.lines)


async def test_sip_address_that_does_not_answer_is_followed_by_the_next_vendor(start, vendor):
    live = await start("by-sip,by-twiml")
    async with live.caller(caller="sip:bob@office.example") as caller:
        answer = await caller.post_voice()
        assert answer.dial == "sip:desk@vendor.example;transport=tls"
        action = answer.body.partition('action="')[2].partition('"')[0].replace("&amp;", "&")
        form = {"CallSid": caller.call_sid, "AccountSid": caller.account_sid, "DialCallStatus": "no-answer"}
        following = await caller.post(action, {**form, "CallStatus": "in-progress"})
        assert following.stream_url == vendor.stream_url


async def test_dialled_agent_follows_one_with_a_socket_after_its_loss(start, vendor):
    live = await start("retell,by-stream")
    async with live.bridged() as (caller, session):
        live.refuse_sessions()
        session.abort()
        await soon(caller.closed.wait())
        answer = await caller.follow_redirect()
        assert (answer.stream_url, answer.problems) == (vendor.stream_url, [])
