"""The agent's end of a call's WebSocket, with ways to misbehave."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import WSMsgType, web

from bridge.standins.sockets import abort_with_reset, pause_reading

CLOSE_TIMEOUT_S = 5.0


class SessionSocket:
    """
    A WebSocket that the bridge opened.

    Attributes:
        violations: Descriptions of the bridge's errors against the protocol.
        opened, closed: Set when the socket opens and closes.
        close_code: The code received; 1006 without a closing handshake.
    """

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        self.close_code: int | None = None
        self.close_reason = ""
        self._socket: web.WebSocketResponse[bool] | None = None
        self._transport: asyncio.Transport | None = None
        self._is_closing = False
        self._close_done = asyncio.Event()

    async def send_raw(self, message: str | bytes) -> None:
        """Send any text frame, or a binary one."""
        if isinstance(message, str):
            await self._open_socket().send_str(message)
        else:
            await self._open_socket().send_bytes(message)

    async def send_json(self, message: dict[str, Any]) -> None:
        """Send any message."""
        await self.send_raw(json.dumps(message, separators=(",", ":")))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket and wait for the peer's close frame, with a deadline. The reader must not call this."""
        self._is_closing = True
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._open_socket().close(code=code, message=reason.encode())
        except (ConnectionError, TimeoutError):
            self.abort()
        finally:
            self._close_done.set()

    def abort(self) -> None:
        """Close the connection with a reset."""
        abort_with_reset(self._open_transport())

    def pause_reading(self) -> None:
        """Stop reading; pings stay unanswered too."""
        pause_reading(self._open_transport())

    def resume_reading(self) -> None:
        """Resume reading."""
        self._open_transport().resume_reading()

    async def _on_text(self, text: str) -> None:
        """Process a text frame; an exception that bad input raises counts as a violation."""
        raise NotImplementedError

    async def _on_binary(self, data: bytes) -> None:
        """Process a binary frame, likewise."""
        raise NotImplementedError

    async def _read(self, socket: web.WebSocketResponse[bool]) -> None:
        while True:
            message = await socket.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await self._take(message.data)
            elif message.type is WSMsgType.CLOSE:
                # The code 1005 stands for a close frame without a code.
                self._note_closed(message.data or 1005, str(message.extra or ""))
                return
            elif message.type is WSMsgType.CLOSING or self._is_closing:
                # close() reads the answer to its own close frame, with a deadline.
                await self._close_done.wait()
                return
            else:
                if message.type is WSMsgType.ERROR:
                    self.violations.append(f"WebSocket protocol violation: {message.data}")
                self._note_closed(1006)
                return

    async def _take(self, data: str | bytes) -> None:
        try:
            if isinstance(data, str):
                await self._on_text(data)
            else:
                await self._on_binary(data)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            self.violations.append(f"{error!r} in {data[:80]!r}")
        except ConnectionError:
            # The bridge closed before the answer; its close frame is still to be read.
            return

    def _open_socket(self) -> web.WebSocketResponse[bool]:
        assert self._socket is not None, "the socket is not open"
        return self._socket

    def _open_transport(self) -> asyncio.Transport:
        assert self._transport is not None, "the socket is not open"
        return self._transport

    def _note_closed(self, code: int, reason: str = "") -> None:
        if not self.closed.is_set():
            self.close_code, self.close_reason = code, reason
            self.closed.set()
