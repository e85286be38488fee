"""Ratios, invalid rounds and the table of a comparison, the steps of a sweep, the report: from runs made up here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import Comparison, Round, compare, table
from benchmarks.measure import machine
from benchmarks.page import BEGIN, END, Findings, filled, write_report
from benchmarks.pictures import series
from benchmarks.sweep import sweep
from bridge.standins.process import BridgeError


def line(name: str, cost: float | None, verdict: str = "ok", **more: Any) -> dict[str, Any]:
    found = {
        "name": name,
        "verdict": verdict,
        "reasons": [] if verdict == "ok" else ["a reason"],
        "calls": 500,
        "seconds": 10.0,
        "tls": False,
        "date": "2026-11-22T12:00:00+00:00",
        "bridge_cpu_us_per_frame": cost,
        "bridge_load_percent": 40.0,
        "bridge_kb_per_call": None,
        "generator_load_percent": 60.0,
        "generator_lateness_p99_us": 90.0,
    }
    for way in ("to_agent", "to_caller"):
        found |= {f"{way}_lost": 0, f"{way}_delay_p99_us": 250.0}
    found |= {f"interrupt_to_clear_{q}_us": 200.0 for q in ("p50", "p99", "max")}
    return found | more


def one_round(before: float, bridge: float, after: float, /, **verdicts: str) -> Round:
    return Round(
        line("floor", before, verdicts.get("before", "ok")),
        [
            line("floor-gather", 6.0, verdicts.get("gather", "ok")),
            line("bridge", bridge, verdicts.get("bridge", "ok")),
        ],
        line("floor", after, verdicts.get("after", "ok")),
    )


def test_ratio_is_to_the_mean_of_the_floors_on_both_sides() -> None:
    assert one_round(8.0, 10.0, 8.4).ratio("bridge") == pytest.approx(10.0 / 8.2)


@pytest.mark.parametrize(("after", "is_invalid"), [(8.79, False), (8.81, True), (7.28, False), (7.27, True)])
def test_floors_that_differ_by_more_than_a_tenth_make_a_round_invalid(after: float, is_invalid: bool) -> None:
    one = one_round(8.0, 10.0, after)
    assert (one.why_invalid() is not None) is is_invalid
    assert (one.ratio("bridge") is None) is is_invalid


@pytest.mark.parametrize("which", ["before", "bridge", "after"])
def test_invalid_run_gives_no_ratio(which: str) -> None:
    assert one_round(8.0, 10.0, 8.0, **{which: "invalid"}).ratio("bridge") is None


def test_ratio_to_the_gathering_floor_is_to_its_run_in_the_same_round() -> None:
    assert one_round(8.0, 9.0, 8.4).ratio("bridge", "floor-gather") == pytest.approx(1.5)
    assert one_round(8.0, 9.0, 8.4, gather="invalid").ratio("bridge", "floor-gather") is None
    assert one_round(8.0, 9.0, 8.4, gather="invalid").ratio("bridge") is not None


async def test_round_without_its_gathering_floor_is_made_again() -> None:
    machine = Machine(floor=[8.0], bridge=[9.0])
    verdicts = iter(["invalid", "ok"])
    lines: list[str] = []

    async def measure(name: str) -> dict[str, Any]:
        found = await machine.measure(name)
        return found | {"verdict": next(verdicts), "reasons": ["late"]} if name == "floor-gather" else found

    comparison = await compare([], 1, measure, lines.append)
    assert len(comparison.rounds) == 2
    assert lines == ["round 1 is invalid: floor-gather is invalid: late"]
    assert str(comparison.ratio("bridge", "floor-gather")) == "1.50"


def test_failed_run_still_has_its_cost() -> None:
    assert one_round(8.0, 10.0, 8.0, bridge="failed").ratio("bridge") == pytest.approx(1.25)


def test_ratio_of_all_rounds_is_their_median_with_the_spread() -> None:
    rounds = [one_round(8, cost, 8) for cost in (10, 9, 12)] + [one_round(8, 99, 10)]
    ratio = Comparison(rounds).ratio("bridge")
    assert ratio is not None
    assert (ratio.median, ratio.low, ratio.high, ratio.count) == (1.25, 1.125, 1.5, 3)
    assert str(ratio) == "1.25 (1.12 to 1.50)"


def test_typical_run_is_the_middle_one_and_not_invalid() -> None:
    rounds = [
        one_round(8, 10, 8),
        one_round(8, 11, 8),
        one_round(8, 5, 8, bridge="invalid"),
        one_round(8, 12, 8),
    ]
    assert Comparison(rounds).typical("bridge")["bridge_cpu_us_per_frame"] == 11


class Machine:
    """Measures by a script: costs by name, in order, the last one for ever."""

    def __init__(self, **costs: list[float]) -> None:
        self.costs = {"floor-gather": [6.0]} | costs
        self.order: list[str] = []

    async def measure(self, name: str) -> dict[str, Any]:
        costs = self.costs[name]
        self.order.append(name)
        return line(name, costs.pop(0) if len(costs) > 1 else costs[0])


async def test_floor_and_bridge_alternate_and_peers_are_between() -> None:
    machine = Machine(floor=[8.0], bridge=[10.0], node=[16.0])
    comparison = await compare(["node"], 3, machine.measure, lambda text: None)
    first, others = ["floor", "floor-gather", "bridge", "node"], ["floor", "floor-gather", "bridge"]
    assert machine.order == [*first, *others, *others, "floor"]
    assert str(comparison.ratio("node")) == "2.00"
    assert len(comparison.runs("floor")) == 4


async def test_invalid_round_is_made_again_with_its_peer() -> None:
    machine = Machine(floor=[8.0, 12.0, 12.0], bridge=[10.0], node=[18.0])
    lines: list[str] = []
    comparison = await compare(["node"], 1, machine.measure, lines.append)
    assert machine.order == 2 * ["floor", "floor-gather", "bridge", "node"] + ["floor"]
    assert lines == ["round 1 is invalid: its floors differ by 50% > 10%"]
    assert str(comparison.ratio("node")) == "1.50"


async def test_peer_that_does_not_start_is_left_out() -> None:
    machine = Machine(floor=[8.0], bridge=[10.0])

    async def measure(name: str) -> dict[str, Any]:
        if name == "node":
            raise BridgeError("The peer ended with exit code 1 before it was ready.\nits log")
        return await machine.measure(name)

    comparison = await compare(["node"], 1, measure, lambda text: None)
    assert comparison.left_out == {"node": "The peer ended with exit code 1 before it was ready."}
    assert machine.order == ["floor", "floor-gather", "bridge", "floor"]


async def test_comparison_on_a_machine_that_is_never_quiet_ends_without_a_ratio() -> None:
    machine = Machine(floor=[8.0, 12.0] * 20, bridge=[10.0])
    comparison = await compare([], 2, machine.measure, lambda text: None)
    assert len(comparison.rounds) == 4
    assert comparison.ratio("bridge") is None
    assert "invalid" in table(comparison)


def test_table_has_a_row_for_each_bridge_and_says_what_is_left_out() -> None:
    comparison = Comparison([one_round(8, 10, 8), one_round(8, 9, 8)], {"go": "go is not installed here"})
    text = table(comparison)
    floor, gathering, bridge = text.splitlines()[2:5]
    assert floor.split()[:3] == ["floor", "8.00", "1"]
    assert gathering.split()[:7] == ["floor-gather", "6.00", "0.75", "(0.75", "to", "0.75)", "1"]
    assert "1.19 (1.12 to 1.25)   1.58 (1.50 to 1.67)" in bridge
    assert "go is left out: go is not installed here" in text
    assert "2 of 2 rounds count" in text


def steps_of(**verdicts: list[str]) -> Any:
    async def measure(calls: int) -> dict[str, Any]:
        verdict = verdicts.get(f"at_{calls}", ["ok"])
        return line("bridge", 9.0, verdict.pop(0) if len(verdict) > 1 else verdict[0], calls=calls)

    return measure


async def test_sweep_ends_at_the_last_step_that_passes() -> None:
    found = await sweep(100, 100, 1000, steps_of(at_400=["failed"]))
    assert found.carried == 300
    assert [step["calls"] for step in found.steps] == [100, 200, 300, 400, 400]
    assert str(found) == "one core carries 300 calls; 400 are failed: a reason"


async def test_single_hiccup_does_not_end_a_sweep() -> None:
    found = await sweep(100, 100, 300, steps_of(at_200=["failed", "invalid", "ok"]))
    assert found.carried == 300
    assert found.why_ended == "more than 300 were not tried"


async def test_sweep_says_so_when_it_is_not_the_bridge_that_is_at_its_end() -> None:
    found = await sweep(100, 100, 1000, steps_of(at_200=["invalid"]))
    assert found.carried == 100
    assert "200 are invalid" in found.why_ended


def test_series_are_medians_by_calls_without_invalid_runs() -> None:
    runs = [
        line("floor", cost, calls=calls) for calls, cost in ((500, 8.0), (200, 12.0), (500, 9.0), (500, 10.0))
    ]
    runs += [line("floor", 1.0, "invalid", calls=200), line("bridge", 11.0, tls=True)]
    found = series(runs, lambda run: None if run["verdict"] == "invalid" else run["bridge_cpu_us_per_frame"])
    assert found == {"floor": [(200, 12.0), (500, 9.0)], "bridge, TLS": [(500, 11.0)]}


def test_only_what_is_between_the_marks_of_a_page_is_written() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert filled(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_report_keeps_other_runs_and_fills_the_page(tmp_path: Path) -> None:
    page = tmp_path / "found.md"
    page.write_text(f"# Found\n{BEGIN}\n{END}\n")
    write_report(tmp_path / "found", Findings(runs=[line("bridge", 10.0, calls=200)]))
    comparison = Comparison([one_round(8, 10, 8)], {"go": "not here"})
    runs = [*comparison.runs("floor"), *comparison.runs("bridge")]
    write_report(tmp_path / "found", Findings(runs=runs, comparison=comparison))
    text = page.read_text()
    assert "### 500 calls" in text
    assert "| floor | 1 |  | 8.00 |" in text
    assert "| floor-gather | 0.75 | 1 | 6.00 |" in text
    assert "| bridge | 1.25 | 1.67 | 10.00 |" in text
    assert "![delay](found/delay.png)" in text
    for name in ("delay.png", "cpu-per-frame.png"):
        assert (tmp_path / "found" / name).read_bytes().startswith(b"\x89PNG")
    assert '"calls": 200' in (tmp_path / "found" / "report.json").read_text()


def test_report_keeps_runs_with_other_settings_apart(tmp_path: Path) -> None:
    page = tmp_path / "found.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    for given in ("", "BRIDGE_GATHER_MS=0", ""):
        one = Round(line("floor", 8), [line("bridge", 10, set=given)], line("floor", 8))
        runs = [one.floor_before, *one.runs]
        write_report(tmp_path / "found", Findings(runs=runs, comparison=Comparison([one])))
    report = json.loads((tmp_path / "found" / "report.json").read_text())
    assert sorted(run["set"] for run in report["runs"] if run["name"] == "bridge") == [
        "",
        "BRIDGE_GATHER_MS=0",
    ]
    assert page.read_text().count("### 500 calls\n") == 1
    assert page.read_text().count("### 500 calls, BRIDGE_GATHER_MS=0\n") == 1


def test_report_of_before_the_rename_of_void_is_read(tmp_path: Path) -> None:
    comparison = Comparison([one_round(8, 10, 20)])
    old = {
        "machine": machine(),
        "runs": [line("node", 99.0, "void", calls=200)],
        "comparisons": [
            {
                "calls": 300,
                "tls": False,
                "date": "2026-11-22",
                "seconds": 10.0,
                "rounds": 4,
                "rounds_void": 3,
                "cost_in_floors": {"bridge": None},
                "left_out": {},
                "typical": {"bridge": line("bridge", 10.0, "void")},
            }
        ],
        "sweeps": [],
    }
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "report.json").write_text(json.dumps(old))
    page = tmp_path / "found.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    write_report(tmp_path / "found", Findings(runs=comparison.runs("bridge"), comparison=comparison))
    new = json.loads((tmp_path / "found" / "report.json").read_text())
    assert new["runs"][0]["verdict"] == "invalid"
    assert [found["rounds_invalid"] for found in new["comparisons"]] == [3, 1]
    assert "1 of 4 rounds count" in page.read_text()
    assert "void" not in json.dumps(new) + page.read_text()
