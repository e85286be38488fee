"""Peers under a low load: each relays every frame and answers every interrupt, or it is no measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.build import BuildError
from benchmarks.peers import PEERS

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60
# Beside other tests all is late; here only counters are judged.
LIMITS = [
    *("--max-delay-ms", "1000"),
    *("--max-lateness-ms", "10000"),
    *("--max-others-percent", "100"),
    "--no-pin",
]


def load(tmp_path: Path, *options: str) -> dict[str, Any]:
    """Run the benchmark; returns its JSON line."""
    out = tmp_path / "line.json"
    size = ["--calls", "5", "--seconds", "1.5", "--interrupts-per-call-per-minute", "60"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", *size, *options, "--json", str(out), *LIMITS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line: dict[str, Any] = json.loads(out.read_text())
    return line


@pytest.mark.parametrize("peer", list(PEERS))
def test_peer_relays_every_frame(peer: str, tmp_path: Path) -> None:
    try:
        PEERS[peer].build(print)
    except BuildError as error:
        if peer == "floor":
            raise
        pytest.skip(f"{peer} is left out: {error.in_one_line}")
    line = load(tmp_path, "--peer", peer)
    assert line["name"] == peer
    assert line["calls_up"] == 5
    assert line["to_agent_sent"] == line["to_agent_received"] > 5 * 70
    assert line["to_caller_sent"] == line["to_caller_received"] + line["to_caller_cleared"]
    assert line["interrupts"] >= 5
    assert line["bridge_cpu_us_per_frame"] > 0


def test_bridge_relays_every_frame_to_an_agent_behind_tls(tmp_path: Path) -> None:
    line = load(tmp_path, "--tls")
    assert (line["name"], line["tls"], line["calls_up"]) == ("bridge", True, 5)


def test_options_that_exclude_each_other_are_wrong_usage() -> None:
    command = [sys.executable, "-m", "benchmarks.load", "--compare", "--sweep"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 2
