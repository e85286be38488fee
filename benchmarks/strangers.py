"""
Lets strangers do their worst beside calls, and counts who notices.

Real processes on this machine: the bridge on one core; on the others the generator with its calls, the attacker, and
this one, which asks for what must be answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from benchmarks.agents import DEFAULT, settings_for
from benchmarks.bridge_process import on_cores, running_bridge
from benchmarks.calls import Account, Webhooks, agent_api
from benchmarks.generator.driver import Generator, build_generator
from benchmarks.measure import machine, split_cores
from benchmarks.progress import Progress
from benchmarks.strangers_attack import Attack, Repeated
from benchmarks.strangers_probes import probing
from benchmarks.strangers_rows import LINES_WAITING_MOST, Row, StrangersLimits, to_json
from benchmarks.tls import make_certificate
from benchmarks.verdict import Line
from bridge.standins.process import BridgeError, free_port
from bridge.standins.twilio.webhook import FORM_TYPE, sign

# The calls of the probes that are not yet over.
SPARE_CALLS = 100
PROBES_PER_S = 5.0
CALLS_PER_RAMP_SECOND = 50
INTERRUPT_MS = 4000
# Beyond the steady phase.
SCENARIO_S = 120.0
# Steady before and after the attack, together.
AROUND_S = 2.0
# A fixed key of an upgrade, which is as good as a random one for a refusal.
KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
ROOT = Path(__file__).parents[1]
# Repeated by the attacker, to make a line of the log each.
LINE = "line"
STDERR = 2

Before = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class StrangersOptions:
    """``seconds`` is the time of the attack; the settings override those of the benchmark."""

    calls: int
    seconds: float
    is_pinned: bool = True
    bridge_settings: Sequence[tuple[str, str]] = ()
    limits: StrangersLimits = field(default_factory=StrangersLimits)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """
    One thing that strangers do.

    Attributes:
        stderr: Gives what the bridge's process does first, to its log; None where the log is a file.
        waiting_most: Log lines that may wait for a reader.
    """

    attack: Attack
    is_over_tls: bool = False
    stderr: Callable[[], AbstractContextManager[Before]] | None = None
    waiting_most: int = 0


@contextlib.contextmanager
def unread() -> Iterator[Before]:
    """Stderr is a pipe that nobody reads."""
    reader, writer = os.pipe()
    try:
        yield partial(os.dup2, writer, STDERR)
    finally:
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def full_disk() -> Iterator[Before]:
    """Stderr is a device on which every write fails as on a full disk."""
    device = os.open("/dev/full", os.O_WRONLY)
    try:
        yield partial(os.dup2, device, STDERR)
    finally:
        os.close(device)


# One at a time, so that a busy machine keeps the rate too. In a minute more lines than can wait for a reader.
TALKATIVE = Attack(kind="requests", rate_per_s=150)
SCENARIOS: Mapping[str, Scenario] = {
    "log that nobody reads": Scenario(attack=TALKATIVE, stderr=unread, waiting_most=LINES_WAITING_MOST),
    "log that is closed": Scenario(attack=TALKATIVE, stderr=lambda: nullcontext(partial(os.close, STDERR))),
    "log on a full disk": Scenario(attack=TALKATIVE, stderr=full_disk),
    "silent connections": Scenario(attack=Attack(kind="silent", rate_per_s=331, sockets=1062)),
    "one byte, then a reset": Scenario(attack=Attack(kind="reset", rate_per_s=951)),
    "TLS, closed at once": Scenario(attack=Attack(kind="close", rate_per_s=656), is_over_tls=True),
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """
    The bridge under attack.

    Attributes:
        tls: Trusts the bridge's certificate; None for a plain bridge.
        settings: Of its process, for this certificate.
    """

    port: int
    account: Account
    tls: ssl.SSLContext | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"


async def run_scenario(name: str, options: StrangersOptions, progress: Progress) -> Row:
    """
    Make the calls of one scenario, and attack while they are up.

    Raises:
        GeneratorError: The generator cannot be built, or dies.
    """
    scenario = SCENARIOS[name]
    executable = await asyncio.to_thread(build_generator, scenario.is_over_tls)
    row = Row(scenario=name, limits=options.limits, attacks_wanted_per_s=scenario.attack.rate_per_s)
    problems: list[str] = []
    try:
        async with asyncio.timeout(options.seconds + SCENARIO_S), AsyncExitStack() as stack:
            cores = split_cores() if options.is_pinned else None
            stack.enter_context(on_cores(cores[1] if cores else None))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-strangers-")))
            target = _target(scenario, folder)
            generator = await Generator.start(executable, _generator_settings(options, scenario))
            stack.push_async_callback(generator.stop)
            settings = await _settings(options, target, generator, folder, stack)
            before = stack.enter_context(scenario.stderr()) if scenario.stderr else None
            bridge = running_bridge(settings, target.url, cores[0] if cores else None, before, target.tls)
            await stack.enter_async_context(bridge)
            row = await _attacked(row, scenario, options, target, generator, progress)
    except BridgeError as error:
        problems.append(str(error))
    except TimeoutError:
        problems.append(f"not over {SCENARIO_S:g} s after the attack")
    progress.finish()
    return replace(row, problems=[*row.problems, *problems])


def _target(scenario: Scenario, folder: Path) -> Target:
    port, account = free_port(), Account.random()
    if not scenario.is_over_tls:
        return Target(port=port, account=account)
    served, trusted = make_certificate(folder)
    settings = {"BRIDGE_TLS_CERT": str(served), "BRIDGE_TLS_KEY": str(served)}
    tls = ssl.create_default_context(cafile=trusted)
    return Target(port=port, account=account, tls=tls, settings=settings)


def _generator_settings(options: StrangersOptions, scenario: Scenario) -> dict[str, int]:
    return {
        "calls": options.calls,
        "seconds_ms": round((options.seconds + AROUND_S) * 1000),
        "interrupt_ms": INTERRUPT_MS,
        "caller_tls": int(scenario.is_over_tls),
    }


async def _settings(
    options: StrangersOptions, target: Target, generator: Generator, folder: Path, stack: AsyncExitStack
) -> dict[str, str]:
    """Serve the agent's and Twilio's REST APIs, and return the bridge's settings."""

    async def change_call(_: web.Request) -> web.Response:
        return web.json_response({})

    rest = web.post("/2010-04-01/Accounts/{account_sid}/Calls/{call_sid}.json", change_call)
    api_url = f"http://127.0.0.1:{await stack.enter_async_context(agent_api(routes=[rest]))}"
    return {
        "HOST": "127.0.0.1",
        "PORT": str(target.port),
        "PUBLIC_URL": target.url,
        "TWILIO_ACCOUNT_SID": target.account.sid,
        "TWILIO_AUTH_TOKEN": target.account.auth_token,
        "TWILIO_API_URL": api_url,
        "BRIDGE_MAX_CALLS": str(options.calls + SPARE_CALLS),
        "BRIDGE_DRAIN_GRACE_S": "0",
        "BRIDGE_RESUME_LINGER_S": "0",
        **settings_for(DEFAULT, api_url, f"ws://127.0.0.1:{generator.agent_port}", folder),
        **target.settings,
        **dict(options.bridge_settings),
    }


