"""A caller behind a link of 1 Mbit/s: a network namespace of its own, for as long as the test runs."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import pytest

RATE = "1mbit"
# The queue of a small router: 128 ms at this rate. One packet at a time, so that the rate is even.
QUEUE_BYTES = 16_000
PACKET_BYTES = 1600


@contextlib.contextmanager
def sockets_by(make: Callable[[Any], socket.socket]) -> Iterator[None]:
    """Let callers that are opened within connect by sockets of one's own; ``make`` gets what getaddrinfo gives."""
    connector = functools.partial(aiohttp.TCPConnector, socket_factory=make)
    with mock.patch.object(aiohttp, "TCPConnector", connector):
        yield


class SlowPath:
    """
    What is sent from ``address`` to sockets of `make_socket` takes the slow link; the way back is fast.

    Args:
        namespace: Name of the network namespace at the far end.
        address: The near end.
        far_address: The far end.
    """

    def __init__(self, namespace: str, address: str, far_address: str) -> None:
        self.address = address
        self.far_address = far_address
        # Runs a program at the far end.
        self.command = ("ip", "netns", "exec", namespace)
        self._namespace = namespace
        self._far = Path("/run/netns", namespace)

    def cut(self) -> None:
        """Lose every answer of the far end from now on, as at a host without power."""
        done = _run("ip", "-netns", self._namespace, "route", "add", "blackhole", self.address)
        assert done.returncode == 0, done.stderr

    def make_socket(self, address: Any) -> socket.socket:
        """Make a socket at the far end."""
        near, far = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(self._far, os.O_RDONLY)
        try:
            _enter(far)
            try:
                return socket.socket(*address[:3])
            finally:
                _enter(near)
        finally:
            os.close(near)
            os.close(far)


def _enter(namespace: int) -> None:
    # os.setns comes with Python 3.12.
    if ctypes.CDLL(None, use_errno=True).setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


@pytest.fixture
def slow_path() -> Iterator[SlowPath]:
    """Skips the test where a network namespace cannot be made."""
    missing = [name for name in ("ip", "tc") if shutil.which(name) is None]
    if not sys.platform.startswith("linux") or missing or os.geteuid() != 0:
        pytest.skip(f"needs Linux, root, ip and tc; missing: {missing}")
    pid = os.getpid()
    namespace, near, far = f"slow{pid}", f"near{pid}", f"far{pid}"
    # From the range for benchmarks (RFC 2544), which no network uses.
    network = f"198.18.{pid % 256}"
    made = _run("ip", "netns", "add", namespace)
    if made.returncode:
        pytest.skip(f"no network namespace: {made.stderr.strip()}")
    try:
        for command in (
            f"ip link add {near} type veth peer name {far} netns {namespace}",
            f"ip address add {network}.1/24 dev {near}",
            f"ip -netns {namespace} address add {network}.2/24 dev {far}",
            f"ip link set {near} up",
            f"ip -netns {namespace} link set {far} up",
            f"tc qdisc add dev {near} root tbf rate {RATE} burst {PACKET_BYTES} limit {QUEUE_BYTES}",
        ):
            done = _run(*command.split())
            if done.returncode:
                pytest.skip(f"{command}: {done.stderr.strip()}")
        yield SlowPath(namespace, f"{network}.1", f"{network}.2")
    finally:
        # Its end of the link goes with it, and the near end with that.
        _run("ip", "netns", "delete", namespace)
        _run("ip", "link", "delete", near)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)
