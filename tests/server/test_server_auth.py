"""Authentication on the way to an agent: the signature of the upgrade, then the token in ``start``."""

import asyncio
import base64
import contextlib
import time

import aiohttp
import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from live import ACCOUNT_SID, API_KEY, AUTH_TOKEN, PUBLIC_URL, random_call_sid, until
from live_raw import connected, upgrade_request

from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.twilio.webhook import sign

OTHER_ACCOUNT = "AC" + 32 * "b"


def key() -> Fernet:
    """The key of this account's tokens, derived here once more from what the design says."""
    hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"voice-bridge token")
    return Fernet(base64.urlsafe_b64encode(hkdf.derive(AUTH_TOKEN.encode())))


async def check_call_works(live, caller):
    """A valid ``start`` now: both sides open and audio passes."""
    await caller.open_stream()
    session = await live.session_of(caller)
    await caller.send_media(b"hello")
    await until(lambda: session.received)


def opened(live) -> int:
    return sum(session.opened.is_set() for session in live.agent.sessions.values())


@contextlib.asynccontextmanager
async def refused_start(live, caller, parameters=None, *, url=None, **changed):
    """Open the stream of ``caller`` and send a ``start`` that must be refused with 1008, no agent opened."""
    before = opened(live)
    async with live.caller(call_sid=caller.call_sid) as forger:
        forger.answer = caller.answer
        forger.writer._stream_sid = forger.stream_sid
        await forger.open_stream(url, greet=False)
        await forger.send_raw(forger.writer.connected())
        parameters = caller.answer.parameters if parameters is None else parameters
        await forger.send_raw(forger.writer.start(parameters, **changed))
        await asyncio.wait_for(forger.closed.wait(), 2)
        assert forger.close_code == 1008
        assert forger.received == []
        yield forger
    assert opened(live) == before


# The upgrade


async def upgrade_status(live, caller, url=None, **options) -> int:
    try:
        await caller.open_stream(url, **options)
    except aiohttp.WSServerHandshakeError as error:
        return error.status
    return 101


def url_of(caller) -> str:
    return caller.answer.stream_url


WRONG_UPGRADES = {
    "no signature": lambda caller: (None, {"X-Twilio-Signature": ""}),
    "wrong signature": lambda caller: (None, {"X-Twilio-Signature": sign("other", url_of(caller))}),
    "signature of https": lambda caller: (
        None,
        {"X-Twilio-Signature": sign(AUTH_TOKEN, url_of(caller).replace("wss:", "https:"))},
    ),
    "signature of another port": lambda caller: (
        None,
        {"X-Twilio-Signature": sign(AUTH_TOKEN, url_of(caller).replace(".com/", ".com:8443/"))},
    ),
    "signature of another call": lambda caller: (
        None,
        {"X-Twilio-Signature": sign(AUTH_TOKEN, url_of(caller)[:-32] + 32 * "0")},
    ),
    "trailing slash": lambda caller: (url_of(caller) + "/", {}),
    "query that is not signed": lambda caller: (
        url_of(caller) + "?a=b",
        {"X-Twilio-Signature": sign(AUTH_TOKEN, url_of(caller))},
    ),
    "query": lambda caller: (url_of(caller) + "?a=b", {}),
    "encoded path": lambda caller: (url_of(caller).replace("/media/", "/%6dedia/"), {}),
    "dotted path": lambda caller: (url_of(caller).replace("/media/", "/media//"), {}),
    "no id": lambda caller: (PUBLIC_URL.replace("https", "wss") + "/media/", {}),
    "upper case": lambda caller: (url_of(caller)[:-32] + 32 * "A", {}),
    "another path": lambda caller: (PUBLIC_URL.replace("https", "wss") + "/voice", {}),
}


@pytest.mark.parametrize("name", WRONG_UPGRADES)
async def test_wrong_upgrade_is_403_and_burns_nothing(live_server, name):
    live = await live_server()
    async with live.answered() as caller:
        url, headers = WRONG_UPGRADES[name](caller)
        assert await upgrade_status(live, caller, url, headers=headers) == 403
        assert live.legs == ()
        await check_call_works(live, caller)


async def test_upgrade_signed_with_the_port_is_taken(live_server):
    live = await live_server()
    async with live.answered() as caller:
        with_port = url_of(caller).replace("voice.example.com/", "voice.example.com:443/")
        assert await upgrade_status(live, caller, signature=sign(AUTH_TOKEN, with_port)) == 101
        await live.session_of(caller)


async def test_two_signatures_are_none(live_server):
    live = await live_server()
    async with live.answered() as caller, connected(live.server.port) as socket:
        request = upgrade_request(caller)
        line = next(line for line in request.split(b"\r\n") if line.startswith(b"X-Twilio-Signature"))
        await socket.send(request.replace(line, line + b"\r\n" + line))
        assert (await socket.reader.readline()).startswith(b"HTTP/1.1 403 ")
        await socket.gone()


