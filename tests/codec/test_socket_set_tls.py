"""Sockets with TLS whose transports read at a set's looks: held equal to those that read at the loop's events."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import termios
from typing import Any

import pytest
from certificates import Tls
from server_frames import from_server
from wire_on_socket import HELLO, MANY, End, connected, in_a_set, play, turn_until

from _codec import Envelope, SocketSet, SpanFinder


@pytest.fixture
def tls(tmp_path) -> Tls:
    return Tls(tmp_path)


# A third of more than a transport reads at once, which is a quarter of a megabyte.
AT_ONCE_BYTES = 100_000


def waiting_bytes(tcp: Any) -> int:
    waiting = array.array("i", [0])
    fcntl.ioctl(tcp.fileno(), termios.FIONREAD, waiting)
    return waiting[0]


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(40))
async def test_set_reads_what_the_loop_reads(seed, tls):
    sockets = SocketSet()
    sockets.start()
    by_set = await play(seed, sockets, tls)
    sockets.stop()
    assert by_set == await play(seed, None, tls)
    assert by_set[0] == ("text", b"hello")


async def is_read_at_a_look_alone(end: End, sockets: SocketSet) -> None:
    await end.send(from_server(b"last"))
    await turns()
    assert ("text", b"last") not in end.owner.calls
    sockets.look()
    assert end.owner.calls[-1] == ("text", b"last")


async def test_look_reads_what_the_loop_does_not(tls):
    async with connected(tls=tls) as end, in_a_set(end) as sockets:
        await is_read_at_a_look_alone(end, sockets)


async def test_stopped_set_gives_the_socket_back(tls):
    async with connected(tls=tls) as end, in_a_set(end) as sockets:
        await end.send(from_server(b"second"))
        sockets.stop()
        await turn_until(lambda: end.owner.calls[-1] == ("text", b"second"))
        end.wire.read_by(sockets)
        await end.send(from_server(b"third"))
        await turn_until(lambda: end.owner.calls[-1] == ("text", b"third"))


async def test_stopped_set_lets_a_closed_socket_be(tls):
    # Its transport reports the loss in the next turn of the loop, and has taken its reader away.
    async with connected(tls=tls) as end, in_a_set(end) as sockets:
        fd = end.transport.get_extra_info("socket").fileno()
        end.transport.abort()
        sockets.stop()
        assert not asyncio.get_running_loop().remove_reader(fd)
        await turn_until(lambda: end.owner.is_gone)


async def test_pause_lasts_and_nothing_is_lost_by_it(tls):
    async with connected(tls=tls) as end, in_a_set(end) as sockets:
        await end.send(from_server(b"x") * MANY)
        await turn_until(lambda: len(end.owner.calls) > 1, sockets)
        assert end.wire.is_paused
        assert not end.transport.is_reading()
        count = len(end.owner.calls)
        assert count < MANY
        end.wire.read_by(sockets)
        sockets.look()
        assert len(end.owner.calls) == count
        await turn_until(lambda: len(end.owner.calls) == MANY + 1)
        await turns()
        end.wire.read_by(sockets)
        await is_read_at_a_look_alone(end, sockets)


async def test_set_does_not_take_a_socket_that_is_about_to_be_resumed(tls):
    async with connected(tls=tls) as end, in_a_set(end) as sockets:
        await end.send(from_server(b"x") * MANY)
        await turn_until(lambda: end.wire.is_paused, sockets)
        await turn_until(lambda: not end.wire.is_paused)
        assert not end.transport.is_reading()
        end.wire.read_by(sockets)
        await turn_until(lambda: end.transport.is_reading())
        await turns()
        end.wire.read_by(sockets)
        await is_read_at_a_look_alone(end, sockets)


async def test_looks_read_all_of_more_than_a_transport_reads_at_once(tls):
    async with connected(tls=tls) as end, in_a_set(end) as sockets:
        tcp = end.transport.get_extra_info("socket")
        # Room for all of it in the kernel, so that none comes after a look.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sent = 3 * from_server(b"x" * AT_ONCE_BYTES)
        await end.send(sent)
        await turn_until(lambda: waiting_bytes(tcp) > len(sent))
        sockets.look()
        assert len(end.owner.calls) < 4
        sockets.look()
        assert len(end.owner.calls) == 4


async def test_fault_ends_its_own_connection_only(tls):
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with connected(tls=tls) as end, connected(tls=tls) as other, in_a_set(end) as sockets:
        await other.send(HELLO)
        await turn_until(lambda: other.owner.calls)
        other.wire.read_by(sockets)
        end.owner.fails_on = b"second"
        await end.send(from_server(b"second"))
        await other.send(from_server(b"second"))
        await turn_until(lambda: end.owner.is_gone and len(other.owner.calls) > 1, sockets)
        assert other.owner.calls[1:] == [("text", b"second")]
    assert [type(fault["exception"]) for fault in faults] == [RuntimeError]
    asyncio.get_running_loop().set_exception_handler(None)


async def test_a_shutdown_is_answered_at_a_look(tls):
    async with connected(tls=tls) as end, in_a_set(end) as sockets:
        end.wire.send_close(1000)
        end.transport.close()
        await turn_until(lambda: end.owner.is_gone, sockets)
        sockets.stop()


async def test_frames_for_and_from_tls_keep_their_order_with_those_of_plain_sockets(tls):
    async with (
        connected(tls=tls) as agent,
        connected(is_client=False) as caller,
        in_a_set(agent) as sockets,
    ):
        agent.wire.set_format(SpanFinder("audio", {}), Envelope(b"", b""))
        caller.wire.set_format(None, Envelope(b"<", b">"))
        caller.wire.set_ready()
        agent.wire.join(caller.wire)
        messages = [b"%04d" % n for n in range(9)]
        for message in messages:
            await agent.send(from_server(b'{"audio":"%b"}' % message))
        sent = b"".join(from_server(b"<%b>" % message) for message in messages)
        received = bytearray()

        def all_received() -> bool:
            with contextlib.suppress(BlockingIOError):
                received.extend(caller.peer.recv(4096))
            return len(received) == len(sent)

        await turn_until(all_received, sockets)
        assert received == sent
