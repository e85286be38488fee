"""The stand-ins against each other, with the simplest relay there is between them."""

import asyncio
import contextlib
import json
from xml.sax.saxutils import quoteattr

import aiohttp
import pytest
from aiohttp import web
from numbered_checker import NumberedChecker
from twilio.request_validator import RequestValidator

from bridge.standins.agent.behaviours import conversation, echo, numbered, silent
from bridge.standins.agent.faults import Faults, HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService, sign_retell_webhook
from bridge.standins.audio import SILENCE, speech
from bridge.standins.inject import Injector
from bridge.standins.numbered import make_numbered
from bridge.standins.twilio.caller import Caller

DEADLINE_S = 10.0
PUBLIC_URL = "https://voice.example.com/prefix"
AUTH_TOKEN = "0123456789abcdef"


class Relay:
    """Twenty lines of bridge: signed webhook, one socket each way, nothing kept."""

    def __init__(self, agent: AgentService) -> None:
        self.agent = agent
        self.forms: list[dict[str, str]] = []
        self.from_caller: list[dict] = []
        self.to_caller: web.WebSocketResponse | None = None
        self.validator = RequestValidator(AUTH_TOKEN)
        self.session = aiohttp.ClientSession()
        self.opened = asyncio.Event()

    async def voice(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.forms.append(form)
        public = PUBLIC_URL + request.raw_path
        if not self.validator.validate(public, form, request.headers.get("X-Twilio-Signature", "")):
            return web.Response(status=403)
        if request.path != "/voice":
            return web.Response(text="<Response><Hangup/></Response>", content_type="text/xml")
        settings = self.agent.environment()
        body = {
            "agent_id": settings["RETELL_AGENT_ID"],
            "audio_websocket_protocol": "twilio",
            "audio_encoding": "mulaw",
            "sample_rate": 8000,
            "metadata": {"callSid": form["CallSid"], "from": form["From"]},
        }
        headers = {"Authorization": f"Bearer {settings['RETELL_API_KEY']}"}
        async with self.session.post(
            settings["RETELL_API_URL"] + "/v2/create-web-call", json=body, headers=headers
        ) as response:
            made = await response.json()
        stream = quoteattr("wss://voice.example.com/prefix/media/1")
        token = quoteattr(f"{made['call_id']} {made['access_token']}")
        status = quoteattr(PUBLIC_URL + "/stream/status")
        text = (
            f"<Response><Connect><Stream url={stream} statusCallback={status}>"
            f'<Parameter name="token" value={token}/></Stream></Connect>'
            f'<Redirect method="POST">{PUBLIC_URL}/voice/resume?s=1&amp;t=2</Redirect></Response>'
        )
        return web.Response(text=text, content_type="text/xml")

    async def media(self, request: web.Request) -> web.StreamResponse:
        signature = request.headers.get("X-Twilio-Signature", "")
        if not self.validator.validate("wss://voice.example.com/prefix/media/1", {}, signature):
            return web.Response(status=403)
        caller = self.to_caller = web.WebSocketResponse()
        await caller.prepare(request)
        self.from_caller.append(json.loads(await caller.receive_str()))
        start = json.loads(await caller.receive_str())
        self.from_caller.append(start)
        call_id, token = start["start"]["customParameters"]["token"].split()
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.agent.environment()['RETELL_WS_URL']}/{call_id}"
        async with self.session.ws_connect(url, headers=headers) as agent:
            self.opened.set()
            back = asyncio.create_task(self.agent_to_caller(agent, caller, start["streamSid"]))
            async for item in caller:
                message = json.loads(item.data)
                self.from_caller.append(message)
                if message["event"] == "media":
                    data = message["media"]["payload"]
                    await agent.send_json(
                        {"type": "audio", "audio_encoding": "mulaw", "sample_rate": 8000, "data": data}
                    )
                elif message["event"] == "stop" or message.get("mark") == {"name": "last"}:
                    break
            await agent.close(code=1000)
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
        await caller.close(code=1000)
        return caller

    async def agent_to_caller(self, agent, caller, stream_sid: str) -> None:
        async for item in agent:
            message = json.loads(item.data)
            if message["type"] == "audio":
                out = {"event": "media", "streamSid": stream_sid, "media": {"payload": message["data"]}}
            elif message["type"] == "interrupt":
                out = {"event": "clear", "streamSid": stream_sid}
            else:
                out = {"event": "mark", "streamSid": stream_sid, "mark": {"name": "last"}}
            await caller.send_json(out)


