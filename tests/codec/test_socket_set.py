"""Sockets that a set reads in place of their transports: held equal to these, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiofastnet

from _codec import HeldBudget, SocketSet, Wire

DEADLINE_S = 10.0


class Owner:
    """Notes the wire's calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_text(self, message: bytes) -> None:
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

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.set_protocol(self.wire)
        self.wire.open(transport)


class End:
    """A wire at one end of a TCP connection; the other end is the test's."""

    def __init__(self, wire: Wire, owner: Owner, peer: socket.socket) -> None:
        self.wire, self.owner, self.peer = wire, owner, peer

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.peer, data)


@contextlib.asynccontextmanager
async def connected(messages_left: int = 100_000) -> AsyncIterator[End]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    peer.setblocking(False)
    accepted.setblocking(False)
    owner = Owner()
    wire = Wire(
        owner,
        is_client=True,
        max_message_bytes=1 << 20,
        budget=HeldBudget(64 << 20),
        messages_left=messages_left,
        hold_ms=1000,
    )
    loop = asyncio.get_running_loop()
    transport, _ = await aiofastnet.create_connection(loop, lambda: Opening(wire), sock=accepted)
    try:
        with peer:
            yield End(wire, owner, peer)
    finally:
        transport.abort()
        await turn_until(lambda: owner.is_gone)


def frame(payload: bytes, first: int = 0x81) -> bytes:
    n = len(payload)
    if n < 126:
        return bytes((first, n)) + payload
    if n < 65536:
        return bytes((first, 126)) + n.to_bytes(2) + payload
    return bytes((first, 127)) + n.to_bytes(8) + payload


HELLO = frame(b"hello")


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
        end.wire.read_by(sockets)
        yield sockets
    finally:
        sockets.stop()


async def test_look_reads_what_the_loop_does_not():
    async with connected() as end, in_a_set(end) as sockets:
        await end.send(frame(b"second"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert ("text", b"second") not in end.owner.calls
        sockets.look()
        assert end.owner.calls[-1] == ("text", b"second")


async def test_stopped_set_gives_the_socket_back():
    async with connected() as end, in_a_set(end) as sockets:
        await end.send(frame(b"second"))
        sockets.stop()
        await turn_until(lambda: end.owner.calls[-1] == ("text", b"second"))
        end.wire.read_by(sockets)
        await end.send(frame(b"third"))
        await turn_until(lambda: end.owner.calls[-1] == ("text", b"third"))
