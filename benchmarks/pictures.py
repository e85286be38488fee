"""Draws the pictures of a report: delay and CPU per frame by number of calls, one line per bridge."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

from benchmarks.compare import cost_of
from benchmarks.verdict import Line, and_set

LIMIT_MS = 20
COLOURS = {
    "bridge": "#c0392b",
    "floor": "#2c3e50",
    "floor-gather": "#95a5a6",
    "go": "#16a085",
    "node": "#27ae60",
    "aiohttp": "#2980b9",
    "fastapi": "#8e44ad",
}


def draw(runs: Sequence[Line], directory: Path) -> list[Path]:
    """Draw the pictures that these runs have points for; returns their paths."""
    delay, cost = directory / "delay.png", directory / "cpu-per-frame.png"
    drawn = []
    if _draw(delay, runs, _delay_ms, "added delay, p99 of the worse way, ms", limit=LIMIT_MS):
        drawn.append(delay)
    if _draw(cost, runs, cost_of, "CPU per frame, µs", limit=None):
        drawn.append(cost)
    return drawn


def _delay_ms(run: Line) -> float | None:
    if run["verdict"] == "invalid":
        return None
    return max(float(run["to_agent_delay_p99_us"]), float(run["to_caller_delay_p99_us"])) / 1000


def series(runs: Sequence[Line], value: Callable[[Line], float | None]) -> dict[str, list[tuple[int, float]]]:
    """Return the points of each bridge in order of calls: (calls, median of the runs with a value)."""
    found: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        y = value(run)
        if y is not None:
            name = run["name"] + and_set(run) + (", TLS" if run["tls"] else "")
            found.setdefault(name, {}).setdefault(run["calls"], []).append(y)
    return {
        name: [(calls, statistics.median(points[calls])) for calls in sorted(points)]
        for name, points in sorted(found.items())
    }


def _draw(
    path: Path, runs: Sequence[Line], value: Callable[[Line], float | None], label: str, limit: float | None
) -> bool:
    lines = series(runs, value)
    if not lines:
        return False
    figure, axes = pyplot.subplots(figsize=(8, 4.8), dpi=120)
    for name, points in lines.items():
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            markersize=4,
            linewidth=2.5 if name.startswith("bridge") else 1.5,
            linestyle="--" if name.endswith("TLS") else "-",
            color=COLOURS.get(name.partition(",")[0], "#7f8c8d"),
            label=name,
        )
    if limit is not None:
        axes.axhline(limit, color="#7f8c8d", linewidth=1, linestyle=":")
        axes.annotate(
            f"{limit:g} ms", (0, limit), (4, 3), ("axes fraction", "data"), "offset points", color="#7f8c8d"
        )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("calls (50 frames a second each way, each)")
    axes.set_ylabel(label)
    axes.grid(True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    # Beside the lines, which may be anywhere.
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    return True
