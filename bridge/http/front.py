"""
One port for HTTP and WebSocket: requests go to an `App`, upgraded sockets to picows' handshake.

`messages` reads and writes bytes, `listener` accepts, `connections` gives places, `connection` serves one connection,
`handover` knows picows.
The transports are aiofastnet's, as picows needs them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from _codec import resume
from bridge.http.app import App, GiveAway
from bridge.http.connections import Connections
from bridge.http.handover import hand_over, self_test
from bridge.http.listener import Listener, bind
from bridge.http.messages import FrontLimits, Request, Response

__all__ = [
    "App",
    "Front",
    "FrontLimits",
    "GiveAway",
    "Request",
    "Response",
    "hand_over",
    "on_loop_exception",
    "self_test",
]

_logger = logging.getLogger(__name__)


class Front:
    """
    The listening sockets and the HTTP connections on them.

    Args:
        upgraded: Counts the sockets handed over and still open.
    """

    def __init__(
        self,
        app: App,
        limits: FrontLimits | None = None,
        *,
        upgraded: Callable[[], int] = lambda: 0,
        logger: logging.Logger = _logger,
    ) -> None:
        self._limits = limits or FrontLimits()
        self._connections = Connections(app, self._limits, upgraded, logger)
        self._logger = logger
        self._listener: Listener | None = None
        self._is_accepting = True

    @property
    def port(self) -> int:
        if self._listener is None or not self._listener.sockets:
            raise RuntimeError("the front is not listening")
        return int(self._listener.sockets[0].getsockname()[1])

    async def start(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        sockets: Sequence[socket.socket] = (),
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """
        Listen, after the self-tests; on ``sockets`` that are bound, or on the address.

        Raises:
            RuntimeError: If picows or aiofastnet does not fit.
            OSError: If the address cannot be bound.
        """
        self_test()
        await resume.self_test()
        bound = list(sockets) or await bind(host, port)
        for listening in bound:
            # Before listen(): accepted sockets inherit it, and so does the window that is offered.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._limits.receive_buffer_bytes)
        self._listener = Listener(self._connections, bound, ssl_context, self._logger)
        self._listener.set_accepting(self._is_accepting)
        self._listener.start()

    def set_tls(self, ssl_context: ssl.SSLContext) -> None:
        """
        Use another context for new connections of a front that began with one.

        A certificate loaded into the first context would not do: OpenSSL keeps one for each kind of key, and still
        shows the old one where the kind has changed.
        """
        assert self._listener is not None
        self._listener.tls = ssl_context

    def set_accepting(self, is_on: bool) -> None:
        """Accept, or leave connections to other processes with the same listening sockets; before `start` too."""
        self._is_accepting = is_on
        if self._listener is not None:
            self._listener.set_accepting(is_on)

    def adopt(self, sock: socket.socket, data: bytes) -> None:
        """Serve a connection that another process accepted and read ``data`` of; without TLS."""
        if self._listener is None:
            sock.close()
        else:
            self._listener.adopt(sock, data)

    def stop_listening(self) -> None:
        """Accept what waits in the queue, and then no more connections; those that are open go on."""
        if self._listener is not None:
            self._listener.stop()

    def wind_down(self) -> None:
        """Stop listening and leave further requests to others: no connection stays open between two of them."""
        self.stop_listening()
        self._connections.wind_down()

    async def close(self, timeout_s: float = 5.0) -> None:
        """
        Stop listening and close the HTTP connections; upgraded sockets are left alone.

        Requests that have begun get ``timeout_s`` for their answers, idle connections are closed at once.
        """
        self.stop_listening()
        await self._connections.last_requests()
        if self._listener is not None:
            await self._listener.close()
        await self._connections.close(timeout_s)


def on_loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """
    Handle an exception as the loop would by default, but for a peer that leaves during the TLS handshake.

    aiofastnet reports that as an error, with a class in place of the exception; scanners do it every day.
    """
    if context.get("exception") is not ConnectionResetError:
        loop.default_exception_handler(context)