@contextlib.asynccontextmanager
async def bridged(**agent_options):
    async with AgentService(**agent_options) as agent:
        relay = Relay(agent)
        app = web.Application()
        app.router.add_post("/{path:(voice|stream).*}", relay.voice)
        app.router.add_get("/media/1", relay.media)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield relay, f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await relay.session.close()
            await runner.cleanup()


def make_caller(url: str, **options) -> Caller:
    return Caller(url, public_url=PUBLIC_URL, auth_token=AUTH_TOKEN, **options)


async def soon(condition) -> None:
    """Wait until a condition on the recorders holds: the loop only, no time passes on purpose."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_webhook_is_signed_over_the_public_url_with_empty_values():
    async with bridged() as (relay, url), make_caller(url) as caller:
        answer = await caller.post_voice()
        assert answer.problems == []
        assert answer.verbs == ["Connect", "Redirect"]
        assert relay.forms[0]["ToZip"] == ""
        assert relay.forms[0]["CallSid"] == caller.call_sid
        assert answer.redirect_url == PUBLIC_URL + "/voice/resume?s=1&t=2"
        assert (await caller.post_stream_status("stream-started")).status == 200
        assert (await caller.post_status("completed")).status == 200
        assert (await caller.follow_redirect()).verbs == ["Hangup"]


async def test_wrong_signature_is_refused_by_the_relay():
    async with bridged() as (_, url), make_caller(url) as caller:
        answer = await caller.post_voice(signature="wrong")
        assert answer.problems == ["11200: HTTP status 403"]
        assert "error message" in answer.describe()
        await caller.post_voice()
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await caller.open_stream(signature="wrong")


async def test_messages_of_the_caller_are_those_of_twilio():
    async with bridged(behaviour=silent) as (relay, url), make_caller(url) as caller:
        await caller.post_voice()
        await caller.open_stream()
        await caller.send_media(b"\x01\x02")
        await caller.send_dtmf("5")
        await caller.hang_up()
        sid = caller.stream_sid
        connected, start, media, dtmf, stop = relay.from_caller
        assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        assert start["start"].pop("customParameters").keys() == {"token"}
        assert start == {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": sid,
            "start": {
                "streamSid": sid,
                "accountSid": caller.account_sid,
                "callSid": caller.call_sid,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            },
        }
        assert media["media"].pop("timestamp").isdigit()
        assert media == {
            "event": "media",
            "sequenceNumber": "2",
            "streamSid": sid,
            "media": {"track": "inbound", "chunk": "1", "payload": "AQI="},
        }
        assert dtmf == {
            "event": "dtmf",
            "sequenceNumber": "3",
            "streamSid": sid,
            "dtmf": {"track": "inbound_track", "digit": "5"},
        }
        assert stop == {
            "event": "stop",
            "sequenceNumber": "4",
            "streamSid": sid,
            "stop": {"accountSid": caller.account_sid, "callSid": caller.call_sid},
        }


async def test_echo_comes_back_byte_for_byte():
    async with bridged(behaviour=echo) as (relay, url), make_caller(url) as caller:
        await caller.post_voice()
        await caller.open_stream()
        sent = [make_numbered(n, 12 + n) for n in range(200)]
        await caller.send_frames(sent, paced=False)
        await soon(lambda: len(caller.received_audio) == len(sent))
        session = await relay.agent.next_session()
        assert [item.audio for item in session.received] == caller.received_audio == sent
        await caller.hang_up()
        assert caller.close_code == 1000
        await session.closed.wait()
        assert session.close_code == 1000
        assert caller.warnings == session.violations == relay.agent.violations == []


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("drop", "lost"),
        ("dup", "duplicates"),
        ("swap", "reordered"),
        ("corrupt", "corrupt"),
        ("late", "late"),
    ],
)
async def test_fault_in_the_callers_audio_is_seen_at_the_agent(kind, seen):
    injector = Injector(kind, every=10, late_s=0.3)
    async with bridged(behaviour=silent) as (relay, url), make_caller(url, inject=injector) as caller:
        await caller.post_voice()
        await caller.open_stream()
        await caller.send_frames((make_numbered(n) for n in range(15)), paced=False)
        session = await relay.agent.next_session()
        expected = 15 + (kind == "dup") - (kind == "drop")
        await soon(lambda: len(session.received) == expected)
        checker = NumberedChecker(late_s=0.2)
        for received, sent in zip(session.received, caller.sent, strict=False):
            checker.check(received.audio, now=received.at, due=sent.at)
        if kind == "dup":
            checker.check(session.received[-1].audio)
        assert checker.faults(15) == {seen: 1}
        assert [item.audio for item in session.received] != [
            item.audio for item in caller.sent
        ] or kind == "late"


async def test_fault_in_the_agents_audio_is_seen_at_the_caller():
    async with (
        bridged(behaviour=numbered(count=120, paced=False), faults=Faults(inject="drop")) as (_, url),
        make_caller(url) as caller,
    ):
        await caller.post_voice()
        await caller.open_stream()
        await soon(lambda: len(caller.received_audio) == 118)
        checker = NumberedChecker()
        for audio in caller.received_audio:
            checker.check(audio)
        assert checker.faults(120) == {"lost": 2}


async def test_marks_are_echoed_when_played_and_by_clear():
    async with bridged(behaviour=silent) as (relay, url), make_caller(url) as caller:
        await caller.post_voice()
        await caller.open_stream()
        session = await relay.agent.next_session()

        def marks() -> list[str]:
            return [m["mark"]["name"] for m in relay.from_caller if m["event"] == "mark"]

        async def mark(name: str) -> None:
            text = {"event": "mark", "streamSid": caller.stream_sid, "mark": {"name": name}}
            await relay.to_caller.send_json(text)

        await mark("empty")
        await soon(lambda: marks() == ["empty"])
        began = asyncio.get_running_loop().time()
        await session.send_audio(b"a" * 800)
        await soon(lambda: caller.received_audio)
        await mark("played")
        await soon(lambda: marks() == ["empty", "played"])
        assert asyncio.get_running_loop().time() - began > 0.09
        await session.send_audio(b"b" * 80_000)
        await soon(lambda: len(caller.received_audio) == 2)
        await mark("one")
        await mark("two")
        await session.send_interrupt()
        await soon(lambda: marks() == ["empty", "played", "one", "two"])
        assert caller.playout.cleared_bytes > 70_000
        assert caller.warnings == []


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ("{", "31951"),
        ("[]", "31951"),
        ('{"event":"stop","streamSid":"SID"}', "31951"),
        ('{"event":"clear","streamSid":"MZother"}', "31951"),
        ('{"event":"clear","streamSid":"SID","extra":1}', "31951"),
        ('{"event":"clear"}', "31951"),
        ('{"event":"mark","streamSid":"SID","mark":{}}', "31951"),
        ('{"event":"mark","streamSid":"SID","mark":{"name":1}}', "31951"),
        ('{"event":"media","streamSid":"SID","media":{"payload":"a"}}', "31951"),
        ('{"event":"media","streamSid":"SID","media":{"payload":"YQ==\\n"}}', "31951"),
        ('{"event":"media","streamSid":"SID","media":{"payload":"YQ==","track":"x"}}', "31951"),
        (b"binary", "31950"),
    ],
)
async def test_what_twilio_would_warn_of_is_recorded(message, number):
    async with bridged(behaviour=silent) as (relay, url), make_caller(url) as caller:
        await caller.post_voice()
        await caller.open_stream()
        await relay.agent.next_session()
        if isinstance(message, bytes):
            await relay.to_caller.send_bytes(message)
        else:
            await relay.to_caller.send_str(message.replace("SID", caller.stream_sid))
        await soon(lambda: caller.warnings)
        assert caller.warnings[0].startswith(number)
        assert caller.received == []


async def test_abort_of_the_caller_is_a_reset_without_stop():
    async with bridged(behaviour=silent) as (relay, url), make_caller(url) as caller:
        await caller.post_voice()
        await caller.open_stream()
        session = await relay.agent.next_session()
        caller.abort()
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
        assert caller.close_code == 1006
        await asyncio.wait_for(session.closed.wait(), DEADLINE_S)
        assert not any(m["event"] == "stop" for m in relay.from_caller)


async def test_close_code_of_the_agent_and_its_abort_are_seen():
    async with (
        AgentService(behaviour=silent, account=Account(agent_id=None)) as agent,
        aiohttp.ClientSession() as http,
    ):
        # aiohttp's client answers every close with 1000.
        for end, code in (("close", 1000), ("abort", 1006)):
            body = {
                "agent_id": "a",
                "audio_websocket_protocol": "twilio",
                "audio_encoding": "mulaw",
                "sample_rate": 8000,
                "metadata": {"callSid": "", "from": ""},
            }
            headers = {"Authorization": f"Bearer {agent.account.key}"}
            async with http.post(agent.url + "/v2/create-web-call", json=body, headers=headers) as response:
                assert response.status == 201
                made = await response.json()
            headers = {"Authorization": f"Bearer {made['access_token']}"}
            async with http.ws_connect(f"{agent.ws_url}/{made['call_id']}", headers=headers) as socket:
                session = await agent.next_session()
                if end == "close":
                    closing = asyncio.create_task(session.close(1011))
                    assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
                    assert socket.close_code == 1011
                    await closing
                else:
                    session.abort()
                    await socket.receive()
                await asyncio.wait_for(session.closed.wait(), DEADLINE_S)
                assert session.close_code == code


async def test_paused_agent_answers_no_ping_until_it_reads_again():
    async with bridged(behaviour=echo) as (relay, url), make_caller(url) as caller:
        await caller.post_voice()
        await caller.open_stream()
        session = await relay.agent.next_session()
        session.pause_reading()
        await caller.send_media(b"a" * 160)
        await soon(lambda: relay.from_caller[-1]["event"] == "media")
        assert session.received == []
        session.resume_reading()
        await soon(lambda: caller.received_audio == [b"a" * 160])


async def test_registration_answers_in_their_order_then_the_usual_one():
    answers = [HttpAnswer(status=429, headers={"Retry-After": "1"}), HttpAnswer(body=b"not json")]
    async with (
        AgentService(faults=Faults(rest_answers=answers), account=Account(token_characters=1500)) as agent,
        aiohttp.ClientSession() as http,
    ):
        body = {
            "agent_id": agent.account.agent_id,
            "audio_websocket_protocol": "twilio",
            "audio_encoding": "mulaw",
            "sample_rate": 8000,
            "metadata": {"callSid": "CA", "from": "+1"},
        }
        headers = {"Authorization": f"Bearer {agent.account.key}"}
        url = agent.url + "/v2/create-web-call"
        async with http.post(url, json=body, headers=headers) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
        async with http.post(url, json=body, headers=headers) as response:
            assert await response.text() == "not json"
        async with http.post(url, json=body, headers=headers) as response:
            assert len((await response.json())["access_token"]) == 1500
        async with http.post(url, json=body) as response:
            assert response.status == 401
        async with http.post(url, json=body | {"audio_encoding": "s16le"}, headers=headers) as response:
            assert response.status == 422
        assert len(agent.violations) == 2


async def test_conversation_is_interrupted_goes_on_and_ends():
    events: list[str] = []
    async with bridged(behaviour=conversation) as (relay, url), make_caller(url) as caller:
        await caller.post_voice()
        await caller.open_stream()
        session = await relay.agent.next_session()
        session.on_event = events.append
        caller.open_line()
        await soon(lambda: len(caller.received_audio) > 20)
        await caller.say(speech("caller_interruption"))
        await soon(lambda: "agent_answer" in events and caller.playout.buffered_bytes > 4000)
        await caller.say(speech("caller_interruption"))
        await asyncio.wait_for(caller.closed.wait(), 20)
        assert [event for event in events if event != "agent_greeting"] == [
            "interrupt",
            "agent_answer",
            "interrupt",
            "agent_continues",
            "agent_goodbye",
            "call_ended",
        ]
        assert caller.close_code == 1000
        goodbye = speech("agent_goodbye")
        assert goodbye in caller.heard()
        assert caller.heard()[: len(goodbye)] != SILENCE * len(goodbye)
        assert caller.warnings == session.violations == []


def test_retell_signature_vector():
    body = '{"event":"call_started","call":{"call_id":"abc"}}'
    assert sign_retell_webhook(body, "key_test", 1700000000000) == (
        "v=1700000000000,d=3ad46da7fc093c64685db60c479041346365e52523655af889c0eb59b1983b89"
    )
