"""
Measures the cost and delay of the bridge under N calls, and checks that it loses nothing.

    python -m benchmarks.load --calls 200 --seconds 10
    python -m benchmarks.load compare --calls 500 --seconds 10
    python -m benchmarks.load sweep --seconds 10
    python -m benchmarks.load restart
    python -m benchmarks.load strangers
    python -m benchmarks.load floods
    python -m benchmarks.load watched

A C program on other cores plays N callers and their agents. They talk for S seconds through a bridge that gets its
calls by the real, signed webhook. Each direction of each call has one numbered frame every 20 ms, due by the clock
and not by the answers; each frame is compared byte for byte. The added delay is the time from sending to receiving.
Exit code: 0 everything arrived in time, 1 something did not, 2 usage, 3 invalid (the generator was late or
saturated, or other processes used the bridge's core).

--peer loads another bridge with the same data path. `compare` runs every peer that this machine can run, with the
floors beside them, because ratios of neighbouring runs do not depend on the machine's speed. `sweep` adds calls
until something is lost or late; with several peers it loads one after the other. --agent uses another agent's
protocol than retell's; `agents` uses each of them in turn, between two runs with retell. --set changes a setting of
the bridge. Without a subcommand, --compare, --sweep and --agents do the same.

`restart` (or --restart) restarts and kills bridges, behind HAProxy where there are two, and counts what their callers
notice. Its calls are made in Python, end after 8 s, and follow Twilio's redirects.

`strangers` (or --strangers) opens connections by the hundred a second beside the calls, and takes the log away. No
frame may be lost, and each signed webhook, upgrade and health check must be answered.

`floods` (or --floods) lets the agent or the caller of one further call send tiny audio, empty messages, interrupts or
pings without end. Nothing of the others may be lost, and their delays have the limit of any run.

`watched` (or --watched) makes pairs of runs, without and with events at a slow receiver, records and recordings, and
fails if these cost more than the runs differ among themselves.

Last answer (2026-11-22, 2 shared cores of a virtual machine, 200 calls for 10 s): nothing lost, added delay p50
0.09 ms and p99 1.5 ms, 24 us of CPU per frame, 27 KB per call, interrupt to clear p99 1.2 ms.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from benchmarks import command_line, floods, strangers, watched
from benchmarks.agents import AGENTS, name_of_run
from benchmarks.build import BuildError
from benchmarks.command_line import Output, Plan, check_usage, options_from
from benchmarks.compare import IN_EVERY_ROUND, Comparison, compare, lost_of, number
from benchmarks.compare import table as comparison_table
from benchmarks.compare_agents import OTHERS, compare_agents
from benchmarks.compare_agents import table as agents_table
from benchmarks.floods_rows import table as floods_table
from benchmarks.floods_rows import to_json as flood_to_json
from benchmarks.generator.driver import GeneratorError
from benchmarks.json_lines import append_line
from benchmarks.measure import Options, build, choose_cores, run
from benchmarks.page import Findings, write_report
from benchmarks.peers import PEERS
from benchmarks.progress import Progress
from benchmarks.restart import SCENARIOS, RestartOptions, line_of, run_scenario
from benchmarks.restart_rows import Row
from benchmarks.restart_rows import table as restart_table
from benchmarks.strangers_rows import table as strangers_table
from benchmarks.sweep import Sweep, sweep
from benchmarks.verdict import Limits, Line, Status, in_short, judge, table, to_json, worst
from bridge.standins.process import BridgeError


@dataclass(frozen=True, kw_only=True)
class Command:
    """Everything that the command line asks for; ``options`` are those of its first run."""

    options: Options
    plan: Plan
    limits: Limits
    output: Output

    async def measure(self, options: Options) -> tuple[str, Line]:
        """Make one run; returns its table with the verdict, and its JSON line."""
        measured = await run(options, self.limits, Progress())
        verdict = judge(measured, self.limits)
        line = to_json(measured, verdict)
        append_line(self.output.json_file, line)
        return f"{table(measured)}\n{verdict}", line

    def ramped(self, **changes: Any) -> Options:
        """Return the options with other calls or another peer, and a ramp to match."""
        options = replace(self.options, **changes)
        return replace(options, ramp_s=options.calls * self.options.ramp_s / self.options.calls)


def run_once(command: Command) -> int:
    text, line = asyncio.run(command.measure(command.options))
    click.echo(text)
    if command.output.report:
        write_report(command.output.report, Findings(runs=[line]))
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
        others = [name for name in peers if name not in ("floor", *IN_EVERY_ROUND)]
        return await compare(others, command.plan.pairs_wanted, measure, click.echo)

    comparison = asyncio.run(all_rounds())
    comparison.left_out.update(left_out)
    over = ", TLS to the agent (the floor without)" if command.options.tls else ""
    click.echo(f"\n{command.options.calls} calls, {command.options.seconds:g} s{over}")
    click.echo(comparison_table(comparison))
    if command.output.report:
        write_report(command.output.report, Findings(runs=lines, comparison=comparison))
    if any(line["verdict"] == "failed" for line in comparison.runs("bridge")):
        return int(Status.FAILED.value)
    return int((Status.OK if comparison.ratio("bridge") else Status.INVALID).value)


def run_agents(command: Command) -> int:
    lines: list[Line] = []

    async def measure(agent: str) -> Line:
        _, line = await command.measure(command.ramped(agent=agent))
        lines.append(line)
        click.echo(f"{len(lines):>3}  {_in_one_line(line, max(map(len, map(name_of_run, AGENTS))))}")
        return line

    comparison = asyncio.run(compare_agents(OTHERS, command.plan.pairs_wanted, measure, click.echo))
    over = ", TLS to the agent" if command.options.tls else ""
    click.echo(f"\n{command.options.calls} calls, {command.options.seconds:g} s{over}")
    click.echo(agents_table(comparison))
    if comparison.left_out or any(line["verdict"] == "failed" for line in lines):
        return int(Status.FAILED.value)
    are_all_known = all(comparison.ratio(name) for name in comparison.names()[1:])
    return int((Status.OK if are_all_known else Status.INVALID).value)


def run_sweep(command: Command) -> int:
    async def measure(peer: str | None, calls: int) -> Line:
        _, line = await command.measure(command.ramped(peer=peer, calls=calls))
        click.echo(f"{calls:>5} calls  {_in_one_line(line)}")
        return line

    async def sweep_all() -> list[Sweep]:
        step, most = command.plan.sweep_step, command.plan.sweep_most
        return [await sweep(step, step, most, partial(measure, peer)) for peer in command.plan.peers_wanted]

    for peer in command.plan.peers_wanted:
        build(command.ramped(peer=peer))
    sweeps = asyncio.run(sweep_all())
    for found in sweeps:
        click.echo(f"{found.steps[0]['name']}: {found}")
    if command.output.report:
        runs = [line for found in sweeps for line in found.steps]
        write_report(command.output.report, Findings(runs=runs, sweeps=sweeps))
    return int((Status.FAILED if any(found.carried is None for found in sweeps) else Status.OK).value)


def run_restart(command: Command) -> int:
    options = RestartOptions(calls=command.options.calls, bridge_settings=command.options.bridge_settings)
    rows: list[Row] = []
    for scenario in SCENARIOS:
        row = asyncio.run(run_scenario(scenario, options, Progress()))
        append_line(command.output.json_file, line_of(row, options))
        rows.append(row)
    click.echo(f"{options.calls} calls at once, of {options.call_s:g} s where calls keep coming")
    click.echo(restart_table(rows))
    return int(worst(row.verdict for row in rows).value)


def run_strangers(command: Command) -> int:
    given = command.options
    options = strangers.StrangersOptions(
        calls=given.calls, seconds=given.seconds, bridge_settings=given.bridge_settings
    )
    rows = []
    for scenario in strangers.SCENARIOS:
        row = asyncio.run(strangers.run_scenario(scenario, options, Progress()))
        append_line(command.output.json_file, strangers.line_of(row, options))
        rows.append(row)
    click.echo(f"{options.calls} calls, {options.seconds:g} s each; times in ms, requests as answered/sent")
    click.echo(strangers_table(rows))
    return int(worst(row.verdict for row in rows).value)


def run_floods(command: Command) -> int:
    rows = []
    for scenario in floods.SCENARIOS:
        row = asyncio.run(floods.run_scenario(scenario, command.options, command.limits, Progress()))
        append_line(command.output.json_file, flood_to_json(row))
        rows.append(row)
    click.echo(f"{command.options.calls} calls, {command.options.seconds:g} s each; delays in ms")
    click.echo(floods_table(rows))
    return int(worst(row.verdict for row in rows).value)


def run_watched(command: Command) -> int:
    async def measure(settings: Sequence[tuple[str, str]]) -> Line:
        given = [*command.options.bridge_settings, *settings]
        _, line = await command.measure(replace(command.options, bridge_settings=given))
        click.echo(f"{'watched' if settings else 'without':<8}{_in_one_line(line)}")
        return line

    pairs = asyncio.run(watched.measure_pairs(command.plan.pairs_wanted, measure))
    verdict = watched.verdict(pairs)
    click.echo(f"\n{command.options.calls} calls, {command.options.seconds:g} s")
    click.echo(f"{watched.table(pairs)}\n{verdict}")
    return int(verdict.status.value)


def _in_one_line(line: Line, width: int = max(map(len, PEERS))) -> str:
    return (
        f"{line['name']:<{width}} {number(line['bridge_cpu_us_per_frame'], 1, '.2f'):>6} us CPU per frame"
        f" {number(line['bridge_load_percent'], 1, '.0f'):>4} %, p99 delay"
        f" {number(line['to_agent_delay_p99_us'], 1e3, '.1f'):>6} and"
        f" {number(line['to_caller_delay_p99_us'], 1e3, '.1f'):>6} ms, lost {lost_of(line)}, generator"
        f" {number(line['generator_load_percent'], 1, '.0f'):>3} %, {in_short(line)}"
    )


@click.group(
    invoke_without_command=True, help=(__doc__ or "").split("Last answer")[0], params=command_line.ALL
)
@click.pass_context
def main(context: click.Context, /, **values: Any) -> None:
    if context.invoked_subcommand:
        if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in values):
            raise click.UsageError("Options go after the subcommand.")
        return
    command = Command(
        options=options_from(values),
        plan=command_line.gathered(Plan, command_line.PLAN, values),
        limits=command_line.gathered(Limits, command_line.LIMITS, values),
        output=command_line.gathered(Output, command_line.OUTPUT, values),
    )
    check_usage(command.options, command.plan, command.output)
    cores = None if command.plan.is_restart else choose_cores(command.options)
    if cores:
        bridge_core, load_cores = (", ".join(map(str, sorted(which))) for which in cores)
        click.echo(f"bridge on core {bridge_core}, load on {load_cores}", err=True)
    try:
        sys.exit(_execute(command))
    except (BridgeError, BuildError, GeneratorError) as error:
        click.echo(f"FAILED: {error}")
        sys.exit(Status.FAILED.value)


def _execute(command: Command) -> int:
    if command.plan.is_agents:
        return run_agents(command)
    if command.plan.is_comparison:
        return run_comparison(command)
    if command.plan.is_restart:
        return run_restart(command)
    if command.plan.is_strangers:
        return run_strangers(command)
    if command.plan.is_floods:
        return run_floods(command)
    if command.plan.is_watched:
        return run_watched(command)
    return run_sweep(command) if command.plan.is_sweep else run_once(command)


def _add_subcommand(name: str, text: str, options: Sequence[click.Parameter], **flags: bool) -> None:
    """Add a subcommand: the group's own command line with ``flags`` set, and only those options that go with them."""

    @main.command(name, help=text, params=list(options))
    @click.pass_context
    def start(context: click.Context, /, **values: Any) -> None:
        context.invoke(main, **values, **flags)


_add_subcommand("run", "Make one run (the default).", command_line.RUN)
_add_subcommand(
    "compare",
    "Compare the bridge with every peer that runs here.",
    command_line.COMPARE,
    is_comparison=True,
)
_add_subcommand(
    "agents", "Compare the cost of each agent with retell's.", command_line.AGENTS_IN_TURN, is_agents=True
)
_add_subcommand("sweep", "Find how many calls one core carries.", command_line.SWEEP, is_sweep=True)
_add_subcommand(
    "restart",
    "Restart and kill bridges, and count what their callers notice.",
    command_line.RESTART,
    is_restart=True,
)
_add_subcommand(
    "strangers",
    "Attack the bridge beside calls, with a log that cannot be written too, and count what is noticed.",
    command_line.STRANGERS,
    is_strangers=True,
)
_add_subcommand(
    "floods",
    "Let one call flood the bridge beside others, and measure what these notice.",
    command_line.FLOODS,
    is_floods=True,
)
_add_subcommand(
    "watched",
    "Make pairs of runs, without and with all that shows calls to an operator, and compare their cost.",
    command_line.WATCHED,
    is_watched=True,
)


if __name__ == "__main__":
    main()
