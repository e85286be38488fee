"""A bridge as a process of its own, from its start to its exit code."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

READY_S = 20.0
ANSWER_S = 2.0
POLL_S = 0.05
# The bridge answers webhooks for 5 s after its last call.
EXIT_S = 20.0
LOG_LINES = 20
SERVE = (sys.executable, "-m", "bridge", "serve")
# Below those that Linux and macOS give to outgoing connections.
BESIDE_EPHEMERAL = range(20_000, 32_000)
# Variables that a program needs to start.
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH")
PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class BridgeError(RuntimeError):
    """The bridge failed to start or to stop; the text ends with its log."""


class BridgeProcess:
    """
    Runs ``bridge serve`` or another command. Leaving the context kills a process that still runs.

    The methods block. With an event loop, call them in a thread; `kill` ends a wait.

    Args:
        folder: Empty working directory; gets the log.
        settings: All settings; the environment has only these and the variables that a program needs to start.
        before: Called in the new process before the command.
        pass_fds: Descriptors that the new process keeps.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        *,
        command: Sequence[str] = SERVE,
        before: Callable[[], None] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._log = folder / "bridge.log"
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        paths = [str(PACKAGE_PARENT), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                # CallSids of another run mean nothing in this one.
                env={**environment, "BRIDGE_STATE_DIR": str(folder), **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches the program that started the bridge, which then stops it.
                start_new_session=True,
                preexec_fn=before,
                pass_fds=pass_fds,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while the process runs."""
        return self._process.poll()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def log_tail(self) -> str:
        return "\n".join(f"  | {line}" for line in self.log.splitlines()[-LOG_LINES:])

    def wait_until(self, is_ready: Callable[[], bool], within_s: float = READY_S) -> None:
        """
        Wait until ``is_ready`` returns true.

        Raises:
            BridgeError: The process ended first, or the time ran out.
        """
        deadline = time.monotonic() + within_s
        while not is_ready():
            if self.exit_code is not None:
                raise BridgeError(f"exit code {self.exit_code} before it was ready\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise BridgeError(f"not ready within {within_s:g} s\n{self.log_tail()}")
            time.sleep(POLL_S)

    def wait_ready(self, url: str, within_s: float = READY_S) -> None:
        """
        Wait until the bridge takes calls.

        Args:
            url: Base URL of the bridge.

        Raises:
            BridgeError: The process ended first, or the time ran out.
        """
        self.wait_until(lambda: is_ready(url), within_s)

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, within_s: float = EXIT_S) -> int:
        """
        Wait for the process to end; returns its exit code.

        Raises:
            BridgeError: The time ran out.
        """
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise BridgeError(f"still runs after {within_s:g} s\n{self.log_tail()}") from None

    def stop(self, within_s: float = EXIT_S) -> int:
        """
        Send SIGTERM and wait for the process to end; returns its exit code.

        Raises:
            BridgeError: The time ran out.
        """
        self.send_signal(signal.SIGTERM)
        return self.wait(within_s)

    def kill(self) -> None:
        """Kill the process if it still runs."""
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free, and that no outgoing connection gets meanwhile."""
    while True:
        port = random.choice(BESIDE_EPHEMERAL)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def is_ready(url: str, tls: ssl.SSLContext | None = None) -> bool:
    """
    Return whether a bridge at this base URL takes calls, by its ``/readyz``.

    Args:
        tls: For an https URL: a context that trusts a private certificate.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        HTTPSConnection(host, parts.port, timeout=ANSWER_S, context=tls)
        if parts.scheme == "https"
        else HTTPConnection(host, parts.port, timeout=ANSWER_S)
    )
    try:
        connection.request("GET", parts.path.rstrip("/") + "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
