"""Certificates: agents whose own is not valid get no call and no credential; the port takes a new one at a reload."""

from __future__ import annotations

import datetime

import pytest
import trustme
from certificates import Tls, encrypt
from live import until
from live_raw import connected
from trustme import KeyType

from bridge.call.state import State
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.service import AgentService

pytestmark = pytest.mark.parametrize("tls", ["tls"], indirect=True)

FALLBACK = ["Say", "Hangup"]
# What the log says of each.
INVALID = {
    "untrusted": "certificate refused: unable to get local issuer certificate",
    "expired": "certificate refused: certificate has expired",
    "of another host": "certificate refused: IP address mismatch",
}


@pytest.fixture(params=INVALID)
def invalid(request, tls, tmp_path_factory):
    """The context of an agent, and what the log says of its certificate."""
    now = datetime.datetime.now(datetime.UTC)
    context = {
        "untrusted": lambda: Tls(tmp_path_factory.mktemp("another authority")).server(),
        "expired": lambda: tls.server(not_after=now - datetime.timedelta(hours=1)),
        "of another host": lambda: tls.server("127.0.0.2"),
    }[request.param]()
    return context, INVALID[request.param]


async def test_agent_without_a_valid_certificate_is_the_fallback(live_server, invalid, logs):
    context, reason = invalid
    async with AgentService(protocol="openai", behaviour=silent, ssl=context) as agent:
        live = await live_server(
            BRIDGE_AGENT="openai", OPENAI_API_KEY="key", OPENAI_REALTIME_URL=agent.ws_url
        )
        async with live.answered() as caller:
            await caller.open_stream()
            await caller.closed.wait()
            assert caller.close_code == 1011
            assert (await caller.follow_redirect()).verbs == FALLBACK
        assert (agent.sessions, agent.violations) == ({}, [])
        assert (await live.metrics())['bridge_calls_ended_total{why="agent_lost"}'] == 1
    assert [line for line in logs.lines if "call ended" in line and reason in line]


async def test_agent_after_one_without_a_valid_certificate_answers(live_server, invalid, logs):
    context, reason = invalid
    async with AgentService(protocol="openai", behaviour=silent, ssl=context) as agent:
        live = await live_server(
            BRIDGE_AGENT="openai,retell", OPENAI_API_KEY="key", OPENAI_REALTIME_URL=agent.ws_url
        )
        async with live.answered() as caller:
            await caller.open_stream()
            await until(lambda: any(call.state is State.BRIDGED for call in live.open_calls))
            session = await live.session_of(caller)
            await caller.send_media(b"hello")
            await until(lambda: session.received)
        assert (agent.sessions, agent.violations) == ({}, [])
        assert (await live.metrics())["bridge_agents_replaced_total"] == 1
    assert [line for line in logs.lines if "trying next" in line and reason in line]


async def test_no_session_is_asked_for_where_the_certificate_is_not_valid(live_server, invalid, logs):
    context, reason = invalid
    async with AgentService(behaviour=silent, ssl=context) as agent:
        live = await live_server(BRIDGE_AGENT="retell,echo", RETELL_API_URL=agent.url)
        async with live.answered() as caller:
            await caller.open_stream()
            await caller.send_media(b"hello")
            await until(lambda: caller.received_audio == [b"hello"])
        assert agent.requests == []
    assert [line for line in logs.lines if "trying next" in line and reason in line]


# The certificate of the port


async def served(live) -> str:
    """The serial number of the certificate that a new connection is shown."""
    async with connected(live.server.port, live.tls) as socket:
        return socket.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]


@pytest.mark.parametrize("key_type", [KeyType.ECDSA, KeyType.RSA])
async def test_reload_shows_new_connections_the_new_certificate_and_running_calls_go_on(
    live_server, tls, logs, key_type
):
    live = await live_server()
    former = await served(live)
    async with live.bridged() as (caller, session):
        tls.write(key_type=key_type)
        live.server.reload()
        assert await served(live) != former
        await caller.send_media(b"still here")
        await session.send_audio(b"and here")
        await until(lambda: session.received and caller.received)
    async with live.bridged() as (caller, session):
        await caller.send_media(b"hello")
        await until(lambda: session.received)
    assert len([line for line in logs.lines if "certificate reloaded" in line]) == 1


BAD = {
    "no certificate": (lambda certificate, key: certificate.unlink(), "BRIDGE_TLS_CERT: "),
    "no key": (lambda certificate, key: key.unlink(), "BRIDGE_TLS_KEY: "),
    "half a certificate": (
        lambda certificate, key: certificate.write_bytes(certificate.read_bytes()[:99]),
        "BRIDGE_TLS_CERT: must be a PEM file with the certificate chain, and BRIDGE_TLS_KEY with its key",
    ),
    "empty key": (
        lambda certificate, key: key.write_bytes(b""),
        "BRIDGE_TLS_KEY: must be a PEM file, which begins with -----BEGIN",
    ),
    "encrypted key": (
        lambda certificate, key: encrypt(key, b"password"),
        "BRIDGE_TLS_KEY_PASSWORD: is missing: the key in BRIDGE_TLS_KEY is encrypted",
    ),
    "key of another": (
        lambda certificate, key: trustme.CA().issue_cert("x").private_key_pem.write_to_path(key),
        "BRIDGE_TLS_KEY: is not the key of the first certificate in BRIDGE_TLS_CERT",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_certificate_is_refused_in_plain_words_and_the_former_stays(live_server, tls, logs, name):
    live = await live_server()
    former = await served(live)
    spoil, problem = BAD[name]
    spoil(*tls.write().values())
    live.server.reload()
    [line] = [line for line in logs.lines if "certificate refused, the former one stays" in line]
    assert line.startswith("ERROR")
    assert problem in line
    # Wanted here.
    logs.records.clear()
    assert await served(live) == former
    tls.write()
    live.server.reload()
    assert await served(live) != former
