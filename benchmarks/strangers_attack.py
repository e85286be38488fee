"""
A process that attacks a port of this machine, at a constant rate.

    python -m benchmarks.strangers_attack < PLAN

The first line of stdin is the plan as JSON. The attack goes on until stdin closes, at most `DEADLINE_S`; then one line
of JSON on stdout says what was done.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

DEADLINE_S = 600.0
# A connection or an answer that takes longer counts as failed.
ANSWER_S = 2.0
# Closing then sends a reset.
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """A request that is sent again and again."""

    name: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: str = ""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """
    What an attacker does.

    Attributes:
        kind: ``silent`` keeps ``sockets`` connections that say nothing, and opens them anew in turn. ``reset`` sends
            one byte and a reset on each connection. ``close`` closes each at once. ``requests`` sends ``requests`` in
            turn.
        rate_per_s: Connections or requests.
    """

    kind: str
    rate_per_s: float
    sockets: int = 0
    requests: Sequence[Repeated] = ()

    def to_line(self, port: int) -> bytes:
        """Return the plan of an attack on this port of 127.0.0.1."""
        return json.dumps({"port": port, **asdict(self)}).encode() + b"\n"


class Attacker:
    """
    Makes the steps of an attack.

    Attributes:
        done: The steps by what came of them: ``connected``, ``failed``, or the name and the status of a request.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.done: Counter[str] = Counter()
        self._port = int(plan["port"])
        # Those of ``silent``, the oldest first.
        self._sockets: deque[socket.socket] = deque()
        self._sockets_most = int(plan["sockets"])
        self._requests = [Repeated(**request) for request in plan["requests"]]
        self._connection = HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_S)
        steps: Mapping[str, Callable[[], str]] = {
            "silent": self._keep_silent,
            "reset": self._reset,
            "close": self._close,
            "requests": self._request,
        }
        self._step = steps[plan["kind"]]

    def step(self) -> None:
        """Make one step."""
        try:
            self.done[self._step()] += 1
        except (OSError, HTTPException):
            self._connection.close()
            self.done["failed"] += 1

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), ANSWER_S)

    def _keep_silent(self) -> str:
        if len(self._sockets) == self._sockets_most:
            self._sockets.popleft().close()
        self._sockets.append(self._connect())
        return "connected"

    def _reset(self) -> str:
        with self._connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            sock.send(b"G")
        return "connected"

    def _close(self) -> str:
        self._connect().close()
        return "connected"

    def _request(self) -> str:
        request = self._requests[self.done.total() % len(self._requests)]
        self._connection.request(request.method, request.path, request.body, dict(request.headers))
        with self._connection.getresponse() as response:
            response.read()
            return f"{request.name} {response.status}"


def main() -> None:
    plan = json.loads(sys.stdin.buffer.readline())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attacker = Attacker(plan)
    began = due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        if time.monotonic() - began > DEADLINE_S:
            break
        attacker.step()
        due += 1 / plan["rate_per_s"]
    seconds = time.monotonic() - began
    print(json.dumps({"seconds": seconds, "done": attacker.done}), flush=True)


if __name__ == "__main__":
    main()
