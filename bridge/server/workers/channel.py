"""JSON messages, and descriptors with them, between the parent and a worker, over a pair of Unix sockets."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

# The length of the JSON text, and the number of descriptors that came with its first byte.
HEAD = struct.Struct("!IB")
READ_BYTES = 65536
DESCRIPTORS_AT_ONCE = 4
# What may wait for a reader that has stopped; beyond, messages are dropped.
MOST_WAITING_BYTES = 16 << 20


class Channel:
    """
    One end of the pair.

    Args:
        sock: Closed by `close`, or when the other end is gone.
        on_message: Called with each message and its descriptors, which the callback owns.
        on_end: Called once when the other end is gone.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[dict[str, Any], list[int]], None],
        on_end: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        # Came with bytes of messages that are not yet whole.
        self._descriptors: deque[int] = deque()
        # Messages that could not be sent at once, each with descriptors of its own.
        self._waiting: deque[tuple[memoryview, list[int]]] = deque()
        self._waiting_bytes = 0
        self._is_closed = False
        self._loop.add_reader(sock.fileno(), self._read)

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> bool:
        """
        Send a message, now or when the other end reads; descriptors are duplicated.

        Returns:
            False if it is lost: the other end is gone, or does not read.
        """
        text = orjson.dumps(message)
        if self._is_closed or self._waiting_bytes + len(text) > MOST_WAITING_BYTES:
            return False
        data = memoryview(HEAD.pack(len(text), len(descriptors)) + text)
        self._waiting.append((data, [os.dup(descriptor) for descriptor in descriptors]))
        self._waiting_bytes += len(data)
        if len(self._waiting) == 1:
            self._write()
        return not self._is_closed

    def close(self) -> None:
        """Close this end; ``on_end`` is not called."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for descriptor in (*self._descriptors, *(d for _, ds in self._waiting for d in ds)):
            os.close(descriptor)
        self._descriptors.clear()
        self._waiting.clear()

    def _end(self) -> None:
        self.close()
        self._on_end()

    def _write(self) -> None:
        while self._waiting:
            data, descriptors = self._waiting[0]
            rights = (
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
            )
            try:
                sent = self._sock.sendmsg([data], rights)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._write)
                return
            except OSError:
                self._end()
                return
            for descriptor in descriptors:
                os.close(descriptor)
            self._waiting_bytes -= sent
            if sent < len(data):
                self._waiting[0] = data[sent:], []
            else:
                self._waiting.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        try:
            data, rights, _, _ = self._sock.recvmsg(READ_BYTES, socket.CMSG_SPACE(4 * DESCRIPTORS_AT_ONCE))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end()
            return
        for level, kind, content in rights:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(content[: len(content) // 4 * 4])
                self._descriptors.extend(found)
        if not data:
            self._end()
            return
        self._received += data
        while not self._is_closed and len(self._received) >= HEAD.size:
            length, count = HEAD.unpack_from(self._received)
            if len(self._received) < HEAD.size + length:
                return
            text = bytes(self._received[HEAD.size : HEAD.size + length])
            del self._received[: HEAD.size + length]
            self._on_message(orjson.loads(text), [self._descriptors.popleft() for _ in range(count)])


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends; the second one may be inherited."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(OSError):
        # A page of metrics in one piece.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    theirs.set_inheritable(True)
    return ours, theirs