async def _attacked(
    row: Row,
    scenario: Scenario,
    options: StrangersOptions,
    target: Target,
    generator: Generator,
    progress: Progress,
) -> Row:
    calls = Webhooks(url=target.url, public_url=target.url, account=target.account, tls=target.tls)

    async def place_calls() -> None:
        await calls.place_calls(options.calls, options.calls / CALLS_PER_RAMP_SECOND, generator.begin_call)
        generator.end_of_calls()

    placing = asyncio.create_task(place_calls())
    attacking: asyncio.Task[Row] | None = None
    try:
        async for event in generator.events():
            if event["event"] == "progress":
                _show(progress, row.scenario, event, options.seconds)
            elif event == {"event": "window", "at": "start"}:
                attacking = asyncio.create_task(_attack(row, scenario, options.seconds, target))
            elif event["event"] == "result":
                row = replace(row, raw=event, problems=calls.refusals)
        await placing
        if attacking is not None:
            row = replace(await attacking, raw=row.raw, problems=row.problems)
    finally:
        for task in (placing, attacking):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    return row


async def _attack(row: Row, scenario: Scenario, seconds: float, target: Target) -> Row:
    """Attack and ask for this time; returns the row with the figures of both."""
    attack = scenario.attack
    if attack.kind == "requests":
        attack = replace(attack, requests=_requests(target))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.strangers_attack"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with probing(target.url, target.account, target.tls) as probes:
            assert process.stdin is not None
            process.stdin.write(attack.to_line(target.port))
            asking = asyncio.create_task(probes.keep_asking(PROBES_PER_S))
            await asyncio.sleep(seconds)
            asking.cancel()
            output, _ = await process.communicate(b"")
            await probes.settled()
            row = replace(row, webhooks=probes.webhooks, upgrades=probes.upgrades, checks=probes.checks)
            dropped = await _lines_dropped(target) if scenario.stderr else None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    result = json.loads(output)
    lines = sum(count for what, count in result["done"].items() if what.startswith(f"{LINE} 2"))
    return replace(
        row,
        attacks=sum(result["done"].values()) - result["done"].get("failed", 0),
        attack_s=result["seconds"],
        lines_made=lines if scenario.stderr else None,
        waiting_most=scenario.waiting_most,
        lines_dropped=dropped,
    )


def _requests(target: Target) -> list[Repeated]:
    """Return refused ones, and between them one that Twilio signed, which leaves a line of the log each time."""
    url, account = target.url, target.account
    form = {
        "AccountSid": account.sid,
        "CallSid": "CA" + "0" * 32,
        "StreamEvent": "stream-error",
        "StreamError": "x" * 100,
    }
    line = Repeated(
        name=LINE,
        method="POST",
        path="/stream/status",
        headers={
            "Content-Type": FORM_TYPE,
            "X-Twilio-Signature": sign(account.auth_token, f"{url}/stream/status", form),
        },
        body=urlencode(form),
    )
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    refused = [
        Repeated(
            name="webhook",
            method="POST",
            path="/voice",
            headers={"Content-Type": FORM_TYPE},
            body="CallSid=x",
        ),
        Repeated(name="upgrade", method="GET", path=f"/media/{'0' * 32}", headers=upgrade),
        Repeated(name="path", method="GET", path="/voices", headers={"X-Twilio-Signature": "x"}),
    ]
    return [request for other in refused for request in (other, line)]


async def _lines_dropped(target: Target) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{target.url}/metrics", ssl=target.tls or True) as response,
    ):
        found = re.search(r"^bridge_log_lines_dropped_total (\S+)$", await response.text(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def line_of(row: Row, options: StrangersOptions) -> Line:
    """Return the JSON line of a row."""
    return to_json(row) | {
        "seconds": options.seconds,
        "set": " ".join(f"{name}={value}" for name, value in options.bridge_settings),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def _show(progress: Progress, name: str, event: Mapping[str, Any], seconds: float) -> None:
    text = f"{name}: {event['up']} calls, {event['sent']} frames sent, {event['received']} received"
    progress.show(event["phase"], event["window_s"], seconds, text)
