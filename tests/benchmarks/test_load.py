"""The load benchmark as a user starts it, against the real bridge: it passes, and fails for each injected fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from benchmarks import load
from benchmarks.generator.driver import INJECTIONS, build_generator
from benchmarks.measure import RunningBridge

ROOT = Path(__file__).parents[2]
DEADLINE_S = 90
# Runs beside each other and beside other tests are late; here only counters are judged, and a delay of 300 ms.
LIMITS = [
    *("--max-delay-ms", "250"),
    *("--max-lateness-ms", "10000"),
    *("--max-others-percent", "100"),
    "--no-pin",
]


class Run(NamedTuple):
    """The end of one run of the command."""

    exit_code: int
    output: str
    line: dict[str, Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Run the command without a fault and with each, side by side."""
    build_generator()
    directory = tmp_path_factory.mktemp("load")
    started = {}
    for name in ("none", *INJECTIONS):
        size = ["--calls", "5", "--seconds", "2"] if name == "none" else ["--calls", "2", "--seconds", "1.5"]
        fault = [] if name == "none" else ["--inject", name]
        report = ["--json", str(directory / f"{name}.json")]
        started[name] = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load", *size, *fault, *report, *LIMITS],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    ended = {}
    for name, process in started.items():
        output, errors = process.communicate(timeout=DEADLINE_S)
        path = directory / f"{name}.json"
        line = json.loads(path.read_text()) if path.exists() else {}
        ended[name] = Run(process.returncode, output + errors, line)
    return ended


def test_run_without_a_fault_passes(runs: dict[str, Run]) -> None:
    run = runs["none"]
    assert run.exit_code == 0, run.output
    assert "\nOK\n" in run.output
    assert run.line["calls_up"] == 5
    assert run.line["to_agent_sent"] == run.line["to_agent_received"] > 5 * 90
    assert run.line["to_caller_sent"] == run.line["to_caller_received"] + run.line["to_caller_cleared"]
    assert run.line["bridge_cpu_us_per_frame"] > 0
    assert run.line["interrupts"] > 0


@pytest.mark.parametrize(
    ("fault", "counter"),
    [("drop", "lost"), ("dup", "duplicated"), ("swap", "reordered"), ("corrupt", "corrupt")],
)
@pytest.mark.parametrize("way", ["to_agent", "to_caller"])
def test_injected_fault_fails_the_run_by_its_counter(
    runs: dict[str, Run], fault: str, counter: str, way: str
) -> None:
    run = runs[fault]
    assert run.exit_code == 1, run.output
    found = {key: run.line[f"{way}_{key}"] for key in ("lost", "duplicated", "reordered", "corrupt")}
    assert {key for key, count in found.items() if count} == {counter}


def test_injected_lateness_fails_the_run_by_its_delay(runs: dict[str, Run]) -> None:
    run = runs["late"]
    assert run.exit_code == 1, run.output
    assert all("p99 delay" in reason for reason in run.line["reasons"])


