"""Makes one run of the load: the bridge or a peer on one core, the generator on the others."""

from __future__ import annotations

import asyncio
import datetime
import os
import platform
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from benchmarks.agents import AGENTS, DEFAULT, name_of_run, settings_for
from benchmarks.bridge_process import (
    Meter,
    core_busy_s,
    on_cores,
    running_bridge,
    running_peer,
    wait_ready,
)
from benchmarks.calls import Account, DirectCalls, Placing, Webhooks, agent_api
from benchmarks.generator.driver import INJECTIONS, Generator, build_generator
from benchmarks.peers import PEERS
from benchmarks.progress import Progress
from benchmarks.tls import make_certificate, trust
from benchmarks.transcoded import write_transcoded
from benchmarks.verdict import Limits, Measured, settings_of
from bridge.standins.process import BridgeError, free_port

MAX_PROBLEMS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class RunningBridge:
    """A bridge that runs already, with its public URL; the figures need its ``pid``."""

    url: str
    public_url: str
    pid: int | None


@dataclass(frozen=True, kw_only=True)
class Options:
    """
    The options of one run; ``peer`` is None for the bridge.

    ``agent``, ``workers`` and ``bridge_settings`` apply to the bridge only; the settings override those of the
    benchmark. ``workers`` is None for a bridge without worker processes. ``certificate`` is that of the agents with
    ``tls``, as `make_certificate` returns it; None: a new one.
    """

    calls: int
    seconds: float
    peer: str | None
    agent: str = DEFAULT
    bridge_settings: Sequence[tuple[str, str]] = ()
    workers: int | None = None
    tls: bool
    certificate: tuple[Path, Path] | None = None
    running: RunningBridge | None = None
    agent_port: int
    inject: str | None
    frame_bytes: int
    interrupts_per_minute: float
    ramp_s: float
    pin: bool

    @property
    def generator_settings(self) -> dict[str, int]:
        rate = self.interrupts_per_minute
        return {
            "calls": self.calls,
            "seconds_ms": round(self.seconds * 1000),
            "frame_bytes": self.frame_bytes,
            "interrupt_ms": round(60_000 / rate) if rate else 0,
            # Two adjacent ports, because a running bridge is configured with both.
            "agent_port": self.agent_port + 1 if self.agent_port else 0,
            "inject": INJECTIONS.index(self.inject) + 1 if self.inject else 0,
            # Peers have no session and so no token.
            "auth": 1 if self.peer is None and AGENTS[self.agent].has_token else 0,
            "agent": AGENTS[self.agent].number,
        }

    @property
    def name(self) -> str:
        """Name of the bridge or peer under load."""
        return self.peer or name_of_run(self.agent)

    @property
    def is_over_tls(self) -> bool:
        """False for the floor, which is the yardstick and always plain."""
        return self.tls and (self.peer is None or PEERS[self.peer].speaks_tls)


@dataclass(frozen=True, kw_only=True)
class Agent:
    """
    The stand-in agent's addresses; ``environment`` makes the bridge trust its certificate.

    ``placing`` is set if the agent's service needs the number of the call in progress; ``directory`` is for files of
    the settings.
    """

    api_url: str
    media_url: str
    environment: Mapping[str, str]
    placing: Placing | None
    directory: Path

    @property
    def retell_url(self) -> str:
        return f"{self.media_url}/audio-websocket"


@dataclass(frozen=True, kw_only=True)
class Target:
    """The bridge or peer under load."""

    calls: Webhooks | DirectCalls
    pid: int | None
    cores: set[int] | None


Beside = Callable[[Target], AbstractAsyncContextManager[None]]


