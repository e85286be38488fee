"""Verdicts and figures of a load run, from results as the generator reports them."""

from __future__ import annotations

import json
import math

import pytest
from load_result import measured

from benchmarks.verdict import Limits, Status, judge, quantile, table, to_json


def test_a_run_without_faults_is_ok() -> None:
    verdict = judge(measured(), Limits())
    assert (verdict.status, str(verdict)) == (Status.OK, "OK")


@pytest.mark.parametrize("way", ["to_agent", "to_caller"])
@pytest.mark.parametrize(
    "key", ["lost", "duplicated", "reordered", "corrupt", "unexpected_messages", "stale_after_clear"]
)
def test_every_frame_fault_fails_the_run(way: str, key: str) -> None:
    assert judge(measured((f"{way}.{key}", 1)), Limits()).status is Status.FAILED


@pytest.mark.parametrize(
    "key",
    [
        "calls_refused",
        "calls_missing",
        "calls_closed_early",
        "bad_closes",
        "legs_left_open",
        "interrupts_unanswered",
        "clears_unexpected",
    ],
)
def test_every_call_fault_fails_the_run(key: str) -> None:
    assert judge(measured((key, 2)), Limits()).status is Status.FAILED


def test_cleared_frames_are_no_fault() -> None:
    assert judge(measured(("to_caller.cleared", 5)), Limits()).status is Status.OK


def test_problem_outside_the_generator_fails_the_run() -> None:
    verdict = judge(measured(problems=["call 3: webhook: status 403"]), Limits())
    assert str(verdict) == "FAILED: call 3: webhook: status 403"


def test_run_that_relayed_nothing_fails() -> None:
    nothing = measured(("to_agent.received_in_window", 0), ("to_caller.received_in_window", 0))
    assert str(judge(nothing, Limits())) == "FAILED: no frame was relayed"


def test_delay_over_the_limit_fails_and_names_the_way() -> None:
    verdict = judge(measured(("to_caller.delay_us.p99", 20_100.0)), Limits())
    assert str(verdict) == "FAILED: p99 delay 20.1 ms > 20 ms (agent to caller)"


def test_late_generator_makes_the_run_invalid() -> None:
    verdict = judge(measured(("lateness_us.p99", 5_100.0)), Limits())
    assert str(verdict) == "invalid: the generator sent late: p99 5.1 ms > 5 ms"
    assert verdict.status.value == 3


def test_saturated_generator_makes_the_run_invalid() -> None:
    assert judge(measured(("generator_cpu_s", 1.9)), Limits()).status is Status.INVALID


def test_others_on_the_core_of_the_bridge_make_the_run_invalid() -> None:
    verdict = judge(measured(others_cpu_s=0.2), Limits())
    assert str(verdict) == "invalid: others used 10 % of the bridge's core > 5 %"


def test_delay_says_nothing_in_an_invalid_run() -> None:
    late_and_slow = measured(("lateness_us.p99", 5_100.0), ("to_agent.delay_us.p99", 90_000.0))
    assert judge(late_and_slow, Limits()).status is Status.INVALID


def test_loss_counts_even_in_an_invalid_run() -> None:
    late_and_lossy = measured(("lateness_us.p99", 5_100.0), ("to_agent.lost", 1))
    verdict = judge(late_and_lossy, Limits())
    assert verdict.status is Status.FAILED
    assert verdict.reasons[0] == "1 lost (caller to agent)"
    assert "invalid" in verdict.reasons[1]


def test_largest_share_is_that_of_the_worker_with_most_calls() -> None:
    run = measured(calls_by_worker=[110, 90])
    assert run.largest_share_percent == pytest.approx(55)
    assert "workers            110, 90 calls; the largest share is 55 %" in table(run)
    assert to_json(run, judge(run, Limits()))["largest_share_percent"] == pytest.approx(55)


def test_bridge_without_workers_has_no_shares() -> None:
    assert measured().largest_share_percent is None
    assert "workers" not in table(measured())


def test_cost_is_cpu_of_the_window_over_frames_of_the_window() -> None:
    run = measured(bridge_cpu_s=0.02, rss_before_kb=50_000.0, rss_peak_kb=50_600.0)
    assert run.frames == 2000
    assert run.cpu_us_per_frame == pytest.approx(10)
    assert run.bridge_load_percent == pytest.approx(1)
    assert run.kb_per_call == pytest.approx(60)
    assert run.generator_load_percent == pytest.approx(25)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.51, 3), (0.99, 4), (1.0, 4)])
def test_quantile_is_one_of_the_values(share: float, expected: float) -> None:
    assert quantile([4, 1, 3, 2], share) == expected


def test_quantile_of_nothing_is_nan() -> None:
    assert math.isnan(quantile([], 0.5))


def test_json_line_is_flat_with_units() -> None:
    run = measured(webhook_ms=[1.0, 2.0], bridge_cpu_s=0.02)
    line = json.loads(json.dumps(to_json(run, judge(run, Limits())), allow_nan=False))
    assert not [key for key, value in line.items() if isinstance(value, dict)]
    assert line["verdict"] == "ok"
    assert line["to_agent_delay_p99_us"] == 900.0
    assert line["interrupt_to_clear_p50_us"] == 100.0
    assert line["bridge_cpu_us_per_frame"] == 10
    assert line["bridge_kb_per_call"] is None
    assert line["webhook_p99_ms"] == 2.0


def test_table_shows_both_ways_and_what_is_unknown() -> None:
    text = table(measured(("clear_us.count", 0), ("notes", ["call 1: agent's leg closed early"])))
    assert "caller to agent" in text
    assert "agent to caller" in text
    assert "interrupt to clear - (0 in the window)" in text
    assert "- us CPU per frame" in text
    assert "note: call 1: agent's leg closed early" in text
