"""
Restarts and kills bridges under load, and counts what their callers notice.

Real processes on this machine: the bridges, HAProxy with the delivered configuration, and in this process the callers
and their agents. Each caller follows Twilio's redirects as Twilio does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.agents import DEFAULT, settings_for
from benchmarks.balancer import NoBalancerError, balancing, find_haproxy
from benchmarks.bridge_process import children_of, kill_with_children
from benchmarks.calls import Account
from benchmarks.measure import machine
from benchmarks.progress import Progress
from benchmarks.restart_agent import Agents, serving
from benchmarks.restart_calls import RestartCalls
from benchmarks.restart_rows import Row, to_json
from benchmarks.verdict import Line
from bridge.standins.process import BridgeError, BridgeProcess, free_port

# 40 calls of this length are 5 new ones a second.
CALL_S = 8.0
WORKERS = "2"
# A process has drained, or workers are replaced and the former ones have ended. Without a store a call whose media
# socket opens elsewhere is waited for 60 s.
RESTARTED_S = 90.0
# All calls are up, or are back after a kill.
UP_S = 20.0
# A killed process's calls go on for this long once all of them are back.
AFTERWARDS_S = 2.0
# No scenario takes longer.
SCENARIO_S = 300.0
POLL_S = 0.05
PROGRESS_S = 1.0


@dataclass(frozen=True, kw_only=True)
class RestartOptions:
    """``calls`` are present at any time, each of ``call_s``; the settings override those of the benchmark."""

    calls: int
    call_s: float = CALL_S
    bridge_settings: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """
    The callers of one scenario, and what it starts.

    Attributes:
        port: Where the calls arrive.
        settings: Of every bridge.
        folder: For files.
        stack: Ends what was started.
    """

    options: RestartOptions
    port: int
    settings: Mapping[str, str]
    calls: RestartCalls
    folder: Path
    stack: AsyncExitStack

    async def start(self, port: int, **settings: str) -> BridgeProcess:
        """
        Start a bridge and wait until it is ready.

        Raises:
            BridgeError: It does not become ready.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        process = BridgeProcess(folder, {**self.settings, "PORT": str(port), **settings})
        self.stack.callback(kill_with_children, process)
        await asyncio.to_thread(process.wait_ready, f"http://127.0.0.1:{port}")
        return process

    async def start_two(self, **settings: str) -> dict[str, tuple[int, BridgeProcess]]:
        """
        Start two bridges behind HAProxy; returns the port and the process of each, by its name there.

        Raises:
            BridgeError: One of them does not become ready.
            NoBalancerError: HAProxy is not installed.
        """
        find_haproxy()
        ports = {"a": free_port(), "b": free_port()}
        found = {
            name: (port, await self.start(port, BRIDGE_NODE=name, **settings)) for name, port in ports.items()
        }
        await self.stack.enter_async_context(balancing(ports, self.folder, self.port))
        return found

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Keep calls coming; the last ones go on to their end."""
        coming = asyncio.create_task(self.calls.keep_coming(self.options.calls, self.options.call_s))
        try:
            # Until the first calls end.
            await asyncio.sleep(self.options.call_s)
            yield
        finally:
            coming.cancel()
        await self.calls.settled()


async def replace_workers(scene: Scene) -> None:
    """Replace the workers of one process by SIGUSR2."""
    process = await scene.start(scene.port, BRIDGE_WORKERS=WORKERS)
    async with scene.load():
        former = children_of(process.pid)
        process.send_signal(signal.SIGUSR2)
        if not await _holds(lambda: not former & children_of(process.pid), RESTARTED_S):
            raise BridgeError(f"the former workers still run after {RESTARTED_S:g} s\n{process.log_tail()}")


async def restart_both(scene: Scene, **settings: str) -> None:
    """Restart two processes, one after the other, each once its calls are over."""
    bridges = await scene.start_two(**settings)
    async with scene.load():
        for name, (port, process) in bridges.items():
            exit_code = await asyncio.to_thread(process.stop, RESTARTED_S)
            if exit_code:
                raise BridgeError(f"exit code {exit_code} on SIGTERM\n{process.log_tail()}")
            await scene.start(port, BRIDGE_NODE=name, **settings)


async def kill_process(scene: Scene) -> None:
    """Kill one of two processes; its calls go on at the other one."""
    bridges = await scene.start_two()
    _, process = bridges["a"]
    await _killed(scene, process.kill)


async def kill_worker(scene: Scene) -> None:
    """Kill one of two workers; its calls go on at the other one."""
    process = await scene.start(scene.port, BRIDGE_WORKERS=WORKERS)
    await _killed(scene, lambda: os.kill(min(children_of(process.pid)), signal.SIGKILL))


async def _killed(scene: Scene, kill: Callable[[], None]) -> None:
    calls, options = scene.calls, scene.options
    for _ in range(options.calls):
        calls.begin()
        await asyncio.sleep(options.call_s / options.calls / 2)
    if not await _holds(lambda: all(call.is_up for call in calls.present), UP_S):
        raise BridgeError(f"not all calls were up within {UP_S:g} s")
    kill()
    if not await _holds(lambda: bool(calls.results) or any(call.streams > 1 for call in calls.present), UP_S):
        raise BridgeError("no call was at the killed process")
    # Calls that do not come back say so themselves.
    await _holds(lambda: all(call.is_up for call in calls.present), UP_S)
    await asyncio.sleep(AFTERWARDS_S)
    calls.end_all()
    await calls.settled()


SCENARIOS: Mapping[str, Callable[[Scene], Awaitable[None]]] = {
    "workers replaced by SIGUSR2": replace_workers,
    "rolling restart": restart_both,
    "rolling restart, handed over": partial(restart_both, BRIDGE_DRAIN_S="1"),
    "kill -9 of a process": kill_process,
    "kill -9 of a worker": kill_worker,
}


async def run_scenario(name: str, options: RestartOptions, progress: Progress) -> Row:
    """Make the calls of one scenario."""
    account, agents = Account.random(), Agents()
    problems: list[str] = []
    async with AsyncExitStack() as stack:
        # A collection of all that the calls keep takes up to 0.2 s, in which no caller hears anything.
        gc.disable()
        stack.callback(gc.enable)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-restart-")))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        calls = RestartCalls(url, account, agents)
        agent_port = await stack.enter_async_context(serving(agents, calls.rest))
        settings = {
            "HOST": "127.0.0.1",
            "PUBLIC_URL": url,
            "TWILIO_ACCOUNT_SID": account.sid,
            "TWILIO_AUTH_TOKEN": account.auth_token,
            "TWILIO_API_URL": f"http://127.0.0.1:{agent_port}",
            "BRIDGE_MAX_CALLS": str(2 * options.calls + 10),
            # Both processes of a scenario use it.
            "BRIDGE_STORE": f"sqlite:{folder}/store.sqlite3",
            **settings_for(DEFAULT, f"http://127.0.0.1:{agent_port}", f"ws://127.0.0.1:{agent_port}", folder),
            **dict(options.bridge_settings),
        }
        scene = Scene(options=options, port=port, settings=settings, calls=calls, folder=folder, stack=stack)
        stack.push_async_callback(calls.cancel)
        showing = asyncio.create_task(_show(progress, name, calls))
        stack.callback(showing.cancel)
        try:
            async with asyncio.timeout(SCENARIO_S):
                await SCENARIOS[name](scene)
        except NoBalancerError as error:
            return Row(scenario=name, not_run=str(error))
        except BridgeError as error:
            problems.append(str(error))
        except TimeoutError:
            problems.append(f"not over after {SCENARIO_S:g} s")
    progress.finish()
    return Row(scenario=name, results=calls.results, problems=problems)


def line_of(row: Row, options: RestartOptions) -> Line:
    """Return the JSON line of a row."""
    return to_json(row) | {
        "calls_at_once": options.calls,
        "call_s": options.call_s,
        "set": " ".join(f"{name}={value}" for name, value in options.bridge_settings),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "python": platform.python_version(),
    }


async def _holds(condition: Callable[[], bool], within_s: float) -> bool:
    """Wait until a condition holds; returns whether it does in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while loop.time() < deadline:
        if condition():
            return True
        await asyncio.sleep(POLL_S)
    return condition()


async def _show(progress: Progress, name: str, calls: RestartCalls) -> None:
    scenario = list(SCENARIOS).index(name)
    while True:
        text = f"{name}: {len(calls.present)} calls, {len(calls.results)} over"
        progress.show("restart", scenario, len(SCENARIOS), text)
        await asyncio.sleep(PROGRESS_S)
