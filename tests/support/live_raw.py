"""WebSocket peers that send any bytes, right or wrong: a caller's socket and an agent's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import hashlib
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from certificates import Tls
from live import DEADLINE_S, Live, soon

from bridge.standins.sockets import abort_with_reset
from bridge.standins.twilio.caller import Caller
from bridge.standins.twilio.webhook import sign

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def ws_frame(
    payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    """One WebSocket frame, lawful or not."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    masked = 0x80 * mask
    if len(payload) < 126:
        head += bytes([masked | len(payload)])
    elif len(payload) < 65536:
        head += bytes([masked | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([masked | 127]) + struct.pack(">Q", len(payload))
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


@contextlib.contextmanager
def ending_with_the_peer() -> Iterator[None]:
    """Leave the block where the peer has reset the connection."""
    try:
        yield
    except ConnectionError:
        pass
    except OSError as error:
        # The end of one half, which came after the reset.
        if error.errno != errno.ENOTCONN:
            raise


class RawSocket:
    """One end of a WebSocket that sends any bytes of the test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, mask: bool) -> None:
        self.reader = reader
        self.writer = writer
        self.head = ""
        self.mask = mask

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_frame(self, payload: bytes, opcode: int = TEXT, **options: Any) -> None:
        await self.send(ws_frame(payload, opcode, **{"mask": self.mask, **options}))

    async def read_frame(self) -> tuple[int, bytes] | None:
        """The next frame's opcode and payload, None where the peer is gone."""
        try:
            first, second = await soon(self.reader.readexactly(2))
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
            key = await self.reader.readexactly(4) if second & 0x80 else bytes(4)
            payload = await soon(self.reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return first & 0xF, bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))

    async def close_code(self) -> int | None:
        """Answer the peer's close frame and return its code; None without a closing handshake."""
        while (found := await self.read_frame()) is not None:
            opcode, payload = found
            if opcode == CLOSE:
                assert len(payload) != 1
                with contextlib.suppress(ConnectionError):
                    await self.send_frame(payload, CLOSE)
                return int.from_bytes(payload[:2]) if payload else 1005
        return None

    async def gone(self) -> None:
        """Wait until the peer has closed the connection."""
        with ending_with_the_peer():
            while await soon(self.reader.read(65536)):
                pass

    def finish(self) -> None:
        """Send no more: end this half of a TCP connection, and all of a TLS one, which has no halves."""
        if self.writer.can_write_eof():
            self.writer.write_eof()
        else:
            self.writer.close()

    def reset(self) -> None:
        abort_with_reset(self.writer.transport)

    async def aclose(self) -> None:
        self.writer.close()
        with ending_with_the_peer():
            await soon(self.writer.wait_closed())


def upgrade_request(caller: Caller, **headers: str) -> bytes:
    """The upgrade of an answered call's stream, signed."""
    assert caller.answer is not None and caller.answer.stream_url is not None
    url = caller.answer.stream_url
    assert caller._auth_token is not None
    fields = {
        "Host": "voice.example.com",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "X-Twilio-Signature": sign(caller._auth_token, url),
        **headers,
    }
    path = "/" + url.partition("://")[2].partition("/")[2]
    return "\r\n".join(
        [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    ).encode()


@contextlib.asynccontextmanager
async def connected(port: int, tls: Tls | None = None) -> AsyncIterator[RawSocket]:
    """A connection to the server, nothing sent yet."""
    context = tls.client if tls else None
    socket = RawSocket(*await soon(asyncio.open_connection("127.0.0.1", port, ssl=context)), mask=True)
    try:
        yield socket
    finally:
        await socket.aclose()


@contextlib.asynccontextmanager
async def raw_stream(live: Live, caller: Caller, *, start: bool = True) -> AsyncIterator[RawSocket]:
    """The media socket of an answered call, ``connected`` and ``start`` sent; the caller's own stays shut."""
    async with connected(live.server.port, live.tls) as socket:
        await socket.send(upgrade_request(caller))
        socket.head = (await soon(socket.reader.readuntil(b"\r\n\r\n"))).decode()
        assert socket.head.startswith("HTTP/1.1 101 ")
        if start:
            assert caller.answer is not None
            await socket.send_frame(caller.writer.connected().encode())
            await socket.send_frame(caller.writer.start(caller.answer.parameters).encode())
        yield socket


class RawAgent:
    """An agent's audio socket under the test's control, in place of the stand-in's."""

    def __init__(self, serve: Callable[[RawSocket], Awaitable[None]], tls: Tls | None = None) -> None:
        self.sockets: list[RawSocket] = []
        self._serve = serve
        self._ssl = tls.server() if tls else None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> RawAgent:
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0, ssl=self._ssl)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for socket in self.sockets:
            await socket.aclose()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DEADLINE_S)
        await self._server.wait_closed()

    @property
    def ws_url(self) -> str:
        assert self._server is not None
        scheme = "wss" if self._ssl else "ws"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/audio-websocket"

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        socket = RawSocket(reader, writer, mask=False)
        self.sockets.append(socket)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            socket.head = (await reader.readuntil(b"\r\n\r\n")).decode()
            await self._serve(socket)


def accept_head(socket: RawSocket, key: str | None = None) -> bytes:
    """The 101 that the request asks for, or the one for another key."""
    if key is None:
        [line] = [line for line in socket.head.splitlines() if line.lower().startswith("sec-websocket-key:")]
        key = line.partition(":")[2].strip()
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n"
    ).encode()
