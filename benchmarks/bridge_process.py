"""Runs the bridge or peer under test on its cores, and measures its CPU time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]

from bridge.standins.process import POLL_S, READY_S, SERVE, BridgeError, BridgeProcess, is_ready


class Meter:
    """CPU time and memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def _processes(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def cpu_s(self) -> float:
        return sum(_cpu_s(process) for process in self._processes())

    def rss_kb(self) -> float:
        return sum(_status_kb(process, "VmRSS") for process in self._processes())

    def peak_rss_kb(self) -> float:
        return sum(_status_kb(process, "VmHWM") for process in self._processes())

    def connections_to(self, port: int) -> list[int]:
        """Return how many connections to this port each process has, without those that have none."""
        counts = [
            sum(
                bool(connection.raddr) and connection.raddr.port == port
                for connection in process.net_connections()
            )
            for process in self._processes()
        ]
        return sorted(filter(None, counts), reverse=True)


def _cpu_s(process: psutil.Process) -> float:
    # The scheduler counts nanoseconds; cpu_times counts ticks of 10 ms, too coarse for a short window.
    # schedstat leaves out finished threads; the bridge starts all its threads before the first call.
    try:
        tasks = list(Path(f"/proc/{process.pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        times = process.cpu_times()
        return float(times.user + times.system)


def _status_kb(process: psutil.Process, key: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return float(line.split()[1])
    return float(process.memory_info().rss) / 1024


def core_busy_s(cores: set[int]) -> float:
    """Return the busy time of ``cores`` since the machine started, for all processes, in steps of 10 ms."""
    names = {f"cpu{core}" for core in cores}
    busy_ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            busy_ticks += user + nice + system + irq + softirq + steal
    return busy_ticks / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> set[int]:
    """Return the processes that a process has started and that still run."""
    return {child.pid for child in psutil.Process(pid).children()}


def kill_with_children(process: BridgeProcess) -> None:
    """Kill a process that still runs, and its workers."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()


@asynccontextmanager
async def running_bridge(
    settings: Mapping[str, str],
    url: str,
    cores: set[int] | None,
    before: Callable[[], Any] | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """
    Run ``bridge serve``; yields its pid.

    Args:
        before: Called in the new process before the bridge.
        tls: For an https URL: a context that trusts the bridge's certificate.

    Raises:
        BridgeError: The bridge does not become ready, or its exit code on SIGTERM is not 0.
    """
    with _started(settings, cores, before=before) as process:
        await asyncio.to_thread(process.wait_until, partial(is_ready, url, tls))
        yield process.pid
        await _stop(process, {0})


@asynccontextmanager
async def running_peer(
    command: Sequence[str], settings: Mapping[str, str], port: int, cores: set[int] | None
) -> AsyncIterator[int]:
    """
    Run a peer; yields its pid.

    Raises:
        BridgeError: The peer does not listen in time, or does not stop on SIGTERM.
    """
    with _started(settings, cores, command) as process:
        await asyncio.to_thread(process.wait_until, lambda: _listens(port))
        yield process.pid
        await _stop(process, {0, -signal.SIGTERM, 128 + signal.SIGTERM})


async def wait_ready(url: str) -> None:
    """
    Wait until a running bridge accepts calls.

    Raises:
        BridgeError: The bridge is not ready in time.
    """
    deadline = time.monotonic() + READY_S
    while not await asyncio.to_thread(is_ready, url):
        if time.monotonic() > deadline:
            raise BridgeError(f"The bridge at {url} was not ready within {READY_S:g} s.")
        await asyncio.sleep(POLL_S)


@contextlib.contextmanager
def _started(
    settings: Mapping[str, str],
    cores: set[int] | None,
    command: Sequence[str] = SERVE,
    before: Callable[[], Any] | None = None,
) -> Iterator[BridgeProcess]:
    with tempfile.TemporaryDirectory(prefix="bridge-load-") as folder:
        with on_cores(cores):
            process = BridgeProcess(Path(folder), settings, command=command, before=before)
        with process:
            yield process


async def _stop(process: BridgeProcess, good: set[int]) -> None:
    code = await asyncio.to_thread(process.stop)
    if code not in good:
        raise BridgeError(f"exit code {code} on SIGTERM\n{process.log_tail()}")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def on_cores(cores: set[int] | None) -> Iterator[None]:
    """Pin this thread to ``cores``; processes started inside inherit them."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
