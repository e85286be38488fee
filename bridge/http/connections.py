"""The connections of a port: what they share, and their places."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from bridge.http.app import App
from bridge.http.messages import FrontLimits, Response

if TYPE_CHECKING:
    from bridge.http.connection import Connection

_READ_BYTES = 64 * 1024
# At the end of the process: for the handshake and the request of a connection that was in the queue. Forty over TLS
# take 0.1 s on an idle machine, and some of them more than 0.2 s on a busy one.
LAST_REQUEST_S = 0.5
# The time is waited for in so many steps: a standstill of the process takes one of them, and in the next one it reads
# what has come meanwhile.
LAST_REQUEST_STEPS = 10


class Connections:
    """The connections that are open, what they share, and their places."""

    def __init__(
        self, app: App, limits: FrontLimits, upgraded: Callable[[], int], logger: logging.Logger
    ) -> None:
        self.app = app
        self.upgraded = upgraded
        self.limits = limits
        self.logger = logger
        self.is_closing = False
        self.closes_after_answers = False
        # Shared: emptied before the next socket's turn.
        self.read_buffer = memoryview(bytearray(_READ_BYTES))
        self.connections: set[Connection] = set()
        # Accepted, and their transport is still to come: with TLS, after the handshake.
        self.opening: set[Connection] = set()
        # Without a whole request so far, those that are opening too. This one and the next have the oldest first.
        self.silent: dict[Connection, None] = {}
        # Kept alive between two requests.
        self.idle: dict[Connection, None] = {}
        self.tasks: set[asyncio.Task[Response]] = set()
        # Set when a connection or a task ends, and when a connection has asked something.
        self.changed = asyncio.Event()

    def has_place(self, newcomer: Connection | None = None) -> bool:
        """Whether one more connection may be open; the oldest that waits for a request gives way to it."""
        if len(self.connections) + len(self.opening) < self.limits.connections:
            return True
        for waiting in (self.silent, self.idle):
            for connection in waiting:
                if connection is not newcomer:
                    del waiting[connection]
                    self.opening.discard(connection)
                    connection.give_way()
                    return True
        return False

    def expect(self, connection: Connection) -> None:
        """Enter a connection that is accepted."""
        self.opening.add(connection)
        self.silent[connection] = None

    def admit(self, connection: Connection) -> bool:
        """Enter a connection whose transport is made; False if it is to be turned away."""
        self.opening.discard(connection)
        is_admitted = self.has_place(connection)
        self.connections.add(connection)
        return is_admitted

    def give_up(self, connection: Connection) -> None:
        """Drop a connection whose transport could not be made."""
        if connection in self.opening:
            self.opening.remove(connection)
            self.silent.pop(connection, None)
            self.changed.set()

    def forget(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.silent.pop(connection, None)
        self.idle.pop(connection, None)
        self.changed.set()

    def forget_task(self, task: asyncio.Task[Response]) -> None:
        self.tasks.discard(task)
        self.changed.set()

    def wind_down(self) -> None:
        """Close each connection once its present request is answered, the idle ones now."""
        self.closes_after_answers = True
        for connection in tuple(self.idle):
            connection.finish()

    async def last_requests(self) -> None:
        """Refuse upgrades, and wait at most `LAST_REQUEST_S` for what accepted connections ask."""
        self.is_closing = True
        self.wind_down()
        for _ in range(LAST_REQUEST_STEPS):
            if await self._holds_within(LAST_REQUEST_S / LAST_REQUEST_STEPS, lambda: not self.silent):
                break

    async def close(self, timeout_s: float) -> None:
        """Close idle connections now, the others once their request is answered or after ``timeout_s``."""
        for connection in tuple(self.connections):
            connection.finish()
        for bound_s in (timeout_s, 1.0):
            if await self._holds_within(bound_s, lambda: not (self.connections or self.tasks)):
                break
            for connection in tuple(self.connections):
                connection.abort()

    async def _holds_within(self, timeout_s: float, condition: Callable[[], bool]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        return condition()
