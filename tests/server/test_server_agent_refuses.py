"""An unavailable agent: the caller gets the fallback in time, and the credential goes nowhere else."""

import asyncio
import contextlib
import gc
import time
import weakref

import pytest
from live import FACTOR, PLAIN_AND_TLS, until
from live_raw import RawAgent, accept_head

from bridge.agents.succession import STATUS_KINDS
from bridge.call.agent import AgentLeg
from bridge.call.agent_socket import AgentSocket
from bridge.standins.agent.faults import Faults, HttpAnswer

pytestmark = PLAIN_AND_TLS

FALLBACK = ["Say", "Hangup"]
CONNECT_S = 0.5
SLACK_S = 1.0 * FACTOR


async def check_refused(live, within_s=SLACK_S):
    """One call that gets no agent: 1011, the fallback, nothing left."""
    async with live.answered() as caller:
        began = time.monotonic()
        await caller.open_stream()
        await caller.send_media(b"hello?")
        await asyncio.wait_for(caller.closed.wait(), within_s)
        assert caller.close_code == 1011
        assert caller.received == []
        assert (await caller.follow_redirect()).verbs == FALLBACK
        # Asked again, the answer is no new stream.
        assert (await caller.post_voice()).verbs == ["Hangup"]
        await until(lambda: live.is_idle)
        return time.monotonic() - began


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 503])
async def test_refused_upgrade_is_the_fallback_and_is_not_tried_again(live_server, logs, status):
    live = await live_server(
        agent={"faults": Faults(upgrade_answers=[HttpAnswer(status=status, body=b"canary-of-the-answer")])}
    )
    await check_refused(live)
    assert not live.agent.upgrade_answers
    assert (await live.metrics())['bridge_calls_ended_total{why="agent_lost"}'] == 1
    ours = [line for line in logs.lines if " bridge." in line]
    assert [line for line in ours if "canary" in line] == []
    told = [line for line in ours if f"upgrade refused: {status}" in line]
    assert len([line for line in told if "call ended" in line]) == 1
    # What somebody has to correct has a line with what to do.
    assert len([line for line in told if "agent refuses the call" in line]) == (status in STATUS_KINDS)
    assert len(told) == 1 + (status in STATUS_KINDS)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect_is_not_followed(live_server, tls, status):
    async def take_credential(socket):
        await socket.gone()

    async with RawAgent(take_credential, tls) as elsewhere:
        headers = {"Location": elsewhere.ws_url}
        refusal = Faults(upgrade_answers=[HttpAnswer(status=status, headers=headers)])
        live = await live_server(agent={"faults": refusal})
        await check_refused(live)
        assert elsewhere.sockets == []


async def test_closed_port_is_the_fallback(live_server, tls):
    async with RawAgent(lambda socket: socket.gone(), tls) as agent:
        closed = agent.ws_url
    live = await live_server(RETELL_WS_URL=closed)
    await check_refused(live)


async def test_name_that_does_not_exist_is_the_fallback(live_server):
    live = await live_server(RETELL_WS_URL="ws://agent.invalid/audio-websocket", BRIDGE_AGENT_CONNECT_S=2)
    await check_refused(live, within_s=2 + SLACK_S)


async def test_agent_that_never_answers_the_upgrade_is_given_up_in_time(live_server, tls):
    async with RawAgent(lambda socket: socket.gone(), tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url, BRIDGE_AGENT_CONNECT_S=CONNECT_S)
        took_s = await check_refused(live, within_s=CONNECT_S + SLACK_S)
        assert took_s > CONNECT_S
        # The handler returns only when the bridge has closed its end.
        await until(lambda: not agent._tasks)


async def test_agent_that_drips_its_answer_is_given_up_in_time(live_server, tls):
    async def drip(socket):
        with contextlib.suppress(ConnectionError):
            for byte in accept_head(socket):
                await socket.send(bytes([byte]))
                await asyncio.sleep(0.05)

    async with RawAgent(drip, tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url, BRIDGE_AGENT_CONNECT_S=CONNECT_S)
        assert await check_refused(live, within_s=CONNECT_S + SLACK_S) > CONNECT_S
        await until(lambda: not agent._tasks)


