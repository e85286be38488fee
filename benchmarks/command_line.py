"""The options of `python -m benchmarks.load`, in groups, and the rules for combining them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks.agents import AGENTS, DEFAULT, FRAME_BYTES_MOST
from benchmarks.generator.driver import INJECTIONS
from benchmarks.measure import Options, RunningBridge
from benchmarks.peers import BRIDGE, PEERS

CALLS_OF_A_RUN, CALLS_OF_A_RESTART, CALLS_BESIDE_STRANGERS, CALLS_WATCHED = 50, 40, 100, 300
SECONDS_OF_A_RUN, SECONDS_OF_STRANGERS, SECONDS_OF_FLOODS = 5.0, 60.0, 10.0
CALLS_PER_RAMP_SECOND = 100
PAIRS_OF_FLOORS, PAIRS_OF_AGENTS = 5, 1

Value = TypeVar("Value")


def _peers(_: click.Context, __: click.Parameter, values: Sequence[str]) -> tuple[str | None, ...]:
    """Split names at their commas; the bridge is None."""
    names = dict.fromkeys(name for value in values for name in value.split(","))
    for name in names:
        if name not in (BRIDGE, *PEERS):
            raise click.BadParameter(f"unknown peer {name!r}; available: {', '.join((BRIDGE, *PEERS))}")
    return tuple(None if name == BRIDGE else name for name in names)


def _settings(_: click.Context, __: click.Parameter, values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    for value in values:
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", value):
            raise click.BadParameter(f"expected NAME=VALUE, got {value!r}")
    return tuple((name, text) for name, _, text in (value.partition("=") for value in values))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The kind of measurement: one run if no flag is set. ``peers`` are those of a sweep, None for the bridge."""

    is_comparison: bool
    is_agents: bool
    is_sweep: bool
    is_restart: bool
    is_strangers: bool
    is_floods: bool
    is_watched: bool
    pairs: int | None
    sweep_step: int
    sweep_most: int
    peers: Sequence[str | None]

    @property
    def pairs_wanted(self) -> int:
        return self.pairs or (PAIRS_OF_AGENTS if self.is_agents else PAIRS_OF_FLOORS)

    @property
    def peers_wanted(self) -> Sequence[str | None]:
        return self.peers or [None]


@dataclass(frozen=True, kw_only=True)
class Output:
    """Files to write beside the printed tables."""

    json_file: Path | None
    report: Path | None


