"""The sockets of a flood: handshakes of both sides, and a WebSocket that sends without end and counts what is read."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import time
from collections import Counter

from benchmarks.floods_messages import CLOSE, PONG, take_control_frames
from benchmarks.generator.driver import Caller

# Written at once where no rate is asked for.
CHUNKS = 10
READ_BYTES = 1 << 18
# A fixed key of an upgrade is as good as a random one.
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Socket:
    """
    One WebSocket after its handshake.

    Args:
        counts: Gets ``read``, the messages by the bridge's pongs, and ``closed CODE`` or ``reset``.

    Attributes:
        closed: Set once the bridge sends nothing more.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counts: Counter[str]
    ) -> None:
        self.closed = asyncio.Event()
        self._reader = reader
        self._writer = writer
        self._counts = counts
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        data = bytearray()
        try:
            while more := await self._reader.read(READ_BYTES):
                data += more
                for opcode, payload in take_control_frames(data):
                    if opcode == PONG and payload:
                        self._counts["read"] += int(payload)
                    elif opcode == CLOSE:
                        self._counts[f"closed {int.from_bytes(payload[:2], 'big')}"] += 1
                        return
        except OSError:
            self._counts["reset"] += 1
        finally:
            self.closed.set()

    async def send(self, data: bytes) -> None:
        """Send whole frames once the socket takes them; what a closed one does not take is lost."""
        with contextlib.suppress(OSError):
            self._writer.write(data)
            await self._writer.drain()

    async def flood(self, chunk: bytes, messages: int, rate_per_s: float) -> None:
        """
        Send a chunk of so many messages again and again until the bridge closes the socket.

        Args:
            rate_per_s: Messages; what a late chunk misses is not made up for. 0: no bound.
        """
        pause_s, due = messages / rate_per_s if rate_per_s else 0.0, time.monotonic()
        while not self.closed.is_set():
            await self.send(chunk if rate_per_s else chunk * CHUNKS)
            due = max(due + pause_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def abort(self) -> None:
        """End the connection, with what the bridge has not read yet."""
        self._listening.cancel()
        self._writer.transport.abort()


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """
    Answer an upgrade; returns its path.

    Raises:
        asyncio.IncompleteReadError: The client has closed the connection.
        OSError: The connection is lost.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    key = re.search(r"^sec-websocket-key: *(\S+)", head, re.IGNORECASE | re.MULTILINE)
    digest = hashlib.sha1(((key[1] if key else "") + GUID).encode(), usedforsecurity=False).digest()
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
    return head.split(" ", 2)[1]


async def upgrade(caller: Caller) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """
    Open a caller's media socket.

    Raises:
        asyncio.IncompleteReadError: The bridge closes the connection.
        OSError: The bridge refuses it.
    """
    reader, writer = await asyncio.open_connection(caller.address, caller.port)
    writer.write(
        f"GET {caller.path} HTTP/1.1\r\nHost: {caller.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
        f"X-Twilio-Signature: {caller.signature}\r\n\r\n".encode()
    )
    status = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0].decode("latin-1")
    if " 101 " not in status:
        writer.close()
        raise ConnectionRefusedError(status)
    return reader, writer