async def test_old_and_new_auth_token_are_good_while_it_is_rotated(live_server):
    live = await live_server(TWILIO_AUTH_TOKEN=f"newer-token,{AUTH_TOKEN}")
    for token in (AUTH_TOKEN, "newer-token"):
        async with live.answered(auth_token=token) as caller:
            await check_call_works(live, caller)


# The token


def changed_at(parameters, position):
    text = parameters["token"]
    other = "A" if text[position] != "A" else "B"
    return {**parameters, "token": text[:position] + other + text[position + 1 :]}


BAD_TOKENS = {
    "none": lambda p: {},
    "empty": lambda p: {"token": ""},
    "first character": lambda p: changed_at(p, 0),
    "middle": lambda p: changed_at(p, 100),
    "before the end": lambda p: changed_at(p, -4),
    "cut": lambda p: {"token": p["token"][:-4]},
    "longer": lambda p: {**p, f"token{len(p)}": "AAAA"},
    "a piece missing": lambda p: {"token": p["token"]},
    "swapped pieces": lambda p: {"token": p["token1"], "token1": p["token"]},
    "not ASCII": lambda p: {"token": "\u00e9" * 100},
    "no texts": lambda p: dict.fromkeys(p, 7),
    "of nobody": lambda p: {"token": Fernet(Fernet.generate_key()).encrypt(b'["media",{}]').decode()},
    "a thousand": lambda p: {f"token{n}": "x" for n in range(999)},
}


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_bad_token_is_1008_and_the_right_one_still_works(live_server, name):
    live = await live_server()
    async with live.answered() as caller:
        assert set(caller.answer.parameters) >= {"token", "token1"}
        async with refused_start(live, caller, BAD_TOKENS[name](caller.answer.parameters)):
            pass
        assert (await live.metrics())['bridge_calls_refused_total{reason="token"}'] == 1
        await check_call_works(live, caller)


async def test_late_token_is_refused_and_a_fresh_one_works(live_server):
    live = await live_server()
    async with live.answered() as caller:
        fernet = key()
        text = fernet.decrypt("".join(caller.answer.parameters.values()).encode())
        old = fernet.encrypt_at_time(text, int(time.time()) - 62).decode()
        future = fernet.encrypt_at_time(text, int(time.time()) + 3600).decode()
        for token in (old, future):
            async with refused_start(live, caller, {"token": token}):
                pass
        assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
        await check_call_works(live, caller)


async def test_state_of_a_resume_is_no_token(live_server):
    live = await live_server()
    async with live.answered() as caller:
        state = caller.answer.redirect_url.partition("s=")[2]
        async with refused_start(live, caller, {"token": state}):
            pass


async def test_token_of_another_call_is_refused_and_not_burnt(live_server):
    live = await live_server()
    async with live.answered() as one, live.answered() as two:
        async with refused_start(live, two, one.answer.parameters):
            pass
        async with refused_start(live, two, one.answer.parameters, callSid=one.call_sid):
            pass
        async with refused_start(live, one, one.answer.parameters, callSid=two.call_sid):
            pass
        async with refused_start(live, one, url=url_of(two)):
            pass
        await check_call_works(live, one)
        await check_call_works(live, two)


