"""The load benchmark as a user starts it, against the real bridge: it passes, and fails for each injected fault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.generator.driver import INJECTIONS, build_generator

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