CALLS = [
    click.Option(
        ["--calls"],
        type=click.IntRange(1, 10_000),
        help=f"At once.  [default: {CALLS_OF_A_RUN}, {CALLS_OF_A_RESTART} with --restart, "
        f"{CALLS_BESIDE_STRANGERS} with --strangers, {CALLS_WATCHED} with --watched]",
    )
]
RAMP = [
    click.Option(
        ["--ramp-s"],
        type=click.FloatRange(0),
        help=f"Time to place the calls in.  [default: calls / {CALLS_PER_RAMP_SECOND}]",
    ),
]
SECONDS = [
    click.Option(
        ["--seconds"],
        type=click.FloatRange(0.1),
        help="After all calls are up; with --strangers and --floods the time of each attack.  "
        f"[default: {SECONDS_OF_A_RUN:g}, {SECONDS_OF_STRANGERS:g} with --strangers, {SECONDS_OF_FLOODS:g} with "
        "--floods]",
    )
]
LOAD = [
    click.Option(["--tls"], is_flag=True, help="TLS on the agent's socket; the floor stays plain."),
    click.Option(
        ["--agent-port"],
        default=0,
        type=click.IntRange(0, 65534),
        help="Port of the stand-in agent's REST API; its media socket is on the next one.  [default: any]",
    ),
    click.Option(
        ["--frame-bytes"],
        default=160,
        show_default=True,
        type=click.IntRange(16, FRAME_BYTES_MOST),
        help="Audio per 20 ms.",
    ),
    click.Option(
        ["--interrupts-per-call-per-minute", "interrupts_per_minute"],
        default=15.0,
        show_default=True,
        type=click.FloatRange(0, 600),
        metavar="RATE",
    ),
    click.Option(
        ["--pin/--no-pin"],
        default=True,
        show_default=True,
        help="Bridge on the first core, load on the others.",
    ),
]
INJECT = [
    click.Option(
        ["--inject"],
        type=click.Choice(INJECTIONS),
        help="Make this fault in every 50th frame; the run must fail.",
    )
]
PEER = [
    click.Option(
        ["--peer", "peers"],
        multiple=True,
        callback=_peers,
        metavar="PEER[,PEER]",
        help=f"Load this instead of the bridge: {', '.join(PEERS)}. A sweep takes several, and bridge.",
    ),
]
AGENT = [
    click.Option(
        ["--agent"],
        default=DEFAULT,
        show_default=True,
        type=click.Choice(list(AGENTS)),
        help="The agent whose protocol is used.",
    ),
]
SET = [
    click.Option(
        ["--set", "bridge_settings"],
        multiple=True,
        callback=_settings,
        metavar="NAME=VALUE",
        help="A setting of the bridge that this command starts. May be repeated.",
    )
]
WORKERS = [
    click.Option(
        ["--workers"],
        type=click.IntRange(1),
        help="Start the bridge with this many worker processes, all on its core with --pin.  [default: 1]",
    )
]
RUNNING = [
    click.Option(
        ["--url"],
        help="Base URL of a bridge that already runs; its account: TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN.",
    ),
    click.Option(["--public-url"], help="The PUBLIC_URL of that bridge, if it is not --url."),
    click.Option(["--pid"], type=int, help="Process of that bridge, for CPU and memory."),
]
LIMITS = [
    click.Option(
        ["--max-delay-ms", "delay_p99_ms"],
        default=20.0,
        show_default=True,
        help="The added delay's p99, each way.",
    ),
    click.Option(
        ["--max-lateness-ms", "lateness_p99_ms"],
        default=5.0,
        show_default=True,
        help="The generator's p99; above it the run is invalid.",
    ),
    click.Option(
        ["--max-others-percent", "others_percent"],
        default=5.0,
        show_default=True,
        help="Of the bridge's core, used by others; above it the run is invalid.",
    ),
]
JSON = [
    click.Option(
        ["--json", "json_file"],
        type=click.Path(dir_okay=False, path_type=Path),
        help="Append one JSON line here.",
    )
]
REPORT = [
    click.Option(
        ["--report"],
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Add the results to DIR/report.json, redraw its pictures, and update the page DIR.md.",
    )
]
OUTPUT = [*JSON, *REPORT]
FLAGS = [
    click.Option(
        ["--compare", "is_comparison"], is_flag=True, help="The bridge against every peer that runs here."
    ),
    click.Option(
        ["--agents", "is_agents"],
        is_flag=True,
        help="Each agent in turn, and its cost relative to retell.",
    ),
    click.Option(["--sweep", "is_sweep"], is_flag=True, help="Find how many calls one core carries."),
    click.Option(
        ["--restart", "is_restart"],
        is_flag=True,
        help="Restart and kill bridges, and count what their callers notice.",
    ),
    click.Option(
        ["--strangers", "is_strangers"],
        is_flag=True,
        help="Attack the bridge beside calls, and count what is noticed.",
    ),
    click.Option(
        ["--floods", "is_floods"],
        is_flag=True,
        help="Let an agent or a caller flood the bridge beside calls.",
    ),
    click.Option(
        ["--watched", "is_watched"],
        is_flag=True,
        help="Runs without and with events, records and recordings.",
    ),
]
PAIRS = [
    click.Option(
        ["--pairs"],
        type=click.IntRange(1),
        help="Of floor and bridge in --compare, of retell and each agent in --agents, of runs in --watched.  "
        "[default: 5, 1 and 5]",
    )
]
STEPS = [
    click.Option(
        ["--sweep-step"], default=100, show_default=True, type=click.IntRange(1), help="Calls more each time."
    ),
    click.Option(
        ["--sweep-most"], default=2000, show_default=True, type=click.IntRange(1), help="Calls to stop at."
    ),
]
PLAN = [*FLAGS, *PAIRS, *STEPS, *PEER]
EVERY_RUN = [*CALLS, *SECONDS, *RAMP, *LOAD, *SET, *LIMITS, *JSON]

RUN = [*EVERY_RUN, *WORKERS, *PEER, *AGENT, *INJECT, *RUNNING, *REPORT]
COMPARE = [*EVERY_RUN, *PAIRS, *INJECT, *REPORT]
AGENTS_IN_TURN = [*EVERY_RUN, *PAIRS]
SWEEP = [*EVERY_RUN, *STEPS, *PEER, *AGENT, *INJECT, *REPORT]
RESTART = [*CALLS, *SET, *JSON]
STRANGERS = [*CALLS, *SECONDS, *SET, *JSON]
FLOODS = [*CALLS, *SECONDS, *RAMP, *SET, *LIMITS, *JSON]
WATCHED = [*EVERY_RUN, *PAIRS]
ALL = [*CALLS, *SECONDS, *RAMP, *LOAD, *SET, *WORKERS, *AGENT, *PLAN, *INJECT, *RUNNING, *LIMITS, *OUTPUT]