def test_wrong_usage_is_exit_code_2() -> None:
    command = [sys.executable, "-m", "benchmarks.load", "--calls", "0"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 2


def asked_for(line: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, load.Command]:
    """Return the kind of measurement that a command line starts, and with what."""
    found: list[tuple[str, load.Command]] = []
    for kind in ("run_once", "run_comparison", "run_agents", "run_sweep", "run_watched"):

        def start(command: load.Command, kind: str = kind) -> int:
            found.append((kind, command))
            return 0

        monkeypatch.setattr(load, kind, start)
    result = CliRunner().invoke(load.main, line)
    assert result.exit_code == 0, result.output
    return found[0]


@pytest.mark.parametrize(
    ("subcommand", "flags", "kind"),
    [
        (["run"], [], "run_once"),
        (["compare", "--pairs", "2"], ["--compare", "--pairs", "2"], "run_comparison"),
        (["agents"], ["--agents"], "run_agents"),
        (["sweep", "--sweep-step", "7"], ["--sweep", "--sweep-step", "7"], "run_sweep"),
        (["watched", "--pairs", "2"], ["--watched", "--pairs", "2"], "run_watched"),
    ],
)
def test_subcommand_does_what_its_flag_does(
    subcommand: list[str], flags: list[str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--calls", "200", "--seconds", "10", "--tls", "--max-delay-ms", "30", "--no-pin", "--json", "x"]
    by_subcommand = asked_for([*subcommand, *more], monkeypatch)
    assert by_subcommand == asked_for([*more, *flags], monkeypatch)
    assert by_subcommand[0] == kind


@pytest.mark.parametrize(
    ("line", "pairs"),
    [(["--compare"], 5), (["--agents"], 1), (["agents", "--pairs", "3"], 3), (["watched"], 5)],
)
def test_pairs_have_a_default_for_each_kind(
    line: list[str], pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked_for(line, monkeypatch)[1].plan.pairs_wanted == pairs


@pytest.mark.parametrize(
    "line", [["--peer", "bridge,go", "--peer", "floor"], ["--peer", "bridge", "--peer", "go,floor"]]
)
def test_sweep_takes_several_peers(line: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_for(["sweep", *line], monkeypatch)[1].plan.peers == (None, "go", "floor")


def test_sweep_over_tls_loads_one_peer_after_the_other(tmp_path: Path) -> None:
    steps = ["--sweep-step", "2", "--sweep-most", "4", "--seconds", "0.5", "--json", str(tmp_path / "lines")]
    command = [sys.executable, "-m", "benchmarks.load", "sweep", "--tls", "--peer", "bridge,floor", *steps]
    limits = [*LIMITS, "--report", str(tmp_path / "found")]
    done = subprocess.run(
        [*command, *limits], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bridge: one core carries 4 calls" in done.stdout
    assert "floor: one core carries 4 calls" in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    # The floor stays plain.
    assert [(line["name"], line["tls"], line["calls"]) for line in lines] == [
        *(("bridge", True, calls) for calls in (2, 4)),
        *(("floor", False, calls) for calls in (2, 4)),
    ]
    report = json.loads((tmp_path / "found" / "report.json").read_text())
    assert {found["name"]: found["carried"] for found in report["sweeps"]} == {"bridge": 4, "floor": 4}


def test_setting_reaches_the_bridge_and_the_results(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.load", "--calls", "2", "--seconds", "0.5", *LIMITS]
    out = tmp_path / "line"
    given = ["--set", "BRIDGE_GATHER_MS=0", "--set", "BRIDGE_MAX_CALLS=1", "--json", str(out)]
    done = subprocess.run([*command, *given], cwd=ROOT, capture_output=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    line = json.loads(out.read_text())
    assert line["set"] == "BRIDGE_GATHER_MS=0 BRIDGE_MAX_CALLS=1"
    assert line["calls_up"] == 1


def test_run_with_workers_counts_the_calls_of_each(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.load", "--calls", "12", "--seconds", "0.5", *LIMITS]
    out = tmp_path / "line"
    # Slower than the workers report their calls, ten times a second.
    given = ["--workers", "2", "--ramp-s", "2", "--json", str(out)]
    done = subprocess.run(
        [*command, *given], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = json.loads(out.read_text())
    assert line["workers"] == 2
    assert len(line["calls_by_worker"]) == 2
    assert sum(line["calls_by_worker"]) == 12
    assert line["bridge_cpu_us_per_frame"] > 0
    assert "calls; the largest share is" in done.stdout


def test_running_bridge_is_one_value_with_its_public_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"):
        monkeypatch.setenv(name, "x")
    _, command = asked_for(["run", "--url", "http://127.0.0.1:1/", "--pid", "7"], monkeypatch)
    assert command.options.running == RunningBridge(
        url="http://127.0.0.1:1", public_url="http://127.0.0.1:1", pid=7
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--calls", "5", "compare"], "Options go after the subcommand."),
        (["compare", "--peer", "floor"], "No such option"),
        (["--set", "x"], "expected NAME=VALUE"),
        (["--set", "A=1", "--peer", "go"], "--set is for a bridge"),
        (["--workers", "2", "--peer", "go"], "--workers is for one run"),
        (["--workers", "2", "--sweep"], "--workers is for one run"),
        (["sweep", "--workers", "2"], "No such option"),
        (["--peer", "go,node"], "Only a sweep takes several peers."),
        (["sweep", "--peer", "go,other"], "unknown peer 'other'"),
        (["sweep", "--url", "http://127.0.0.1:1"], "No such option"),
        (["sweep", "--agent", "json", "--report", "x"], "--agent"),
        (["--watched", "--agent", "json"], "--watched is for the bridge alone"),
        (["watched", "--workers", "2"], "No such option"),
        (["other"], "No such command"),
    ],
)
def test_options_that_do_not_fit_a_subcommand_are_wrong_usage(line: list[str], message: str) -> None:
    result = CliRunner().invoke(load.main, line)
    assert result.exit_code == 2
    assert message in result.output