def headers_of(size):
    return b"HTTP/1.1 101 Switching Protocols\r\nX-Filling: " + b"x" * size + b"\r\n"


WRONG_ANSWERS = {
    "nothing": lambda socket: b"",
    "no HTTP": lambda socket: b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "not ASCII": lambda socket: b"HTTP/1.1 101 \xff\xfe\r\n\xff: \xff\r\n\r\n",
    "NUL": lambda socket: b"HTTP/1.1 101 x\r\na: \x00\r\n\r\n",
    "status of words": lambda socket: b"HTTP/1.1 abc d\r\n\r\n",
    "no status": lambda socket: b"HTTP/1.1\r\n\r\n",
    "header without colon": lambda socket: b"HTTP/1.1 101 x\r\nUpgrade websocket\r\n\r\n",
    "wrong accept": lambda socket: accept_head(socket, "d3JvbmcgYWNjZXB0IGtleQ=="),
    "no accept": lambda socket: b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "no upgrade": lambda socket: accept_head(socket).replace(b"Upgrade: websocket\r\n", b""),
    "too many headers": lambda socket: headers_of(1) + b"a: b\r\n" * 5000,
    "endless header": lambda socket: headers_of(17 * 1024) * 4,
    "garbage after the head": lambda socket: accept_head(socket) + b"\xff" * 100,
}


@pytest.mark.parametrize("name", WRONG_ANSWERS)
async def test_wrong_answer_to_the_upgrade_is_the_fallback(live_server, tls, name):
    async def serve(socket):
        await socket.send(WRONG_ANSWERS[name](socket))
        socket.finish()
        await socket.gone()

    async with RawAgent(serve, tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url, BRIDGE_AGENT_CONNECT_S=2)
        await check_refused(live, within_s=2 + SLACK_S)
        await until(lambda: not agent._tasks)


EXTENSION = "upgrade refused: the agent names an extension, and none was offered"
PROTOCOL = "upgrade refused: the agent names a subprotocol that was not offered"
OFFER = 'Sec-WebSocket-Protocol = "one, two"'
# A header of the 101, one of the request, and what the log says if the two do not fit.
NAMED = {
    "extension": ("Sec-WebSocket-Extensions: permessage-deflate", "", EXTENSION),
    "second extension": ("Sec-WebSocket-Extensions:\r\nSec-WebSocket-Extensions: x", "", EXTENSION),
    "no extension": ("Sec-WebSocket-Extensions:", "", None),
    "subprotocol": ("Sec-WebSocket-Protocol: one", "", PROTOCOL),
    "other subprotocol": ("Sec-WebSocket-Protocol: three", OFFER, PROTOCOL),
    "offered subprotocol": ("Sec-WebSocket-Protocol: two", OFFER, None),
}
AGENTS_FILE = """
[mine]
url = "{url}"
to_agent = '{{"data":"{{audio}}"}}'
from_agent = {{ path = "data" }}
[mine.headers]
Authorization = "key"
{offer}
"""


@pytest.mark.parametrize("name", NAMED)
async def test_what_the_agent_names_in_its_101_must_have_been_offered(live_server, tls, tmp_path, logs, name):
    header, offer, refusal = NAMED[name]

    async def serve(socket):
        await socket.send(accept_head(socket)[:-2] + header.encode() + b"\r\n\r\n")
        await socket.send_frame(b'{"data":"YQ=="}')
        await socket.gone()

    async with RawAgent(serve, tls) as agent:
        (tmp_path / "agents.toml").write_text(AGENTS_FILE.format(url=agent.ws_url, offer=offer))
        live = await live_server(BRIDGE_AGENTS_FILE=tmp_path / "agents.toml", BRIDGE_AGENT="mine")
        if refusal:
            await check_refused(live)
            assert [line for line in logs.lines if refusal in line]
        else:
            async with live.answered() as caller:
                await caller.open_stream()
                await until(lambda: caller.received_audio == [b"a"])