def gathered(
    make: Callable[..., Value], options: Sequence[click.Parameter], values: Mapping[str, Any]
) -> Value:
    """Make one value of those ``values`` that belong to ``options``."""
    return make(**{str(option.name): values[str(option.name)] for option in options})


def options_from(values: Mapping[str, Any]) -> Options:
    """
    Return the options of the first run.

    Raises:
        click.UsageError: The account of a running bridge is not in the environment.
    """
    url, public_url, ramp_s = values["url"], values["public_url"], values["ramp_s"]
    missing = [
        name for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN") if url and not os.environ.get(name)
    ]
    if missing:
        raise click.UsageError(f"--url needs {' and '.join(missing)} in the environment.")
    running = None
    if url:
        running = RunningBridge(
            url=url.rstrip("/"), public_url=(public_url or url).rstrip("/"), pid=values["pid"]
        )
    calls, seconds = CALLS_OF_A_RUN, SECONDS_OF_A_RUN
    if values["is_restart"]:
        calls = CALLS_OF_A_RESTART
    elif values["is_strangers"]:
        calls, seconds = CALLS_BESIDE_STRANGERS, SECONDS_OF_STRANGERS
    elif values["is_floods"]:
        seconds = SECONDS_OF_FLOODS
    elif values["is_watched"]:
        calls = CALLS_WATCHED
    calls = values["calls"] or calls
    return Options(
        peer=next(iter(values["peers"]), None),
        calls=calls,
        seconds=values["seconds"] or seconds,
        ramp_s=calls / CALLS_PER_RAMP_SECOND if ramp_s is None else ramp_s,
        running=running,
        **gathered(dict, [*LOAD, *SET, *WORKERS, *AGENT, *INJECT], values),
    )


def check_usage(options: Options, plan: Plan, output: Output) -> None:
    """
    Refuse combinations of options that have no meaning.

    Raises:
        click.UsageError: Two options exclude each other.
    """
    if plan.is_comparison and (plan.is_sweep or options.peer):
        raise click.UsageError("--compare does not go with --sweep or --peer.")
    if len(plan.peers) > 1 and not plan.is_sweep:
        raise click.UsageError("Only a sweep takes several peers.")
    if options.running and (plan.is_comparison or plan.is_sweep or options.peer or options.tls):
        raise click.UsageError(
            "--url is for one run of a bridge that already runs: no --compare, --sweep, --peer or --tls."
        )
    if options.bridge_settings and (options.running or not (plan.is_comparison or None in plan.peers_wanted)):
        raise click.UsageError(
            "--set is for a bridge that this command starts: no --url, and not peers alone."
        )
    is_series = plan.is_comparison or plan.is_sweep or plan.is_agents
    if options.workers and (is_series or options.peer or options.running or output.report):
        raise click.UsageError(
            "--workers is for one run of a bridge that this command starts: no --peer, --compare, --agents, --sweep, "
            "--url or --report."
        )
    has_agent = options.agent != DEFAULT
    if has_agent and (options.peer or plan.is_comparison or options.running or output.report):
        raise click.UsageError(
            "--agent is for a bridge that this command starts: no --peer, --compare, --url or --report."
        )
    is_plain = not (has_agent or options.peer or options.running or options.inject or output.report)
    if plan.is_agents and (plan.is_comparison or plan.is_sweep or not is_plain):
        raise click.UsageError(
            "--agents does not go with --agent, --peer, --compare, --sweep, --url, --report or --inject."
        )
    if plan.is_restart and (is_series or not is_plain or options.workers or options.tls):
        raise click.UsageError("--restart goes with --calls, --set and --json alone.")
    if plan.is_strangers and (plan.is_restart or is_series or not is_plain or options.workers or options.tls):
        raise click.UsageError("--strangers goes with --calls, --seconds, --set and --json alone.")
    if plan.is_floods and (
        plan.is_restart or plan.is_strangers or is_series or not is_plain or options.workers or options.tls
    ):
        raise click.UsageError(
            "--floods is for the bridge alone: no other kind of measurement, --agent, --workers or --tls."
        )
    if plan.is_watched and (
        plan.is_restart or plan.is_strangers or plan.is_floods or is_series or not is_plain or options.workers
    ):
        raise click.UsageError(
            "--watched is for the bridge alone: no other kind of measurement, --agent or --workers."
        )
    for name in AGENTS if plan.is_agents else [options.agent]:
        if options.frame_bytes > AGENTS[name].frame_bytes_most:
            raise click.UsageError(f"--frame-bytes is {AGENTS[name].frame_bytes_most} at most with {name}.")
        if options.frame_bytes < AGENTS[name].frame_bytes_least:
            raise click.UsageError(f"--frame-bytes is {AGENTS[name].frame_bytes_least} at least with {name}.")
