"""The rows of strangers: what fails one, and what its figures say."""

from __future__ import annotations

import math

import pytest

from benchmarks.strangers_probes import Asked
from benchmarks.strangers_rows import Row, StrangersLimits, table, to_json
from benchmarks.verdict import Status


def row(**changes: object) -> Row:
    asked = {name: Asked(times_ms=[1.0, 2.0]) for name in ("webhooks", "upgrades", "checks")}
    given = {"attacks": 100, "attack_s": 1.0, "attacks_wanted_per_s": 100, **asked, **changes}
    return Row(scenario="an attack", limits=StrangersLimits(), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"webhooks": Asked(times_ms=[1.0], problems=["reset"])},
            "1 of 2 webhooks without their answer: reset",
        ),
        ({"upgrades": Asked()}, "no upgrades were sent"),
        ({"webhooks": Asked(times_ms=[201.0])}, "p99 of the webhooks 201 ms > 200 ms"),
        ({"lines_made": 10, "lines_dropped": 7}, "3 log lines were neither written nor counted as dropped"),
        ({"problems": ["exit code 1"]}, "exit code 1"),
    ],
)
def test_what_is_missing_fails_the_row(changes: dict[str, object], reason: str) -> None:
    assert row(**changes).verdict.reasons == [reason]
    assert row(**changes).verdict.status is Status.FAILED
    assert f"- {reason}" in table([row(), row(**changes)])


def test_row_with_every_answer_passes_and_a_slow_attack_proves_nothing() -> None:
    assert row().verdict.status is Status.OK
    assert row(lines_made=10, lines_dropped=7, waiting_most=3).verdict.status is Status.OK
    assert row(attacks=89).verdict.status is Status.INVALID


def test_figures_of_a_row() -> None:
    line = to_json(row(checks=Asked(problems=["x"])))
    assert (line["webhooks"], line["webhooks_missing"], line["webhooks_p99_ms"]) == (2, 0, 2.0)
    assert (line["checks"], line["checks_missing"], line["checks_p99_ms"]) == (1, 1, None)
    assert line["attacks_per_s"] == 100
    assert not any(isinstance(value, float) and math.isnan(value) for value in line.values())
