"""Wires at the ends of real TCP connections, and scripts of what their peers send."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiofastnet
from certificates import HOST, Tls
from server_frames import from_server

from _codec import HeldBudget, SocketSet, Wire
from _codec.resume import TLS_BUFFER_BYTES
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

    def finish(self) -> None:
        """Send no more."""
        self.peer.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()


class TlsEnd(End):
    """The same over TLS; the peer's transport is in the same loop."""

    def __init__(self, *arguments: Any, far: asyncio.Transport) -> None:
        super().__init__(*arguments)
        self.far = far

    async def send(self, data: bytes) -> None:
        self.far.write(data)

    def finish(self) -> None:
        self.far.close()

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.abort()


@contextlib.asynccontextmanager
async def connected(
    kind: type[WebSocket] = Wire, *, is_client: bool = True, tls: Tls | None = None
) -> AsyncIterator[End]:
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
    if tls is None:
        transport, _ = await aiofastnet.create_connection(loop, lambda: Opening(wire), sock=accepted)
        end: End = End(wire, owner, peer, transport)
    else:
        (transport, _), (far, _) = await asyncio.gather(
            aiofastnet.create_connection(
                loop,
                lambda: Opening(wire),
                sock=accepted,
                ssl=tls.client,
                server_hostname=HOST,
                ssl_incoming_bio_size=TLS_BUFFER_BYTES,
                ssl_outgoing_bio_size=TLS_BUFFER_BYTES,
            ),
            aiofastnet.connect_accepted_socket(loop, asyncio.Protocol, peer, ssl=tls.server()),
        )
        end = TlsEnd(wire, owner, peer, transport, far=far)
    try:
        with peer:
            yield end
    finally:
        if isinstance(end, TlsEnd):
            end.far.abort()
        transport.abort()
        await turn_until(lambda: owner.is_gone)


HELLO = from_server(b"hello")


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


async def play(seed: int, sockets: SocketSet | None, tls: Tls | None = None) -> list[tuple[Any, ...]]:
    """The owner's calls for one script, read by a set if there is one, which is used whenever it may be."""
    pieces, ending = script(seed)
    async with connected(tls=tls) as end:
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
            end.finish()
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
