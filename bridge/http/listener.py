"""
Accepts connections on listening sockets, plain or with TLS.

aiofastnet's own server is not used: it fails where it should wait because accept() has no descriptor left, and it does
not tell that a TLS handshake has failed, so that the place of a dead connection stays taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl

import aiofastnet

from _codec.resume import TLS_BUFFER_BYTES
from bridge.http.connection import Connection
from bridge.http.connections import Connections
from bridge.http.not_http import handshake_problem

TLS_HANDSHAKE_S = 3.0
TLS_SHUTDOWN_S = 2.0
BACKLOG = 1024
# A burst takes no more of one turn of the loop: the calls are served in between, and other workers take their share.
ACCEPTS_A_TURN = 8
# The descriptors or buffers that accept() lacks come back when calls end, not at once.
RETRY_S = 1.0


async def bind(host: str | None, port: int | None) -> list[socket.socket]:
    """
    Bind a socket to each address of ``host``; None: to all addresses of this machine.

    Raises:
        OSError: An address cannot be bound, or there is none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    with contextlib.ExitStack() as undo:
        sockets: list[socket.socket] = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sock = undo.enter_context(socket.socket(family, kind, protocol))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    # The addresses of IPv4 have sockets of their own.
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
            except OSError as error:
                # The resolver also names addresses of families that this machine does not use.
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                where = f"{host or 'all addresses'}, port {port}"
                raise OSError(error.errno, f"cannot bind {where}: {error.strerror}") from None
            sockets.append(sock)
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, f"no address of {host!r} can be bound")
        undo.pop_all()
    return sockets


class Listener:
    """
    Accepts on sockets that are bound.

    Args:
        connections: Gives each accepted socket its place.
        sockets: Closed by `stop`.
        tls: None: plain.
    """

    def __init__(
        self,
        connections: Connections,
        sockets: list[socket.socket],
        tls: ssl.SSLContext | None,
        logger: logging.Logger,
    ) -> None:
        self.sockets = sockets
        self.tls = tls
        self._connections = connections
        self._logger = logger
        self._loop = asyncio.get_running_loop()
        # Connections whose transport is being made.
        self._opening: set[asyncio.Task[None]] = set()
        # Set while accept() is not called because it fails.
        self._retry: asyncio.TimerHandle | None = None
        self._is_accepting = True

    def start(self) -> None:
        """Listen, and accept unless `set_accepting` says otherwise."""
        for sock in self.sockets:
            sock.setblocking(False)
            sock.listen(BACKLOG)
        self._watch()

    def stop(self) -> None:
        """Accept what waits in the queue, unless it is left to other processes, and close the sockets."""
        if self._is_accepting:
            # If no other process has the socket, closing it resets them.
            for sock in self.sockets:
                self._accept(sock, BACKLOG)
        self._unwatch()
        if self._retry is not None:
            self._retry.cancel()
        for sock in self.sockets:
            sock.close()
        self.sockets = []

    async def close(self) -> None:
        """Stop, and end the connections whose transport is not yet made."""
        self.stop()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def set_accepting(self, is_on: bool) -> None:
        """Accept, or leave connections in the queue of the sockets for another process."""
        if is_on == self._is_accepting:
            return
        self._is_accepting = is_on
        if not is_on:
            self._unwatch()
        elif self._retry is None:
            self._watch()

    def adopt(self, sock: socket.socket, data: bytes) -> None:
        """Serve a connection that another process accepted and read ``data`` of; without TLS."""
        sock.setblocking(False)
        self._open(sock, data)

    def _watch(self) -> None:
        self._retry = None
        if not self._is_accepting:
            return
        for sock in self.sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock, ACCEPTS_A_TURN)

    def _unwatch(self) -> None:
        for sock in self.sockets:
            self._loop.remove_reader(sock.fileno())

    def _accept(self, listening: socket.socket, at_most: int) -> None:
        for _ in range(at_most):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._wait_for_resources(error)
                return
            self._open(sock, peer=str(address[0]) if address else "")

    def _wait_for_resources(self, error: OSError) -> None:
        # The socket stays readable: without the pause the loop would do nothing else.
        self._unwatch()
        self._retry = self._loop.call_later(RETRY_S, self._watch)
        self._logger.error("Connections cannot be accepted, they wait %g s: %s", RETRY_S, error.strerror)

    def _open(self, sock: socket.socket, data: bytes = b"", peer: str = "") -> None:
        if self.tls is not None and not self._connections.has_place():
            # Without a place no answer can be worth the handshake.
            sock.close()
            return
        connection = Connection(self._connections, data)
        self._connections.expect(connection)
        connection.opening = self._loop.create_task(self._connect(sock, connection, peer), name="accept")
        self._opening.add(connection.opening)
        connection.opening.add_done_callback(self._opening.discard)

    async def _connect(self, sock: socket.socket, connection: Connection, peer: str) -> None:
        tls = self.tls
        try:
            await aiofastnet.connect_accepted_socket(
                self._loop,
                lambda: connection,
                sock,
                ssl=tls,
                ssl_handshake_timeout=TLS_HANDSHAKE_S if tls else None,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S if tls else None,
                ssl_incoming_bio_size=TLS_BUFFER_BYTES if tls else None,
                ssl_outgoing_bio_size=TLS_BUFFER_BYTES if tls else None,
            )
        except OSError as error:
            # The peer has left or does not speak TLS, as scanners do every day; the transport closes the socket.
            if problem := handshake_problem(error):
                self._connections.app.on_not_http(problem, peer)
        finally:
            self._connections.give_up(connection)
