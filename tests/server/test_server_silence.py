"""Peers that only seem to be there, or seem not to be: a reset that wakes nobody, and a process that stood still."""

from __future__ import annotations

import asyncio
import base64
import signal
import socket
import struct
import time
from types import SimpleNamespace

from live import (
    ACCOUNT_SID,
    API_KEY,
    AUTH_TOKEN,
    DEADLINE_S,
    DEFAULTS,
    FACTOR,
    PLAIN_AND_TLS,
    PUBLIC_URL,
    Live,
    soon,
    until,
)
from live_raw import accept_head, upgrade_request, ws_frame

from bridge.call.state import State
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.numbered import make_numbered
from bridge.standins.process import BridgeProcess, free_port
from bridge.standins.twilio.caller import Caller

pytestmark = PLAIN_AND_TLS

# The requirement, with slack: a second of quiet, a round of ticks.
RESET_S = 2.0 + FACTOR
AUDIO = make_numbered(7)

SILENCES = ("BRIDGE_CALLER_SILENCE_S", "BRIDGE_AGENT_SILENCE_S", "BRIDGE_STALL_S")
SILENCE_S = 3.0
STANDSTILL_S = 1.5 * SILENCE_S
FRAMES = 3000


def read_head(peer: socket.socket) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.recv(1)
    return head.decode()


def send_and_reset(peer: socket.socket, last: bytes) -> None:
    """Send and reset within one turn of the loop, so that the bridge is woken once for both."""
    peer.sendall(last)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


async def until_bridged(live: Live) -> None:
    await until(lambda: [call.state for call in live.open_calls] == [State.BRIDGED])


async def test_agent_whose_last_bytes_come_with_a_reset_is_lost(live_server, tls):
    def accept() -> socket.socket:
        peer, _ = listener.accept()
        if tls:
            peer = tls.server().wrap_socket(peer, server_side=True)
        peer.sendall(accept_head(SimpleNamespace(head=read_head(peer))))
        return peer

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{'wss' if tls else 'ws'}://127.0.0.1:{listener.getsockname()[1]}/audio-websocket"
        live = await live_server(RETELL_WS_URL=url)
        async with live.answered() as caller:
            accepting = asyncio.create_task(asyncio.to_thread(accept))
            await caller.open_stream()
            peer = await soon(accepting)
            await until_bridged(live)
            live.refuse_sessions()
            message = b'{"type":"audio","data":"%b"}' % base64.b64encode(AUDIO)
            send_and_reset(peer, ws_frame(message, mask=False))
            began = time.monotonic()
            await soon(caller.closed.wait())
            assert time.monotonic() - began < RESET_S
            assert caller.close_code == 1011
            assert caller.received_audio == [AUDIO]
            assert (await caller.follow_redirect()).verbs == ["Say", "Hangup"]


async def test_caller_whose_last_bytes_come_with_a_reset_is_lost(live_server, tls):
    def connect(caller: Caller) -> socket.socket:
        peer = socket.create_connection(("127.0.0.1", live.server.port))
        if tls:
            peer = tls.client.wrap_socket(peer, server_hostname="127.0.0.1")
        peer.sendall(upgrade_request(caller))
        assert read_head(peer).startswith("HTTP/1.1 101 ")
        peer.sendall(ws_frame(caller.writer.connected().encode()))
        peer.sendall(ws_frame(caller.writer.start(caller.answer.parameters).encode()))
        return peer

    live = await live_server()
    async with live.answered() as caller:
        peer = await soon(asyncio.to_thread(connect, caller))
        session = await live.session_of(caller)
        send_and_reset(peer, ws_frame(caller.writer.media(AUDIO, 20).encode()))
        began = time.monotonic()
        await soon(session.closed.wait())
        assert time.monotonic() - began < RESET_S
        assert [item.audio for item in session.received] == [AUDIO]
        await until(lambda: live.is_idle)


async def test_calls_go_on_after_the_process_stood_still_for_longer_than_a_peer_may_be_silent(
    clean_loop, tls, tmp_path
):
    async with AgentService(
        behaviour=silent, account=Account(key=API_KEY), ssl=tls and tls.server()
    ) as service:
        port = free_port()
        files = {**tls.write(), "SSL_CERT_FILE": tls.trusted} if tls else {}
        settings = {
            **service.environment(),
            **DEFAULTS,
            **{name: str(path) for name, path in files.items()},
            **dict.fromkeys(SILENCES, f"{SILENCE_S}"),
            "PORT": f"{port}",
        }
        with BridgeProcess(tmp_path, settings) as bridge:
            await asyncio.to_thread(bridge.wait_until, lambda: '"serving"' in bridge.log)
            async with Caller(
                f"{'https' if tls else 'http'}://127.0.0.1:{port}",
                public_url=PUBLIC_URL,
                account_sid=ACCOUNT_SID,
                auth_token=AUTH_TOKEN,
                ssl=tls.client if tls else True,
            ) as caller:
                await caller.post_voice()
                await caller.open_stream()
                session = await service.next_session(DEADLINE_S)
                await caller.send_media(make_numbered(0))
                await until(lambda: session.received)
                bridge.send_signal(signal.SIGSTOP)
                try:
                    # More than the bridge's sockets take.
                    for side in (caller, session):
                        await side.send_frames((make_numbered(n) for n in range(1, FRAMES)), paced=False)
                    await asyncio.sleep(STANDSTILL_S)
                finally:
                    bridge.send_signal(signal.SIGCONT)
                last = make_numbered(FRAMES - 1)
                await until(lambda: last in caller.received_audio[-1:], 2 * DEADLINE_S)
                await until(lambda: session.received[-1].audio == last, 2 * DEADLINE_S)
                assert not caller.closed.is_set()
                assert "call ended" not in bridge.log
