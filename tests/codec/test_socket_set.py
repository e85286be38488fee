"""Sockets that a set reads in place of their transports: held equal to these, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest
from server_frames import from_server
from wire_on_socket import (
    HELLO,
    LONG_BYTES,
    MANY,
    READ_BYTES,
    End,
    connected,
    in_a_set,
    play,
    turn_until,
)

from _codec import CallAudio, Envelope, SocketSet, SpanFinder
from _codec.websocket import WebSocket


def received_by(peer: socket.socket) -> bytes:
    try:
        return peer.recv(4096)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("seed", range(40))
async def test_set_reads_what_the_transport_reads(seed):
    sockets = SocketSet()
    sockets.start()
    by_set = await play(seed, sockets)
    sockets.stop()
    assert by_set == await play(seed, None)
    assert by_set[0] == ("text", b"hello")


async def test_look_reads_what_the_loop_does_not():
    async with connected() as end, in_a_set(end) as sockets:
        await end.send(from_server(b"second"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert ("text", b"second") not in end.owner.calls
        sockets.look()
        assert end.owner.calls[-1] == ("text", b"second")


async def test_socket_that_its_transport_read_meanwhile_is_read_by_the_set_again():
    async with connected() as end, in_a_set(end) as sockets:
        for n, text in enumerate((b"second", b"third")):
            end.wire.read_by_transport()
            await end.send(from_server(b"meanwhile"))
            await turn_until(lambda n=n: end.owner.calls[1:].count(("text", b"meanwhile")) == n + 1)
            end.wire.read_by(sockets)
            await end.send(from_server(text))
            for _ in range(10):
                await asyncio.sleep(0)
            assert end.owner.calls[-1] == ("text", b"meanwhile")
            sockets.look()
            assert end.owner.calls[-1] == ("text", text)


async def test_stopped_set_gives_the_socket_back():
    async with connected() as end, in_a_set(end) as sockets:
        await end.send(from_server(b"second"))
        sockets.stop()
        await turn_until(lambda: end.owner.calls[-1] == ("text", b"second"))
        end.wire.read_by(sockets)
        await end.send(from_server(b"third"))
        await turn_until(lambda: end.owner.calls[-1] == ("text", b"third"))


class Unreadable(WebSocket):
    """Its transport cannot read it, as where the system has no room."""

    def read_by_transport(self) -> None:
        raise OSError("as the test wants it")


async def test_stopped_set_gives_the_others_back_after_a_fault():
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with connected(Unreadable) as end, connected() as other, in_a_set(end) as sockets:
        await other.send(HELLO)
        await turn_until(lambda: other.owner.calls)
        other.wire.read_by(sockets)
        sockets.stop()
        await other.send(from_server(b"second"))
        await turn_until(lambda: end.owner.is_gone and other.owner.calls[-1] == ("text", b"second"))
    assert [type(fault["exception"]) for fault in faults] == [OSError]
    asyncio.get_running_loop().set_exception_handler(None)


async def test_nothing_is_read_of_a_peer_that_did_too_much_in_a_turn_until_the_next():
    async with connected() as end, in_a_set(end) as sockets:
        await end.send(from_server(b"x") * MANY)
        await turn_until(lambda: len(end.owner.calls) > 1, sockets)
        assert end.wire.is_paused
        assert len(end.owner.calls) < MANY
        await turn_until(lambda: len(end.owner.calls) == MANY + 1)


async def test_paused_socket_is_not_taken_by_the_set():
    async with connected() as end, in_a_set(end) as sockets:
        await end.send(from_server(b"x") * MANY)
        await turn_until(lambda: len(end.owner.calls) > 1, sockets)
        count = len(end.owner.calls)
        await end.send(from_server(b"x"))
        end.wire.read_by(sockets)
        sockets.look()
        assert len(end.owner.calls) == count
        await turn_until(lambda: len(end.owner.calls) == MANY + 2)


@pytest.mark.parametrize("fault_type", [RuntimeError, asyncio.CancelledError])
async def test_fault_ends_its_own_connection_only(fault_type):
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with connected() as end, connected() as other, in_a_set(end) as sockets:
        await other.send(HELLO)
        await turn_until(lambda: other.owner.calls)
        other.wire.read_by(sockets)
        end.owner.fails_on, end.owner.fault = b"second", fault_type
        await end.send(from_server(b"second"))
        await other.send(from_server(b"second"))
        await turn_until(lambda: end.owner.is_gone and len(other.owner.calls) > 1, sockets)
        assert other.owner.calls[1:] == [("text", b"second")]
        await other.send(from_server(b"third"))
        await turn_until(lambda: len(other.owner.calls) > 2, sockets)
    assert [type(fault["exception"]) for fault in faults] == [fault_type]
    asyncio.get_running_loop().set_exception_handler(None)


async def look_at_two(end: End, other: End, sockets: SocketSet, act: Callable[[End], None]) -> None:
    """Each has data at the same look, and acts on the other when its own is taken."""
    await other.send(HELLO)
    await turn_until(lambda: other.owner.calls)
    other.wire.read_by(sockets)
    for one, another in ((end, other), (other, end)):
        one.owner.on_text = lambda message, another=another, one=one: (
            one.owner.calls.append(message),
            act(another),
        )
        await one.send(from_server(b"second"))
    sockets.look()


async def test_socket_that_another_ones_turn_has_taken_out_loses_nothing():
    async with connected() as end, connected() as other, in_a_set(end) as sockets:
        await look_at_two(end, other, sockets, lambda another: another.wire.read_by_transport())
        for one in (end, other):
            assert one.owner.calls == [("text", b"hello"), b"second"]
            await one.send(from_server(b"third"))
        await turn_until(lambda: end.owner.calls[2:] == other.owner.calls[2:] == [b"third"])


async def test_socket_that_is_taken_out_when_the_batch_is_full_loses_nothing():
    # Each is full of frames; who is first takes out all others, some of which have not been read.
    frame = from_server(b'{"audio":"%b"}' % (b"A" * 496))
    sent = READ_BYTES // len(frame)
    async with contextlib.AsyncExitStack() as stack:
        sockets = SocketSet()
        sockets.start()
        stack.callback(sockets.stop)
        ends = [await stack.enter_async_context(connected()) for _ in range(6)]

        def take_out(of: End, payload: bytes) -> None:
            of.owner.calls.append(("on_audio", payload))
            for end in ends:
                if end is not of:
                    end.wire.read_by_transport()

        for end in ends:
            end.wire.set_format(SpanFinder("audio", {}), Envelope(b"", b""))
            end.owner.on_audio = functools.partial(take_out, end)
            await end.send(HELLO)
            await turn_until(lambda end=end: end.owner.calls)
            end.wire.read_by(sockets)
            end.peer.send(frame * sent)
        sockets.look()
        sockets.stop()
        await turn_until(lambda: all(len(end.owner.calls) > sent or end.owner.is_gone for end in ends))
        for end in ends:
            assert end.owner.calls == [("text", b"hello"), *[("on_audio", b"A" * 496)] * sent]


async def test_what_was_read_of_a_socket_that_another_ones_turn_aborts_is_not_taken():
    async with connected() as end, connected() as other, in_a_set(end) as sockets:
        await look_at_two(end, other, sockets, lambda another: another.transport.abort())
        assert sorted(len(one.owner.calls) for one in (end, other)) == [1, 2]


async def test_bytes_behind_urgent_data_are_read():
    async with connected() as end, in_a_set(end) as sockets:
        second = from_server(b"second")
        await end.send(second[:3])
        end.peer.send(b"!", socket.MSG_OOB)
        await end.send(second[3:])
        await turn_until(lambda: end.owner.calls[-1] == ("text", b"second"), sockets)


async def test_a_look_reads_a_flood_once_however_many_flood():
    # More than two batches of reads, and more than one read takes of each, which is a multiple of a frame.
    async with contextlib.AsyncExitStack() as stack:
        sockets = SocketSet()
        sockets.start()
        stack.callback(sockets.stop)
        ends = {b"%04d" % n * 124: await stack.enter_async_context(connected()) for n in range(150)}
        for audio, end in ends.items():
            frame = from_server(b'{"audio":"%b"}' % audio)
            end.wire.set_format(SpanFinder("audio", {}), Envelope(b"", b""))
            await end.send(HELLO)
            await turn_until(lambda end=end: end.owner.calls)
            end.wire.read_by(sockets)
            end.peer.send(frame * (LONG_BYTES // len(frame)))
        for looks in (1, 2):
            sockets.look()
            for audio, end in ends.items():
                assert end.owner.calls[1:] == [("on_audio", audio)] * (looks * READ_BYTES // len(frame))


@pytest.mark.parametrize("is_joined", [True, False], ids=["joined", "alone"])
@pytest.mark.parametrize("is_measured", [True, False], ids=["measured", "not_measured"])
@pytest.mark.parametrize("finds", [True, False], ids=["finder", "no_finder"])
async def test_each_socket_of_a_look_is_read_whatever_it_is_joined_to(finds, is_measured, is_joined):
    # What a frame needs is brought into the caches before its turn, and any of it may be missing.
    async with contextlib.AsyncExitStack() as stack:
        sockets = SocketSet()
        sockets.start()
        stack.callback(sockets.stop)
        agents = [await stack.enter_async_context(connected()) for _ in range(6)]
        callers = [await stack.enter_async_context(connected(is_client=False)) for _ in range(6)]
        messages = [b'{"id":"%d","audio":"%04d"}' % (n, n) for n in range(6)]
        for n, (agent, caller) in enumerate(zip(agents, callers, strict=True)):
            finder = SpanFinder("audio", {"id": "0"}).with_value("id", str(n))
            agent.wire.set_format(finder if finds else None, Envelope(b"", b""))
            caller.wire.set_format(None, Envelope(b"<", b">"))
            caller.wire.set_ready()
            if is_measured:
                caller.wire.set_call_audio(CallAudio())
            if is_joined:
                agent.wire.join(caller.wire)
            await agent.send(HELLO)
            await turn_until(lambda agent=agent: agent.owner.calls)
            agent.wire.read_by(sockets)
            await agent.send(from_server(messages[n]))
        taken_out = 3
        sockets.discard(agents[taken_out].transport.get_extra_info("socket").fileno())
        sockets.look()
        for n, (agent, caller) in enumerate(zip(agents, callers, strict=True)):
            audio = b"%04d" % n
            to_owner = [("on_audio", audio)] if finds else [("text", messages[n])]
            to_caller = b""
            if n == taken_out:
                to_owner = []
            elif finds and is_joined:
                to_owner, to_caller = [], from_server(b"<" + audio + b">")
            assert agent.owner.calls[1:] == to_owner
            assert received_by(caller.peer) == to_caller


async def test_nothing_is_read_after_an_abort():
    async with connected() as end, in_a_set(end) as sockets:
        await end.send(from_server(b"second"))
        end.transport.abort()
        # The transport reports the loss in the next turn of the loop.
        sockets.look()
        assert end.owner.calls == [("text", b"hello")]
        await turn_until(lambda: end.owner.is_gone)


async def test_socket_stays_with_its_transport_before_the_first_frame_and_after_the_last():
    sockets = SocketSet()
    sockets.start()
    async with connected() as end:
        end.wire.read_by(sockets)
        await end.send(HELLO)
        await turn_until(lambda: end.owner.calls)
        end.wire.send_close(1000)
        end.wire.read_by(sockets)
        await end.send(from_server(b"\x03\xe8", 0x88))
        await turn_until(lambda: end.owner.is_gone)
    sockets.stop()


class Returned(WebSocket):
    """Counts how often it is given back."""

    times = 0

    def read_by_transport(self) -> None:
        self.times += 1
        super().read_by_transport()


async def test_set_lets_go_of_a_socket_that_is_closed():
    async with connected(Returned) as end, in_a_set(end) as sockets:
        await end.send(from_server(b"\x03\xe8", 0x88))
        sockets.look()
        await turn_until(lambda: end.owner.is_gone)
        sockets.stop()
        assert end.wire.times == 0


async def test_descriptors_that_are_not_read_are_no_fault():
    sockets = SocketSet()
    sockets.start()
    for fd in (-1, 0, 1 << 30):
        sockets.discard(fd)
    sockets.look()
    sockets.stop()


class FullEpoll:
    """Takes no socket, as the system's beyond its bound."""

    def fileno(self) -> int:
        return -1

    def register(self, fd: int, events: int) -> None:
        raise OSError(errno.ENOSPC, "as the test wants it")

    def close(self) -> None:
        pass


async def test_set_that_is_full_leaves_the_socket_to_the_transport(monkeypatch):
    monkeypatch.setattr(select, "epoll", FullEpoll)
    sockets = SocketSet()
    async with connected() as end:
        sockets.start()
        await end.send(HELLO)
        await turn_until(lambda: end.owner.calls)
        end.wire.read_by(sockets)
        sockets.look()
        await end.send(from_server(b"second"))
        await turn_until(lambda: len(end.owner.calls) > 1)
        sockets.stop()
