"""The load with every agent's protocol, against the real bridge: nothing lost, and a fault is noticed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import load
from benchmarks.agents import AGENTS, PROTOCOLS, name_of_run
from benchmarks.compare import Line
from benchmarks.compare_agents import OTHERS, compare_agents, table
from benchmarks.generator.driver import build_generator
from benchmarks.measure import Options, run
from benchmarks.progress import Progress
from benchmarks.verdict import Limits, Status, judge, to_json
from benchmarks.verdict import table as table_of_run
from bridge.call.heard import MARK_EVERY_BYTES

AT_ONCE = 8
# Beside other tests all is late; here only counters are judged.
LIMITS = Limits(delay_p99_ms=5000, lateness_p99_ms=10_000, generator_load_percent=1000, others_percent=1000)
FAULTS = [
    ("json", "drop", "lost"),
    ("json", "corrupt", "corrupt"),
    ("binary", "drop", "lost"),
    ("binary", "corrupt", "corrupt"),
    ("elevenlabs-pcm", "drop", "lost"),
    ("elevenlabs-pcm", "dup", "duplicated"),
    ("elevenlabs-pcm", "swap", "reordered"),
    ("elevenlabs-pcm", "corrupt", "corrupt"),
]


def options(agent: str, inject: str | None = None) -> Options:
    return Options(
        calls=2 if inject else 4,
        seconds=0.7,
        peer=None,
        agent=agent,
        tls=False,
        agent_port=0,
        inject=inject,
        frame_bytes=160,
        interrupts_per_minute=0 if inject else 120,
        ramp_s=0,
        pin=False,
    )


@pytest.fixture(scope="module")
def lines() -> dict[tuple[str, str | None], Line]:
    """Return all runs, made beside each other: each is little but waiting."""
    build_generator()
    wanted = [(agent, None) for agent in AGENTS] + [(agent, fault) for agent, fault, _ in FAULTS]

    async def run_all() -> list[Line]:
        slots = asyncio.Semaphore(AT_ONCE)

        async def run_one(agent: str, fault: str | None) -> Line:
            async with slots:
                measured = await run(options(agent, fault), LIMITS, Progress())
            shown = table_of_run(measured)
            return {**to_json(measured, judge(measured, LIMITS)), "shown": shown}

        return await asyncio.gather(*(run_one(*one) for one in wanted))

    return dict(zip(wanted, asyncio.run(run_all()), strict=True))


@pytest.mark.parametrize("agent", list(AGENTS))
def test_every_frame_of_every_agent_arrives(lines: dict[tuple[str, str | None], Line], agent: str) -> None:
    line = lines[agent, None]
    assert line["verdict"] == "ok", line["shown"]
    assert line["name"] == name_of_run(agent)
    assert line["calls_up"] == 4
    assert line["to_agent_sent"] == line["to_agent_received"] > 4 * 30
    assert line["to_caller_sent"] == line["to_caller_received"] + line["to_caller_cleared"] > 4 * 30
    assert line["interrupts"] >= 4
    assert line["bridge_cpu_us_per_frame"] > 0


@pytest.mark.parametrize("agent", list(AGENTS))
def test_only_openai_has_marks(lines: dict[tuple[str, str | None], Line], agent: str) -> None:
    line = lines[agent, None]
    assert (line["marks"] > 0) == (agent == "openai")
    assert ("marks" in line["shown"]) == (agent == "openai")


@pytest.mark.parametrize(("agent", "fault", "counter"), FAULTS)
@pytest.mark.parametrize("way", ["to_agent", "to_caller"])
def test_injected_fault_shows_in_its_counter(
    lines: dict[tuple[str, str | None], Line], agent: str, fault: str, counter: str, way: str
) -> None:
    line = lines[agent, fault]
    assert line["verdict"] == "failed", line["shown"]
    found = {key: line[f"{way}_{key}"] for key in ("lost", "duplicated", "reordered", "corrupt")}
    assert {key for key, count in found.items() if count} == {counter}


def test_every_protocol_is_some_agents() -> None:
    assert {played.protocol for played in AGENTS.values()} == set(PROTOCOLS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--agent", "openai", "--peer", "floor"], "--peer"),
        (["--agent", "openai", "--compare"], "--compare"),
        (["--agent", "openai", "--report", "x"], "--report"),
        (["--agents", "--sweep"], "--sweep"),
        (["--agents", "--agent", "json"], "--agent"),
        (["--agents", "--report", "x"], "--report"),
        (["--agents", "--inject", "drop"], "--inject"),
        (["--agent", "elevenlabs-pcm", "--frame-bytes", "8001"], "8000 at most"),
        (["--agent", "elevenlabs-pcm", "--frame-bytes", "79"], "80 at least"),
        (["--agents", "--frame-bytes", "1601"], "1600 at most with openai"),
        (["--agent", "nobody"], "Invalid value"),
    ],
)
def test_what_does_not_go_together_is_wrong_usage(given: list[str], message: str) -> None:
    result = CliRunner().invoke(load.main, given)
    assert result.exit_code == 2
    assert message in result.output


def test_agent_of_a_running_bridge_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
        monkeypatch.setenv(name, "x")
    result = CliRunner().invoke(load.main, ["--agent", "json", "--url", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert "--url" in result.output


class Machine:
    """Makes up runs: what each agent's cost, the last of its costs for ever."""

    def __init__(self, **costs: list[float]) -> None:
        self.costs = {name.replace("_", "-"): list(figures) for name, figures in costs.items()}
        self.order: list[str] = []

    async def measure(self, agent: str) -> Line:
        self.order.append(agent)
        costs = self.costs.get(agent, [10.0])
        cost = costs.pop(0) if len(costs) > 1 else costs[0]
        return made_up(agent, cost)


