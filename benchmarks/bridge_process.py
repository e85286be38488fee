"""The bridge or peer under test as a process: started with its settings, waited for, measured, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil  # type: ignore[import-untyped,unused-ignore]

READY_DEADLINE_S = 20
EXIT_DEADLINE_S = 20
ROOT = Path(__file__).parent.parent


class BridgeError(RuntimeError):
    """The bridge did not start, or did not stop as it should."""


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


def _cpu_s(process: psutil.Process) -> float:
    # The scheduler counts nanoseconds; cpu_times counts ticks of 10 ms, too coarse for a short window.
    # Only living threads are in it, as the bridge's are from before the first call.
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
    """Return how long ``cores`` were not idle since the machine started, whoever used them, in steps of 10 ms."""
    names = {f"cpu{core}" for core in cores}
    busy_ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in names:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            busy_ticks += user + nice + system + irq + softirq + steal
    return busy_ticks / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


async def wait_ready(url: str, process: asyncio.subprocess.Process | None = None) -> None:
    """
    Wait until ``/readyz`` answers 200.

    Raises:
        BridgeError: If the deadline passes or the process ends first.
    """
    deadline = asyncio.get_running_loop().time() + READY_DEADLINE_S
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url + "/readyz") as response:
                    if response.status == 200:
                        return
            if process and process.returncode is not None:
                raise BridgeError(
                    f"The bridge ended with exit code {process.returncode} before it was ready."
                )
            if asyncio.get_running_loop().time() > deadline:
                raise BridgeError(f"The bridge at {url} was not ready within {READY_DEADLINE_S} s.")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running_bridge(settings: Mapping[str, str], url: str, cores: set[int] | None) -> AsyncIterator[int]:
    """
    Run ``bridge serve`` in an empty directory; yields its pid.

    Raises:
        BridgeError: If it does not get ready, or does not end with exit code 0 on SIGTERM.
    """
    command = [sys.executable, "-m", "bridge", "serve"]
    environment = {"PYTHONPATH": str(ROOT), **settings}
    async with _running(command, environment, cores) as process:
        await wait_ready(url, process)
        yield process.pid
        await _terminate(process, {0})


@asynccontextmanager
async def running_peer(
    command: Sequence[str], settings: Mapping[str, str], port: int, cores: set[int] | None
) -> AsyncIterator[int]:
    """
    Run a peer in an empty directory; yields its pid.

    Raises:
        BridgeError: If it does not get ready, or does not end on SIGTERM.
    """
    async with _running(command, settings, cores) as process:
        await _wait_listening(port, process)
        yield process.pid
        await _terminate(process, {0, -signal.SIGTERM, 128 + signal.SIGTERM})


@asynccontextmanager
async def _running(
    command: Sequence[str], settings: Mapping[str, str], cores: set[int] | None
) -> AsyncIterator[asyncio.subprocess.Process]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="bridge-load-") as directory:
        log = Path(directory) / "bridge.log"
        with log.open("wb") as output, on_cores(cores):
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=directory,
                env={**kept, **settings},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield process
        except BridgeError as error:
            raise BridgeError(f"{error}\n{_tail(log)}") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _wait_listening(port: int, process: asyncio.subprocess.Process) -> None:
    deadline = asyncio.get_running_loop().time() + READY_DEADLINE_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            pass
        else:
            writer.close()
            return
        if process.returncode is not None:
            raise BridgeError(f"The peer ended with exit code {process.returncode} before it was ready.")
        if asyncio.get_running_loop().time() > deadline:
            raise BridgeError(f"The peer did not listen on port {port} within {READY_DEADLINE_S} s.")
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def on_cores(cores: set[int] | None) -> Iterator[None]:
    """Let what is started inside inherit ``cores``, and its threads with it."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _terminate(process: asyncio.subprocess.Process, good: set[int]) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        code = await asyncio.wait_for(process.wait(), EXIT_DEADLINE_S)
    except TimeoutError:
        raise BridgeError(f"The bridge was still there {EXIT_DEADLINE_S} s after SIGTERM.") from None
    if code not in good:
        raise BridgeError(f"The bridge ended with exit code {code} on SIGTERM.")


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
