"""
How much does the bridge cost and delay under N calls, and does it lose anything?

    python -m benchmarks.load --calls 200 --seconds 10
    python -m benchmarks.load --calls 500 --seconds 10 --compare
    python -m benchmarks.load --seconds 10 --sweep

N callers and their agents, played by a C program on other cores, talk for S seconds through a bridge that
gets its calls by the real, signed webhook. Each direction of each call has one numbered frame every 20 ms,
due by the clock and not by the answers; each frame is compared byte for byte. The added delay is the time from
sending to receiving. Exit code: 0 all arrived in time, 1 anything did not, 2 usage, 3 void (the generator was
late or saturated, or the machine was not ours).

--peer loads another bridge that does the same data path, --compare all that this machine can run: floor and
bridge in alternation, so that what counts is a ratio between neighbours and not the mood of the machine. --sweep
adds calls until something is lost or late. --agent speaks another agent's protocol than retell's, --agents each of
them in turn, between two runs with retell.

Last answer (2026-11-22, 2 shared cores of a virtual machine, 200 calls for 10 s): nothing lost, added delay p50
0.09 ms and p99 1.5 ms, 24 us of CPU per frame, 27 KB per call, interrupt to clear p99 1.2 ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from benchmarks.agents import AGENTS, DEFAULT, FAULTS_OF_CONTENT, FRAME_BYTES_MOST, name_of_run
from benchmarks.build import BuildError
from benchmarks.compare import Comparison, Line, compare, in_short, number
from benchmarks.compare import table as comparison_table
from benchmarks.compare_agents import OTHERS, compare_agents
from benchmarks.compare_agents import table as agents_table
from benchmarks.generator.driver import INJECTIONS, GeneratorError
from benchmarks.measure import Options, build, choose_cores, run
from benchmarks.page import Findings, write_report
from benchmarks.peers import PEERS
from benchmarks.progress import Progress
from benchmarks.sweep import Sweep, sweep
from benchmarks.verdict import Limits, Status, judge, table, to_json
from bridge.standins.process import BridgeError

CALLS_PER_RAMP_SECOND = 100
PAIRS = 5


@dataclass(frozen=True, kw_only=True)
class Command:
    """What the command line asks for, beside the options of a single run."""

    options: Options
    limits: Limits
    json_file: Path | None
    report: Path | None
    pairs: int
    sweep_step: int
    sweep_most: int

    async def measure(self, options: Options) -> tuple[str, Line]:
        """Make one run; returns its table and its JSON line."""
        measured = await run(options, self.limits, Progress())
        verdict = judge(measured, self.limits)
        line = to_json(measured, verdict)
        if self.json_file:
            with self.json_file.open("a") as output:
                output.write(json.dumps(line) + "\n")
        return table(measured), line

    def ramped(self, **changes: Any) -> Options:
        """Return the options with other calls or another peer, and a ramp to match."""
        options = replace(self.options, **changes)
        return replace(options, ramp_s=options.calls * self.options.ramp_s / self.options.calls)


def run_once(command: Command) -> int:
    text, line = asyncio.run(command.measure(command.options))
    click.echo(text)
    click.echo(f"{_verdict(line)}")
    if command.report:
        write_report(command.report, Findings(runs=[line]))
    return int(Status[line["verdict"].upper()].value)


def run_comparison(command: Command) -> int:
    peers, left_out = [], {}
    for name in PEERS:
        try:
            build(command.ramped(peer=name))
        except BuildError as error:
            left_out[name] = error.in_one_line
            click.echo(f"{name} is left out: {error.in_one_line}", err=True)
        else:
            peers.append(name)
    if "floor" in left_out:
        raise BuildError(left_out["floor"])
    lines: list[Line] = []

    async def measure(name: str) -> Line:
        _, line = await command.measure(command.ramped(peer=None if name == "bridge" else name))
        lines.append(line)
        click.echo(f"{len(lines):>3}  {_in_one_line(line)}")
        return line

    async def all_rounds() -> Comparison:
        others = [name for name in peers if name != "floor"]
        return await compare(others, command.pairs, measure, click.echo)

    comparison = asyncio.run(all_rounds())
    comparison.left_out.update(left_out)
    over = ", TLS to the agent (the floor without)" if command.options.tls else ""
    click.echo(f"\n{command.options.calls} calls, {command.options.seconds:g} s{over}")
    click.echo(comparison_table(comparison))
    if command.report:
        write_report(command.report, Findings(runs=lines, comparison=comparison))
    if any(line["verdict"] == "failed" for line in comparison.runs("bridge")):
        return int(Status.FAILED.value)
    return int((Status.OK if comparison.ratio("bridge") else Status.VOID).value)


def run_agents(command: Command) -> int:
    lines: list[Line] = []

    async def measure(agent: str) -> Line:
        _, line = await command.measure(command.ramped(agent=agent))
        lines.append(line)
        click.echo(f"{len(lines):>3}  {_in_one_line(line, max(map(len, map(name_of_run, AGENTS))))}")
        return line

    comparison = asyncio.run(compare_agents(OTHERS, command.pairs, measure, click.echo))
    over = ", TLS to the agent" if command.options.tls else ""
    click.echo(f"\n{command.options.calls} calls, {command.options.seconds:g} s{over}")
    click.echo(agents_table(comparison))
    if comparison.left_out or any(line["verdict"] == "failed" for line in lines):
        return int(Status.FAILED.value)
    are_all_known = all(comparison.ratio(name) for name in comparison.names() if name != "floor")
    return int((Status.OK if are_all_known else Status.VOID).value)


def run_sweep(command: Command) -> int:
    async def measure(calls: int) -> Line:
        _, line = await command.measure(command.ramped(calls=calls))
        click.echo(f"{calls:>5} calls  {_in_one_line(line)}")
        return line

    async def all_steps() -> Sweep:
        step = command.sweep_step
        return await sweep(step, step, command.sweep_most, measure)

    found = asyncio.run(all_steps())
    click.echo(f"{command.options.name}: {found}")
    if command.report:
        write_report(command.report, Findings(runs=found.steps, sweep=found))
    return int((Status.FAILED if found.carried is None else Status.OK).value)


def _in_one_line(line: Line, width: int = 8) -> str:
    lost = line["to_agent_lost"] + line["to_caller_lost"]
    return (
        f"{line['name']:<{width}} {number(line['bridge_cpu_us_per_frame'], 1, '.2f'):>6} us CPU per frame"
        f" {number(line['bridge_load_percent'], 1, '.0f'):>4} %, p99 delay"
        f" {number(line['to_agent_delay_p99_us'], 1e3, '.1f'):>6} and"
        f" {number(line['to_caller_delay_p99_us'], 1e3, '.1f'):>6} ms, lost {lost}, generator"
        f" {number(line['generator_load_percent'], 1, '.0f'):>3} %, {in_short(line)}"
    )


def _verdict(line: Line) -> str:
    reasons = "; ".join(line["reasons"])
    return "OK" if line["verdict"] == "ok" else f"{in_short(line).partition(':')[0]}: {reasons}"


@click.command(help=(__doc__ or "").split("Last answer")[0])
@click.option("--calls", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option(
    "--seconds", default=5.0, show_default=True, type=click.FloatRange(0.1), help="After all calls are up."
)
@click.option("--peer", type=click.Choice(list(PEERS)), help="Load this instead of the bridge.")
@click.option(
    "--compare", "is_comparison", is_flag=True, help="The bridge against every peer that runs here."
)
@click.option(
    "--pairs",
    type=click.IntRange(1),
    help="Of floor and bridge in --compare, of retell and each agent in --agents.  [default: 5, and 1]",
)
@click.option(
    "--agent",
    default=DEFAULT,
    show_default=True,
    type=click.Choice(list(AGENTS)),
    help="Whose protocol the agents speak.",
)
@click.option(
    "--agents", "is_agents", is_flag=True, help="Each agent in turn, and what it costs relative to retell."
)
@click.option("--sweep", "is_sweep", is_flag=True, help="Find how many calls one core carries.")
@click.option(
    "--sweep-step", default=100, show_default=True, type=click.IntRange(1), help="Calls more each time."
)
@click.option(
    "--sweep-most", default=2000, show_default=True, type=click.IntRange(1), help="Calls to stop at."
)
@click.option("--tls", is_flag=True, help="TLS on the agent's socket; the floor stays plain.")
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Add what was found to DIR/report.json, draw its pictures anew, and bring a page DIR.md up to date.",
)
@click.option(
    "--url",
    help="Base URL of a bridge that already runs; its account: TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN.",
)
@click.option("--public-url", help="The PUBLIC_URL of that bridge, if it is not --url.")
@click.option("--pid", type=int, help="Process of that bridge, for CPU and memory.")
@click.option(
    "--agent-port",
    default=0,
    type=click.IntRange(0, 65534),
    help="Port of the stand-in agent's REST API; its media socket is on the next one.  [default: any]",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Append one JSON line here."
)
@click.option(
    "--inject", type=click.Choice(INJECTIONS), help="Make this fault in every 50th frame; the run must fail."
)
@click.option(
    "--frame-bytes",
    default=160,
    show_default=True,
    type=click.IntRange(16, FRAME_BYTES_MOST),
    help="Audio per 20 ms.",
)
@click.option(
    "--interrupts-per-call-per-minute",
    default=15.0,
    show_default=True,
    type=click.FloatRange(0, 600),
    metavar="RATE",
)
@click.option(
    "--ramp-s",
    type=click.FloatRange(0),
    help=f"Time to place the calls in.  [default: calls / {CALLS_PER_RAMP_SECOND}]",
)
@click.option("--max-delay-ms", default=20.0, show_default=True, help="The added delay's p99, each way.")
@click.option(
    "--max-lateness-ms", default=5.0, show_default=True, help="The generator's p99; above it the run is void."
)
@click.option(
    "--max-others-percent",
    default=5.0,
    show_default=True,
    help="Of the bridge's core, used by others; above it the run is void.",
)
@click.option(
    "--pin/--no-pin", default=True, show_default=True, help="Bridge on the first core, load on the others."
)
def main(
    calls: int,
    seconds: float,
    peer: str | None,
    is_comparison: bool,
    pairs: int | None,
    agent: str,
    is_agents: bool,
    is_sweep: bool,
    sweep_step: int,
    sweep_most: int,
    tls: bool,
    report: Path | None,
    url: str | None,
    public_url: str | None,
    pid: int | None,
    agent_port: int,
    json_file: Path | None,
    inject: str | None,
    frame_bytes: int,
    interrupts_per_call_per_minute: float,
    ramp_s: float | None,
    max_delay_ms: float,
    max_lateness_ms: float,
    max_others_percent: float,
    pin: bool,
) -> None:
    missing = [
        name for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN") if url and not os.environ.get(name)
    ]
    if missing:
        raise click.UsageError(f"--url needs {' and '.join(missing)} in the environment.")
    if is_comparison and (is_sweep or peer):
        raise click.UsageError("--compare does not go with --sweep or --peer.")
    if url and (is_comparison or is_sweep or peer or tls):
        raise click.UsageError(
            "--url is one run of a bridge that is there: no --compare, --sweep, --peer or --tls."
        )
    if agent != DEFAULT and (peer or is_comparison or url or report):
        raise click.UsageError(
            "--agent is for the bridge that is started here: no --peer, --compare, --url or --report."
        )
    if is_agents and (agent != DEFAULT or peer or is_comparison or is_sweep or url or report or inject):
        raise click.UsageError(
            "--agents does not go with --agent, --peer, --compare, --sweep, --url, --report or --inject."
        )
    if AGENTS[agent].is_resampled and inject in FAULTS_OF_CONTENT:
        raise click.UsageError(
            f"--inject {inject} cannot be seen with {agent}: resampled audio is told by its order alone."
        )
    for name in AGENTS if is_agents else [agent]:
        if frame_bytes > AGENTS[name].frame_bytes_most:
            raise click.UsageError(f"--frame-bytes is {AGENTS[name].frame_bytes_most} at most with {name}.")
    options = Options(
        calls=calls,
        seconds=seconds,
        peer=peer,
        agent=agent,
        tls=tls,
        url=url.rstrip("/") if url else None,
        public_url=public_url.rstrip("/") if public_url else None,
        pid=pid,
        agent_port=agent_port,
        inject=inject,
        frame_bytes=frame_bytes,
        interrupts_per_minute=interrupts_per_call_per_minute,
        ramp_s=calls / CALLS_PER_RAMP_SECOND if ramp_s is None else ramp_s,
        pin=pin,
    )
    command = Command(
        options=options,
        limits=Limits(
            delay_p99_ms=max_delay_ms, lateness_p99_ms=max_lateness_ms, others_percent=max_others_percent
        ),
        json_file=json_file,
        report=report,
        pairs=pairs or (1 if is_agents else PAIRS),
        sweep_step=sweep_step,
        sweep_most=sweep_most,
    )
    cores = choose_cores(pin and url is None)
    if cores:
        bridge_core, load_cores = (", ".join(map(str, sorted(which))) for which in cores)
        click.echo(f"bridge on core {bridge_core}, load on {load_cores}", err=True)
    try:
        sys.exit(
            (
                run_agents
                if is_agents
                else run_comparison
                if is_comparison
                else run_sweep
                if is_sweep
                else run_once
            )(command)
        )
    except (BridgeError, BuildError, GeneratorError) as error:
        click.echo(f"FAILED: {error}")
        sys.exit(Status.FAILED.value)


if __name__ == "__main__":
    main()