def made_up(agent: str, cost: float, verdict: str = "ok") -> Line:
    line: dict[str, Any] = {
        "name": name_of_run(agent),
        "verdict": verdict,
        "reasons": [] if verdict == "ok" else ["because"],
        "bridge_cpu_us_per_frame": cost,
        "bridge_load_percent": 50.0,
        "generator_load_percent": 50.0,
        "to_agent_delay_p99_us": 1000.0,
        "to_caller_delay_p99_us": 2000.0,
        "to_agent_lost": 0,
        "to_caller_lost": 0,
        "marks": 7,
    }
    return line


async def test_each_agent_is_between_two_runs_of_retell() -> None:
    machine = Machine(retell=[10.0, 10.4], json=[10.2])
    comparison = await compare_agents(["json", "binary"], 1, machine.measure, print)
    assert machine.order == ["retell", "json", "retell", "binary", "retell"]
    ratio = comparison.ratio("bridge, json")
    assert ratio is not None
    assert ratio.median == pytest.approx(1.0)


async def test_round_between_retells_that_differ_is_made_again() -> None:
    machine = Machine(retell=[10.0, 12.0, 12.0])
    lines: list[str] = []
    comparison = await compare_agents(["json"], 1, machine.measure, lines.append)
    assert machine.order == ["retell", "json", "retell", "json", "retell"]
    assert lines == ["round 1 is invalid: its retell runs differ by 20% > 10%"]
    assert comparison.ratio("bridge, json") is not None


async def test_table_marks_what_costs_more_than_is_allowed() -> None:
    machine = Machine(json=[12.0], binary=[10.5])
    comparison = await compare_agents(["json", "binary", "elevenlabs-pcm"], 1, machine.measure, print)
    text = table(comparison)
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert rows["retell"].split()[1:3] == ["10.00", "1"]
    assert "1.20" in rows["json"]
    assert "1.10!" in rows["json"]
    assert "1.10 " in rows["binary"]


def test_all_agents_in_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    async def measure(command: load.Command, options: Options) -> tuple[str, Line]:
        assert options.calls == 30
        return "", made_up(options.agent, 10.0)

    monkeypatch.setattr(load.Command, "measure", measure)
    result = CliRunner().invoke(load.main, ["--agents", "--calls", "30"])
    assert result.exit_code == Status.OK.value, result.output
    assert len([line for line in result.output.splitlines() if "verdict" in line]) == 1
    assert all(f"\n{agent} " in result.output for agent in ("retell", *OTHERS))


def test_longest_frame_for_openai_is_the_bridges_distance_between_marks() -> None:
    assert AGENTS["openai"].frame_bytes_most == MARK_EVERY_BYTES
