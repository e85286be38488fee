"""
Handing an upgraded socket over to picows: the only place that knows the private name this takes.

picows' own server takes neither POST nor bodies nor HTTP/1.0, and offers no other way in.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from importlib.metadata import version
from typing import Any

import picows
from picows.picows import WSProtocol  # type: ignore[attr-defined]

_logger = logging.getLogger("picows.server")


def hand_over(
    transport: asyncio.Transport,
    listener: picows.WSListener,
    key: str,
    surplus: bytes,
    *,
    max_frame_bytes: int,
    read_buffer_bytes: int,
) -> None:
    """
    Give an upgraded socket to picows, which answers 101 and tells ``listener``; that may take the socket over.

    Args:
        key: Value of ``Sec-WebSocket-Key``, checked.
        surplus: What the peer has already sent after its request.

    The caller has dropped its own timers. picows gets a request of our making, for it is stricter than
    RFC 6455 on ``Connection``; its handshake deadline and its pings stay off.
    """
    protocol: Any = WSProtocol(
        None,  # host and port: client side only
        None,  # path: client side only
        False,  # is_client_side
        lambda request: listener,
        _logger,
        True,  # disconnect_on_exception
        None,  # websocket_handshake_timeout: the whole handshake happens below
        False,  # enable_auto_ping
        20,  # auto_ping_idle_timeout
        20,  # auto_ping_reply_timeout
        picows.WSAutoPingStrategy.PING_WHEN_IDLE,
        True,  # enable_auto_pong
        max_frame_bytes,
        None,  # extra_headers: client side only
        read_buffer_bytes,
    )
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    head = (
        "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
    for part in (head.encode("ascii"), surplus):
        rest = memoryview(part)
        while rest and not transport.is_closing():
            # Afresh each round: reading may have moved the buffer, and the listener may have put a protocol of
            # its own in picows' place.
            reader: Any = transport.get_protocol()
            room = memoryview(reader.get_buffer(len(rest)))
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            reader.buffer_updated(count)
            rest = rest[count:]


def self_test() -> None:
    """
    Hand over a socket that is not one, within the running loop.

    Raises:
        RuntimeError: If the installed picows does not do what `hand_over` expects of it.
    """
    probe, listener = _ProbeTransport(), _ProbeListener()
    try:
        # The key and its answer are RFC 6455's own example, 1.3; the frame is 5.7's, a masked "Hello".
        frame = bytes.fromhex("818537fa213d7f9f4d5158")
        hand_over(
            probe,
            listener,
            "dGhlIHNhbXBsZSBub25jZQ==",
            frame,
            max_frame_bytes=1024,
            read_buffer_bytes=1024,
        )
        is_fit = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in probe.written and listener.heard == [b"Hello"]
        reason: Exception | None = None
    except Exception as error:
        is_fit, reason = False, error
    finally:
        probe.socket.close()
    if not is_fit:
        raise RuntimeError(
            f"picows {version('picows')} does not take over sockets the way this server hands them over: "
            "install the version that the package pins"
        ) from reason


class _ProbeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.socket = socket.socket()
        self.written = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.socket if name == "socket" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class _ProbeListener(picows.WSListener):
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        pass

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.heard.append(frame.get_payload_as_bytes())
