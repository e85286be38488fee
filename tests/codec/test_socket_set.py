"""Sockets that a set reads in place of their transports: held equal to these, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import random
import select
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiofastnet
import pytest
from server_frames import from_server

from _codec import CallAudio, Envelope, HeldBudget, SocketSet, SpanFinder, Wire
from _codec.websocket import WebSocket

DEADLINE_S = 10.0
# More than one turn of the loop takes of messages that are not audio, and more than one read takes of bytes.
MANY = 200
READ_BYTES = 65_536
LONG_BYTES = 150_000


class Owner:
    """Notes the wire's calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails_on: bytes | None = None
        self.fault: type[BaseException] = RuntimeError

    def on_text(self, message: bytes) -> None:
        if message == self.fails_on:
            raise self.fault("as the test wants it")
        self.calls.append(("text", message))

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))

    @property
    def is_gone(self) -> bool:
        return ("on_gone",) in self.calls


class Opening(asyncio.Protocol):
    """Hands a new connection to the wire, as the handshake does."""

    def __init__(self, wire: WebSocket) -> None:
        self.wire = wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.set_protocol(self.wire)
        self.wire.open(transport)


class End:
    """A wire at one end of a TCP connection; the other end is the test's."""

    def __init__(
        self, wire: WebSocket, owner: Owner, peer: socket.socket, transport: asyncio.Transport
    ) -> None:
        self.wire, self.owner, self.peer, self.transport = wire, owner, peer, transport

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.peer, data)

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()


@contextlib.asynccontextmanager
async def connected(kind: type[WebSocket] = Wire, *, is_client: bool = True) -> AsyncIterator[End]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    peer.setblocking(False)
    accepted.setblocking(False)
    owner = Owner()
    wire = kind(
        owner,
        is_client=is_client,
        max_message_bytes=1 << 20,
        budget=HeldBudget(64 << 20),
        messages_per_s=100_000,
        hold_ms=1000,
    )
    loop = asyncio.get_running_loop()
    transport, _ = await aiofastnet.create_connection(loop, lambda: Opening(wire), sock=accepted)
    try:
        with peer:
            yield End(wire, owner, peer, transport)
    finally:
        transport.abort()
        await turn_until(lambda: owner.is_gone)


HELLO = from_server(b"hello")


def received_by(peer: socket.socket) -> bytes:
    try:
        return peer.recv(4096)
    except BlockingIOError:
        return b""


async def turn_until(condition: Any, sockets: SocketSet | None = None) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            if sockets is not None:
                sockets.look()
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def in_a_set(end: End) -> AsyncIterator[SocketSet]:
    """The set reads the end from its first frame on."""
    sockets = SocketSet()
    sockets.start()
    try:
        await end.send(HELLO)
        await turn_until(lambda: end.owner.calls)
        end.wire.look(0.5, sockets)
        yield sockets
    finally:
        sockets.stop()


def script(seed: int) -> tuple[list[bytes], str]:
    """What a peer sends, in pieces of any length, and how it ends."""
    rng = random.Random(seed)
    stream = bytearray()
    for _ in range(rng.choice((3, 30, MANY))):
        kind = rng.choice(("text", "text", "long", "ping", "binary", "parts"))
        if kind == "long":
            stream += (
                from_server(b"x" * rng.randrange(LONG_BYTES))
                if rng.random() < 0.1
                else from_server(b"y" * 700)
            )
        elif kind == "parts":
            stream += from_server(b"one ", 0x01) + from_server(b"two", 0x80)
        else:
            stream += from_server(
                rng.randbytes(rng.randrange(125)).hex()[:120].encode(),
                {"ping": 0x89, "binary": 0x82}.get(kind, 0x81),
            )
    ending = rng.choice(("fin", "fin", "reset", "close", "broken"))
    stream += {"close": from_server(b"\x03\xe8bye", 0x88), "broken": b"\xff\xff"}.get(ending, b"")
    pieces = []
    while stream:
        length = rng.choice((1, 300, 5000, 100_000))
        pieces.append(bytes(stream[:length]))
        del stream[:length]
    return pieces, ending


async def play(seed: int, sockets: SocketSet | None) -> list[tuple[Any, ...]]:
    """The owner's calls for one script, read by a set if there is one, which is used whenever it may be."""
    pieces, ending = script(seed)
    async with connected() as end:
        await end.send(HELLO)
        for piece in pieces:
            await end.send(piece)
            await asyncio.sleep(0)
            if sockets is not None:
                end.wire.read_by(sockets)
                sockets.look()
        if ending == "reset":
            # What has not been read goes with it.
            sent = b"".join(pieces)
            await turn_until(lambda: end.wire.ws_frames_in == 1 + whole_frames(sent), sockets)
            end.reset()
        else:
            end.peer.shutdown(socket.SHUT_WR)
        await turn_until(lambda: end.owner.is_gone, sockets)
        return end.owner.calls


def whole_frames(stream: bytes) -> int:
    count = at = 0
    while at < len(stream):
        length, header = stream[at + 1], 2
        if length >= 126:
            header = 4 if length == 126 else 10
            length = int.from_bytes(stream[at + 2 : at + header])
        at += header + length
        count += 1
    return count


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