WRONG_STARTS = {
    "another account": {"accountSid": OTHER_ACCOUNT},
    "PCM": {"mediaFormat": {"encoding": "audio/x-l16", "sampleRate": 8000, "channels": 1}},
    "16 kHz": {"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 16000, "channels": 1}},
    "two channels": {"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 2}},
    "rate as text": {"mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": "8000", "channels": 1}},
    "no format": {"mediaFormat": None},
    "another call": {"callSid": random_call_sid()},
}


@pytest.mark.parametrize("name", WRONG_STARTS)
async def test_wrong_start_is_1008_and_burns_nothing(live_server, name):
    live = await live_server()
    async with live.answered() as caller:
        async with refused_start(live, caller, **WRONG_STARTS[name]):
            pass
        await check_call_works(live, caller)


async def test_malformed_start_is_ignored_and_burns_nothing(live_server):
    live = await live_server()
    async with live.answered() as caller:
        await caller.open_stream(greet=False)
        for text in (
            '{"event":"start"}',
            '{"event":"start","start":[]}',
            caller.writer.start(caller.answer.parameters, callSid=None),
            caller.writer.start(caller.answer.parameters, streamSid=1),
            caller.writer.start(caller.answer.parameters, accountSid="AC/../x"),
        ):
            await caller.send_raw(text)
        await live.until_ignored("caller", "bad_sid", 3)
        assert await live.ignored("caller", "missing_field") == 2
        await caller.send_raw(caller.writer.start(caller.answer.parameters))
        session = await live.session_of(caller)
        await caller.send_media(b"hello")
        await until(lambda: session.received)


async def test_messages_before_start_reach_nobody(live_server):
    live = await live_server()
    async with live.answered() as caller:
        await caller.open_stream(greet=False)
        for text in (
            caller.writer.media(b"early", 0),
            caller.writer.dtmf("1"),
            caller.writer.mark("played-out"),
        ):
            await caller.send_raw(text)
        await live.until_ignored("caller", "before_start", 3)
        assert opened(live) == 0
        await caller.send_raw(caller.writer.start(caller.answer.parameters))
        session = await live.session_of(caller)
        await caller.send_media(b"hello")
        await until(lambda: session.received)
        assert [item.audio for item in session.received] == [b"hello"]


async def test_second_socket_of_a_live_call_is_refused_and_the_first_goes_on(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        async with refused_start(live, caller):
            assert live.live_calls == 1
        await caller.send_media(b"still here")
        await session.send_audio(b"and here")
        await until(lambda: session.received and caller.received)
        # The webhook again: the same call, nothing new, and its fresh token opens nothing either.
        assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
        assert len(live.agent.requests) == 1
        async with refused_start(live, caller):
            pass
        assert not caller.closed.is_set()


async def test_two_starts_at_once_win_once(live_server):
    live = await live_server()
    async with live.answered() as caller, live.caller(call_sid=caller.call_sid) as twin:
        twin.answer = caller.answer
        await asyncio.gather(caller.open_stream(), twin.open_stream())
        await until(lambda: caller.closed.is_set() or twin.closed.is_set())
        assert (caller.close_code, twin.close_code) in ((1008, None), (None, 1008))
        assert live.live_calls == 1
        assert opened(live) <= 1


async def test_token_of_a_call_that_is_over_is_refused(live_server):
    live = await live_server()
    async with live.bridged() as (caller, _):
        await caller.send_stop()
        await caller.closed.wait()
        async with refused_start(live, caller):
            pass
        assert (await live.metrics())['bridge_calls_refused_total{reason="call_over"}'] == 1
        assert (await caller.post_voice()).verbs == ["Hangup"]


async def test_stream_sid_cannot_break_a_message(live_server):
    live = await live_server()
    async with live.answered() as caller:
        await caller.open_stream(greet=False)
        await caller.send_raw(caller.writer.start(caller.answer.parameters, streamSid='MZ","x":"'))
        await live.until_ignored("caller", "bad_sid")
        assert opened(live) == 0


# Secrets


async def test_long_access_token_is_carried_to_the_agent(live_server):
    live = await live_server(agent={"account": Account(key=API_KEY, token_characters=1500)})
    async with live.answered() as caller:
        assert len(caller.answer.parameters) >= 4
        assert all(len(name) + len(text) < 500 for name, text in caller.answer.parameters.items())
        await check_call_works(live, caller)
        [session] = live.agent.sessions.values()
        assert len(session.access_token) == 1500


async def test_secrets_are_not_in_logs_metrics_or_answers(live_server, logs):
    refusals = [HttpAnswer(status=401, body=b"canary-body"), HttpAnswer(status=503)]
    live = await live_server(BRIDGE_METRICS_TOKEN="canary-metrics-token")
    live.agent.rest_answers.extend([HttpAnswer(status=500, body=b"canary-body")])
    live.agent.upgrade_answers.extend(refusals)
    texts, tokens = [], []
    async with live.caller() as caller:
        texts.append((await caller.post_voice()).body)
    for _ in range(3):
        async with live.answered() as caller:
            tokens += caller.answer.parameters.values()
            async with refused_start(live, caller, changed_at(caller.answer.parameters, 50)):
                pass
            await caller.open_stream()
            await asyncio.wait({asyncio.ensure_future(caller.closed.wait())}, timeout=0.3)
            await caller.hang_up()
    async with live.caller() as caller:
        texts.append((await caller.post_voice(signature="canary-signature")).body)
    texts.append((await live.get("/metrics"))[1])
    status, metrics = await live.get("/metrics", Authorization="Bearer canary-metrics-token")
    assert status == 200
    secrets = [
        AUTH_TOKEN,
        API_KEY,
        "canary",
        *tokens,
        *(s.access_token for s in live.agent.sessions.values()),
    ]
    ours = [line for line in logs.lines if " bridge." in line]
    assert len(ours) >= 8
    for text in (*ours, *texts, metrics):
        assert [secret for secret in secrets if secret in text] == []


async def test_metrics_are_for_the_bearer_or_for_loopback_only(live_server):
    live = await live_server()
    assert (await live.get("/metrics"))[0] == 200
    assert (await live.get("/metrics", **{"X-Forwarded-For": "203.0.113.9"}))[0] == 403
    guarded = await live_server(BRIDGE_METRICS_TOKEN="secret")
    assert (await guarded.get("/metrics"))[0] == 401
    assert (await guarded.get("/metrics", Authorization="Bearer secret"))[0] == 200
    assert ACCOUNT_SID not in (await guarded.get("/"))[1]
