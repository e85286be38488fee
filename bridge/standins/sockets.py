"""Access to the connection beneath a WebSocket, to abort it or to stop reading."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import aiohttp


class ClientSocket(aiohttp.ClientWebSocketResponse[bool]):
    """A client's WebSocket that keeps its transport."""

    def __init__(self, reader: Any, writer: Any, protocol: Any, response: Any, *args: Any, **kw: Any) -> None:
        super().__init__(reader, writer, protocol, response, *args, **kw)
        self.transport: asyncio.Transport = response.connection.transport


def pause_reading(transport: asyncio.Transport) -> None:
    """
    Stop reading, as a peer that does not take its data.

    A paused TLS transport reads 256 KB ahead. Here it stops at what one read brings, so that a pause is noticed over
    TLS as soon as without.
    """
    set_limits = getattr(transport, "set_read_buffer_limits", None)
    if set_limits is not None:
        set_limits(high=1, low=0)
    transport.pause_reading()


def abort_with_reset(transport: asyncio.Transport) -> None:
    """Close a TCP connection with RST instead of FIN, discarding unsent data; one that is closed stays so."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
