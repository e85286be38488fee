"""The stand-in agent service as Retell, in the documented ways: its messages, and its list of violations."""

import asyncio

import aiohttp
import pytest
from standins_client import DEADLINE_S, STREAM_SID, calling, connected, one_violation, post, refused, soon

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService

REGISTRATION = {
    "agent_id": "agent_standin",
    "audio_websocket_protocol": "web",
    "audio_encoding": "mulaw",
    "sample_rate": 8000,
}


@pytest.mark.parametrize(
    ("protocol", "path", "good"),
    [
        ("retell-web", "/register-call", REGISTRATION),
        ("retell-twilio", "/register-call", REGISTRATION | {"audio_websocket_protocol": "twilio"}),
        ("retell-sip", "/v2/register-phone-call", {"agent_id": "agent_standin"}),
    ],
)
async def test_retell_registrations_are_checked(protocol, path, good):
    async with AgentService(protocol=protocol) as service:
        optional = {"from_number": "+1", "to_number": "+2", "metadata": {"a": 1}, "unknown": None}
        status, made = await post(service, path, good | optional)
        assert status == 201 and made["call_status"] == "registered"
        assert {**made, **good, "from_number": "+1", "to_number": "+2", "metadata": {"a": 1}} == made
        assert list(service.sessions) == [made["call_id"]]
        bad = [
            (422, {"agent_id": "other"}),
            (422, {"agent_id": None}),
            (400, {"from_number": 1}),
            (400, {"metadata": "x"}),
            (400, {"retell_llm_dynamic_variables": {"a": 1}}),
        ]
        if protocol == "retell-sip":
            bad += [(400, {"direction": "up"})]
        else:
            bad += [
                (422, {"audio_websocket_protocol": "plivo"}),
                (422, {"audio_encoding": "mulaw", "sample_rate": 16000}),
                (422, {"sample_rate": 8000.0}),
                (422, {"audio_encoding": "s16le", "sample_rate": 44100}),
                (422, {"sample_rate": None}),
            ]
        for expected, changes in bad:
            assert (await post(service, path, good | changes))[0] == expected, changes
        assert (await post(service, path, good, key="wrong"))[0] == 401
        assert (await post(service, path, []))[0] == 400
        assert len(service.violations) == len(bad) + 2
        assert len(service.requests) == len(bad) + 3
        assert len(service.sessions) == 1
        service.rest_answers.append(HttpAnswer(status=429, headers={"Retry-After": "1"}))
        assert (await post(service, path, good))[0] == 429
        assert (await post(service, path, good))[0] == 201


async def test_sip_call_is_announced_at_its_registration():
    async with AgentService(protocol="retell-sip") as service:
        seen = []
        service.on_session = seen.append
        body = {"agent_id": "agent_standin", "direction": "inbound", "metadata": {"callSid": "CA1"}}
        _, made = await post(service, "/v2/register-phone-call", body)
        assert made["call_type"] == "phone_call" and made["direction"] == "inbound"
        session = await service.next_session()
        assert seen == [session]
        assert session.call_id == made["call_id"] and session.request == body
        assert not session.opened.is_set()


@pytest.mark.parametrize("protocol", ["retell", "retell-web", "retell-twilio"])
async def test_retell_socket_wants_a_registered_call_once(protocol):
    async with AgentService(protocol=protocol, behaviour=silent) as service:
        await refused(service, service.ws_url + "/call_unknown", 404)
        async with calling(service) as (_, session), aiohttp.ClientSession() as http:
            headers = {"Authorization": f"Bearer {getattr(session, 'access_token', '')}"}
            with pytest.raises(aiohttp.WSServerHandshakeError, match="409"):
                await http.ws_connect(f"{service.ws_url}/{session.call_id}", headers=headers)
        assert len(service.violations) == 2


