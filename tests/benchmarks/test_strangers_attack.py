"""The attacking process, against a listening socket: it connects as planned, and ends when its stdin closes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.strangers_attack import Attack, Repeated

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20.0


@pytest.mark.parametrize("kind", ["silent", "reset", "close", "requests"])
def test_attack_does_as_planned_until_stdin_closes(kind: str) -> None:
    requests = [Repeated(name="line", method="GET", path="/x", headers={})]
    attack = Attack(kind=kind, rate_per_s=200, sockets=3, requests=requests)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        command = [sys.executable, "-m", "benchmarks.strangers_attack"]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(attack.to_line(server.getsockname()[1]))
            process.stdin.flush()
            accepted = [server.accept()[0] for _ in range(1 if kind == "requests" else 4)]
            first = accepted[0]
            first.settimeout(DEADLINE_S)
            if kind == "requests":
                assert first.recv(1000).startswith(b"GET /x HTTP/1.1\r\n")
                first.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                assert first.recv(1000).startswith(b"GET /x HTTP/1.1\r\n")
                first.close()
            elif kind == "reset":
                with pytest.raises(ConnectionResetError):
                    while first.recv(1):
                        pass
            else:
                # A silent one is closed once there are as many as wanted.
                assert first.recv(1) == b""
            output, _ = process.communicate(b"", DEADLINE_S)
    for sock in accepted:
        sock.close()
    done = json.loads(output)["done"]
    assert done.get("line 204" if kind == "requests" else "connected", 0) >= (1 if kind == "requests" else 4)
