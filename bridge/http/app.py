"""What the front asks of the application that it serves."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

import picows

from bridge.http.messages import Request, Response

# Sends a connection, and the bytes that were read of it, to another process; returns whether that has been done.
GiveAway = Callable[[socket.socket, bytes], bool]


class App(Protocol):
    """The application that the front serves."""

    async def handle(self, request: Request) -> Response:
        """Answer a request; cancelled when its deadline passes or the client has gone."""

    def upgrade(self, request: Request) -> picows.WSListener | Response | GiveAway:
        """
        Take a well-formed WebSocket upgrade, refuse it with a response, or give the connection to another process.

        The listener's ``on_ws_connected`` follows at once; should the hand-over fail, it hears nothing at all.
        """

    def on_not_http(self, kind: str, peer: str) -> None:
        """
        Learn of what a wrong set-up sends in place of a request, or a scanner; it is refused already.

        Args:
            kind: ``tls``, ``no_tls``, ``certificate``, ``proxy_protocol``, ``http2``, or of an upgrade
                ``upgrade_by_http_1_0``, ``upgrade_without_connection``, ``upgrade_without_key``.
            peer: The address of the socket's other end.
        """