@pytest.mark.parametrize(
    ("header", "name"),
    [("", "User-Agent: voice-bridge"), ('user-agent = "Acme/1"', "user-agent: Acme/1")],
)
async def test_upgrade_names_its_client_unless_the_agents_table_does(
    live_server, tls, tmp_path, header, name
):
    async def serve(socket):
        await socket.send(accept_head(socket))
        await socket.send_frame(b'{"data":"YQ=="}')
        await socket.gone()

    async with RawAgent(serve, tls) as agent:
        (tmp_path / "agents.toml").write_text(AGENTS_FILE.format(url=agent.ws_url, offer=header))
        live = await live_server(BRIDGE_AGENTS_FILE=tmp_path / "agents.toml", BRIDGE_AGENT="mine")
        async with live.answered() as caller:
            await caller.open_stream()
            await until(lambda: caller.received_audio == [b"a"])
        lines = agent.sockets[0].head.split("\r\n")
        assert [line for line in lines if line.lower().startswith("user-agent")] == [name]


async def test_no_session_is_the_fallback_at_once_and_no_stream(live_server):
    live = await live_server(agent={"faults": Faults(rest_answers=[HttpAnswer(status=402)])})
    async with live.caller() as caller:
        answer = await caller.post_voice()
        assert (answer.status, answer.verbs) == (200, FALLBACK)
        # The next request is a new attempt.
        assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]


async def test_agents_back_after_an_outage_take_calls_at_once(live_server):
    live = await live_server()
    live.agent.upgrade_answers.extend([HttpAnswer(status=503)] * 5)
    await asyncio.gather(*(check_refused_quietly(live) for _ in range(5)))
    async with live.bridged() as (caller, session):
        await caller.send_media(b"hello")
        await until(lambda: session.received)


async def check_refused_quietly(live):
    async with live.answered() as caller:
        await caller.open_stream()
        await asyncio.wait_for(caller.closed.wait(), SLACK_S)
        assert caller.close_code == 1011


NEVER_OPEN = {
    "refused": lambda socket: socket.send(b"HTTP/1.1 503 x\r\n\r\n"),
    "wrong": lambda socket: socket.send(accept_head(socket)[:-2] + b"Sec-WebSocket-Extensions: x\r\n\r\n"),
    "closed": lambda socket: socket.aclose(),
    "late": lambda socket: socket.gone(),
    "abandoned": lambda socket: socket.gone(),
}


@pytest.mark.parametrize("how", NEVER_OPEN)
async def test_memory_of_a_leg_that_never_opened_comes_back_without_the_garbage_collector(
    live_server, tls, monkeypatch, how
):
    held = []
    connect = AgentLeg.connect

    def watched_connect(leg):
        held.extend([weakref.ref(leg), weakref.ref(leg.wire)])
        connect(leg)

    monkeypatch.setattr(AgentLeg, "connect", watched_connect)
    async with RawAgent(NEVER_OPEN[how], tls) as agent:
        connect_s = CONNECT_S if how == "late" else 5
        live = await live_server(RETELL_WS_URL=agent.ws_url, BRIDGE_AGENT_CONNECT_S=connect_s)
        gc.collect()
        gc.disable()
        try:
            async with live.answered() as caller:
                await caller.open_stream()
                await until(lambda: agent.sockets)
                if how == "abandoned":
                    await caller.hang_up()
                await caller.closed.wait()
            await until(lambda: live.is_idle)
            await until(lambda: not any(reference() for reference in held))
        finally:
            gc.enable()
    assert held


async def test_agent_that_answers_the_upgrade_of_a_call_that_is_over_is_cut(
    live_server, tls, monkeypatch, logs
):
    over = asyncio.Event()

    async def answer_late(socket):
        await over.wait()
        await socket.send(accept_head(socket))
        await socket.gone()

    # As if the answer came in before the cut.
    monkeypatch.setattr(AgentSocket, "cut", lambda socket: None)
    async with RawAgent(answer_late, tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url)
        async with live.answered() as caller:
            await caller.open_stream()
            await until(lambda: agent.sockets and agent.sockets[0].head)
            await caller.hang_up()
        await until(lambda: live.is_idle)
        over.set()
        await until(lambda: not agent._tasks)
    assert [line for line in logs.lines if "Exception" in line] == []