def split_cores() -> tuple[set[int], set[int]] | None:
    """Return the core of the bridge and those of the load, or None where there is only one or none can be chosen."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return ({cores[0]}, set(cores[1:])) if len(cores) > 1 else None


def choose_cores(options: Options) -> tuple[set[int], set[int]] | None:
    """Return the cores of the bridge and those of the load, or None for a run without pinning."""
    return split_cores() if options.pin and options.running is None else None


def build(options: Options) -> list[str]:
    """
    Build the programs of a run before it begins; returns the peer's command, empty for the bridge.

    Raises:
        BuildError: If the peer cannot be built here.
        GeneratorError: If the generator cannot be built.
    """
    build_generator(options.is_over_tls)
    return PEERS[options.peer].build(lambda text: click.echo(text, err=True)) if options.peer else []


async def run(
    options: Options, limits: Limits, progress: Progress, beside: Beside = lambda _: nullcontext()
) -> Measured:
    """
    Make one run.

    Args:
        beside: What goes on while all calls are up and measured.

    Raises:
        BridgeError: If the bridge does not start.
        BuildError: If the peer cannot be built here.
        GeneratorError: If the generator cannot be built, or dies.
    """
    command = await asyncio.to_thread(build, options)
    executable = build_generator(options.is_over_tls)
    cores = choose_cores(options)
    measured: Measured | None = None
    try:
        async with AsyncExitStack() as stack:
            if cores:
                stack.enter_context(on_cores(cores[1]))
            files: dict[str, Path] = {}
            environment: dict[str, str] = {}
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-load-files-")))
            if options.is_over_tls:
                files["GENERATOR_TLS_PEM"], trusted = options.certificate or make_certificate(directory)
                environment = trust(trusted)
            resampled_hz = AGENTS[options.agent].resampled_hz
            if resampled_hz:
                files["GENERATOR_TRANSCODED"] = await asyncio.to_thread(
                    write_transcoded, directory, options.frame_bytes, resampled_hz
                )
            generator = await Generator.start(executable, options.generator_settings, files)
            stack.push_async_callback(generator.stop)
            media_url = f"ws{'s' if options.is_over_tls else ''}://127.0.0.1:{generator.agent_port}"
            placing = Placing() if resampled_hz else None
            api_port = await stack.enter_async_context(agent_api(options.agent_port, media_url, placing))
            agent = Agent(
                api_url=f"http://127.0.0.1:{api_port}",
                media_url=media_url,
                environment=environment,
                placing=placing,
                directory=directory,
            )
            target = await stack.enter_async_context(
                _target(options, command, agent, cores[0] if cores else None)
            )
            measured = await _load(options, limits, target, generator, progress, beside)
    except BridgeError as error:
        if measured is None:
            raise
        measured = replace(measured, problems=[*measured.problems, str(error)])
    return measured


@asynccontextmanager
async def _target(
    options: Options, command: list[str], agent: Agent, cores: set[int] | None
) -> AsyncIterator[Target]:
    if options.running:
        yield await _running_already(options.running, agent)
        return
    port = free_port()
    if options.peer:
        settings = {"PORT": str(port), "AGENT_WS_URL": agent.retell_url, **agent.environment}
        async with running_peer(command, settings, port, cores) as pid:
            yield Target(calls=DirectCalls(port=port), pid=pid, cores=cores)
        return
    url = f"http://127.0.0.1:{port}"
    account = Account.random()
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "PUBLIC_URL": url,
        "TWILIO_ACCOUNT_SID": account.sid,
        "TWILIO_AUTH_TOKEN": account.auth_token,
        "BRIDGE_MAX_CALLS": str(options.calls + 10),
        # The callers hang up, so Twilio asks nothing after the media stream ends.
        "BRIDGE_DRAIN_GRACE_S": "0",
        "BRIDGE_RESUME_LINGER_S": "0",
        **({"BRIDGE_WORKERS": str(options.workers)} if options.workers else {}),
        **settings_for(options.agent, agent.api_url, agent.media_url, agent.directory),
        **agent.environment,
        **dict(options.bridge_settings),
    }
    webhooks = Webhooks(url=url, public_url=url, account=account, placing=agent.placing)
    async with running_bridge(settings, url, cores) as pid:
        yield Target(calls=webhooks, pid=pid, cores=cores)


async def _running_already(running: RunningBridge, agent: Agent) -> Target:
    account = Account(
        sid=os.environ["TWILIO_ACCOUNT_SID"], auth_token=os.environ["TWILIO_AUTH_TOKEN"].split(",")[0]
    )
    click.echo(f"agent: RETELL_API_URL={agent.api_url} RETELL_WS_URL={agent.retell_url}", err=True)
    await wait_ready(running.url)
    webhooks = Webhooks(url=running.url, public_url=running.public_url, account=account)
    return Target(calls=webhooks, pid=running.pid, cores=None)


async def _load(
    options: Options,
    limits: Limits,
    target: Target,
    generator: Generator,
    progress: Progress,
    beside: Beside,
) -> Measured:
    meter = Meter(target.pid) if target.pid else None
    rss_before_kb = meter.rss_kb() if meter else None

    async def place_calls() -> None:
        await target.calls.place_calls(options.calls, options.ramp_s, generator.begin_call)
        generator.end_of_calls()

    placing = asyncio.create_task(place_calls())
    raw: dict[str, Any] = {}
    cpu_s, busy_s, rss_peak_kb = 0.0, 0.0, None
    calls_by_worker: list[int] = []
    besides = AsyncExitStack()
    try:
        async for event in generator.events():
            if event["event"] == "progress":
                _show(progress, event, options)
            elif event["event"] == "window":
                if event["at"] == "start":
                    await besides.enter_async_context(beside(target))
                else:
                    await besides.aclose()
                if not meter:
                    continue
                cpu_s = meter.cpu_s() - cpu_s
                busy_s = core_busy_s(target.cores or set()) - busy_s
                if options.workers and rss_peak_kb is not None:
                    # Only at the window's end, because counting takes time.
                    calls_by_worker = meter.connections_to(generator.agent_port)
                rss_peak_kb = meter.peak_rss_kb()
            elif event["event"] == "result":
                raw = event
        await placing
    finally:
        await besides.aclose()
        placing.cancel()
        progress.finish()
    return Measured(
        raw=raw,
        settings=_settings(options, limits),
        webhook_ms=target.calls.times_ms,
        problems=_shortened(target.calls.refusals),
        bridge_cpu_s=cpu_s if meter else None,
        others_cpu_s=max(0.0, busy_s - cpu_s) if target.cores else None,
        rss_before_kb=rss_before_kb,
        rss_peak_kb=rss_peak_kb,
        calls_by_worker=calls_by_worker,
    )


def _show(progress: Progress, event: dict[str, Any], options: Options) -> None:
    text = f"{event['up']}/{options.calls} calls, {event['sent']} frames sent, {event['received']} received"
    if event["phase"] == "steady":
        progress.show("steady", event["window_s"], options.seconds, f"{event['window_s']:.0f} s, {text}")
    else:
        progress.show(event["phase"], event["up"], options.calls, text)


def _shortened(problems: list[str]) -> list[str]:
    more = len(problems) - MAX_PROBLEMS_SHOWN
    return problems[:MAX_PROBLEMS_SHOWN] + (
        [f"and {more} more calls refused by the webhook"] if more > 0 else []
    )


def _settings(options: Options, limits: Limits) -> dict[str, Any]:
    return settings_of(
        limits,
        name=options.name,
        tls=options.is_over_tls,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine(),
        python=platform.python_version(),
        calls=options.calls,
        seconds=options.seconds,
        ramp_s=options.ramp_s,
        frame_bytes=options.frame_bytes,
        interrupts_per_call_per_minute=options.interrupts_per_minute,
        inject=options.inject,
        set=" ".join(f"{name}={value}" for name, value in options.bridge_settings if options.peer is None),
        workers=options.workers or 1,
        pinned=choose_cores(options) is not None,
    )


def machine() -> str:
    """Return the system, number of cores and processor, to compare figures by."""
    model = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} cores of {model}"