async def test_web_socket_answers_every_ping():
    async with connected("retell-web", behaviour=silent) as (client, session):
        for count in (1, 2):
            await client.socket.send_str("ping")
            await soon(lambda count=count: client.frames.count("pong") == count)
        assert session.pings == 2


async def test_web_socket_takes_no_half_sample():
    account = Account(from_caller_format="pcm_16000", to_caller_format="pcm_16000")
    async with connected("retell-web", behaviour=silent, violates=True, account=account) as (client, session):
        await client.say(b"abc")
        await one_violation(session, "whole number of 16-bit samples")
        assert session.received == [] and session.received_raw == []


async def test_twilio_socket_records_start_keys_marks_and_stop():
    async with connected("retell-twilio", behaviour=silent, violates=True) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        assert session.stream_sid == STREAM_SID and session.start["callSid"] == "CA1"
        await client.send("dtmf", {"track": "inbound_track", "digit": "#"})
        await session.send_audio(b"a")
        await session.send_mark("one")
        await session.send_mark("two")
        await soon(lambda: session.marks == ["one", "two"])
        assert session.dtmf == ["#"]
        assert not session.stopped
        await client.send("stop", {"accountSid": "AC1", "callSid": "CA1"})
        await soon(lambda: session.stopped)
        names = [message["event"] for message in session.messages]
        assert names == ["connected", "start", "dtmf", "mark", "mark", "stop"]
        assert session.violations == []
        await client.say(b"late")
        await one_violation(session, "media after stop")
        assert session.received == []


@pytest.mark.parametrize(
    ("event", "body", "changes", "violation"),
    [
        ("media", {"track": "outbound", "chunk": "1", "timestamp": "1", "payload": ""}, {}, "track inbound"),
        ("media", {"track": "inbound", "chunk": 1, "timestamp": "1", "payload": ""}, {}, "isdecimal"),
        ("media", {"track": "inbound", "chunk": "1", "timestamp": "1", "payload": "*"}, {}, "base64"),
        ("media", {"track": "inbound", "chunk": "1", "timestamp": "1"}, {}, "payload"),
        ("dtmf", {"digit": "12"}, {}, "no key"),
        ("mark", {"name": "never sent"}, {}, "not in list"),
        ("dtmf", {"digit": "1"}, {"streamSid": "MZb"}, "the stream is 'MZb'"),
        ("dtmf", {"digit": "1"}, {"sequenceNumber": 9}, "not digits"),
        ("dtmf", {"digit": "1"}, {"sequenceNumber": "1"}, "follows 1"),
        ("start", {}, {}, "start came twice"),
        ("connected", {}, {}, "connected after start"),
        ("speech", {}, {}, "no event 'speech'"),
    ],
)
async def test_twilio_socket_refuses_what_twilio_never_sends(event, body, changes, violation):
    async with connected("retell-twilio", behaviour=silent, violates=True) as (client, session):
        await client.send(event, body, **changes)
        await one_violation(session, violation)
        assert session.received == [] and session.dtmf == [] and session.marks == []


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"callSid": ""}, "callSid"),
        ({"streamSid": "MZb"}, "two stream ids"),
        ({"tracks": ["outbound"]}, "tracks"),
        ({"mediaFormat": {"encoding": "audio/l16", "sampleRate": 8000, "channels": 1}}, "mediaFormat"),
        ({"customParameters": {"token": "x"}}, "token"),
        ({"customParameters": {"token2": "x"}}, "token2"),
    ],
)
async def test_twilio_socket_checks_start(changes, violation):
    async with connected("retell-twilio", behaviour=silent, greets=False, violates=True) as (
        client,
        session,
    ):
        start = {"streamSid": STREAM_SID, "accountSid": "AC1", "callSid": "CA1", "tracks": ["inbound"]}
        start["mediaFormat"] = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        await client.send("start", start | changes)
        await one_violation(session, violation)
        assert not session.ready.is_set()
        await client.say(b"a")
        await soon(lambda: len(session.violations) == 2)
        assert "media before start" in session.violations[1]
