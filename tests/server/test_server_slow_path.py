"""Callers whose path is slow, while the agent speaks as fast as its socket takes."""

from __future__ import annotations

import array
import fcntl
import socket
import ssl
import sys
import termios
from typing import Any

import pytest
from live import DEADLINE_S, FACTOR, PLAIN_AND_TLS, until
from numbered_checker import read_numbered
from slow_path import sockets_by

from bridge.call.caller import MOST_QUEUED_BYTES
from bridge.standins.numbered import make_numbered

pytestmark = PLAIN_AND_TLS

MINUTE = 3000
SOME_SECONDS = 300
# The requirement; on an idle machine it takes at most a third.
CLEAR_S = 0.3 * FACTOR
# A write that begins below the bound, or one after it that is not counted yet.
MOST_WRITTEN_BYTES = 2 * 4096 + 1024


def make_socket_of_an_ethernet(address: Any) -> socket.socket:
    """Make a socket with a small buffer and short segments: the loopback interface's are longer than the bound."""
    made = socket.socket(*address[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
    return made


async def test_interrupt_clears_a_minute_of_speech_on_a_path_of_1_mbit(live_server, tls, slow_path):
    live = await live_server(HOST="0.0.0.0", BRIDGE_STALL_S=60)
    live.url = live.url.replace("127.0.0.1", slow_path.address)
    if tls:
        # The certificate is for another address.
        live.ssl = ssl.create_default_context(cafile=tls.trusted)
        live.ssl.check_hostname = False
    with sockets_by(slow_path.make_socket):
        async with live.bridged() as (caller, session):
            await session.send_frames((make_numbered(n) for n in range(MINUTE)), paced=False)
            await until(lambda: live.traffic.from_agent == MINUTE, 2 * DEADLINE_S)
            await until(lambda: len(caller.received) >= SOME_SECONDS, 2 * DEADLINE_S)
            await session.send_interrupt()
            await until(lambda: caller.received[-1].message.event == "clear")
            assert caller.received[-1].at - session.interrupts_at[-1] < CLEAR_S
            heard = [read_numbered(audio)[1] for audio in caller.received_audio]
            assert heard == list(range(len(heard)))
            assert live.traffic.cleared_to_caller == MINUTE - len(heard) > MINUTE / 2
            await session.send_audio(make_numbered(MINUTE))
            await until(lambda: caller.received[-1].message.event == "media")
            assert caller.received_audio[len(heard) :] == [make_numbered(MINUTE)]


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not report their queue")
async def test_kernel_takes_little_for_a_caller_who_does_not_read(live_server):
    live = await live_server(BRIDGE_STALL_S=60)
    with sockets_by(make_socket_of_an_ethernet):
        async with live.bridged() as (caller, session):
            [leg] = live.caller_legs
            caller.pause_reading()
            await session.send_frames((make_numbered(n) for n in range(MINUTE)), paced=False)
            await until(lambda: live.traffic.from_agent == MINUTE, 2 * DEADLINE_S)
            await until(lambda: leg.wire.is_congested)
            queued = array.array("i", [0])
            fcntl.ioctl(leg._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
            assert queued[0] <= MOST_QUEUED_BYTES + MOST_WRITTEN_BYTES
            caller.resume_reading()
            await until(lambda: len(caller.received_audio) == MINUTE, 2 * DEADLINE_S)
            assert not leg.wire.is_congested
