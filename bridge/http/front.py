"""
One port for HTTP and WebSocket: requests go to an `App`, upgraded sockets to picows' handshake.

`http_messages` reads and writes bytes, `http_connection` serves one connection, `http_handover` knows picows.
The transports are aiofastnet's, as picows needs them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiofastnet

from _codec import resume
from _codec.resume import TLS_BUFFER_BYTES
from bridge.http.connection import TLS_HANDSHAKE_S, App, Connections
from bridge.http.handover import hand_over, self_test
from bridge.http.messages import FrontLimits, Request, Response

__all__ = [
    "App",
    "Front",
    "FrontLimits",
    "Request",
    "Response",
    "hand_over",
    "on_loop_exception",
    "self_test",
]

TLS_SHUTDOWN_S = 2.0

_logger = logging.getLogger(__name__)


class Front:
    """
    The listening sockets and the HTTP connections on them.

    Args:
        upgraded: Counts the sockets handed over and still open; ``limits.connections`` is for all sockets.
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
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        if self._server is None or not self._server.sockets:
            raise RuntimeError("the front is not listening")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        sock: socket.socket | None = None,
        ssl_context: ssl.SSLContext | None = None,
        backlog: int = 1024,
    ) -> None:
        """
        Listen, after the self-tests.

        Raises:
            RuntimeError: If picows or aiofastnet does not fit.
            OSError: If the address cannot be bound.
        """
        self_test()
        await resume.self_test()
        self._server = await aiofastnet.create_server(
            asyncio.get_running_loop(),
            self._connections.accept_tls if ssl_context else self._connections.accept,
            host,
            port,
            sock=sock,
            ssl=ssl_context,
            backlog=backlog,
            ssl_handshake_timeout=TLS_HANDSHAKE_S if ssl_context else None,
            ssl_shutdown_timeout=TLS_SHUTDOWN_S if ssl_context else None,
            ssl_incoming_bio_size=TLS_BUFFER_BYTES if ssl_context else None,
            ssl_outgoing_bio_size=TLS_BUFFER_BYTES if ssl_context else None,
            start_serving=False,
        )
        if getattr(self._server, "_ssl_context", None) is not ssl_context:
            raise RuntimeError("this aiofastnet keeps its TLS context elsewhere: `set_tls` would do nothing")
        for listening in self._server.sockets:
            # Before listen(): accepted sockets inherit it, and so does the window that is offered.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._limits.receive_buffer_bytes)
        await self._server.start_serving()

    def set_tls(self, ssl_context: ssl.SSLContext) -> None:
        """
        Use another context for new connections of a front that began with one.

        A certificate loaded into the first context would not do: OpenSSL keeps one for each kind of key, and still
        shows the old one where the kind has changed.
        """
        # Another server on the same socket would need nothing private, but closing the first cuts its handshakes.
        self._server._ssl_context = ssl_context  # type: ignore[union-attr]

    def stop_listening(self) -> None:
        """Accept no more connections; those that are open go on."""
        if self._server is not None:
            self._server.close()

    async def close(self, timeout_s: float = 5.0) -> None:
        """
        Stop listening and close the HTTP connections; upgraded sockets are left alone.

        Requests that have begun get ``timeout_s`` for their answers, idle connections are closed at once.
        """
        self.stop_listening()
        await self._connections.close(timeout_s)


def on_loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """
    Handle an exception as the loop would by default, but for a peer that leaves during the TLS handshake.

    aiofastnet reports that as an error, with a class in place of the exception; scanners do it every day.
    """
    if context.get("exception") is not ConnectionResetError:
        loop.default_exception_handler(context)
