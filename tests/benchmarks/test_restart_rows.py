"""The rows of a restart: what fails one, and what its figures say."""

from __future__ import annotations

import pytest

from benchmarks.restart_calls import CallResult, End
from benchmarks.restart_rows import Row, table, to_json
from benchmarks.verdict import Status, worst


def call(number: int = 0, **changes) -> CallResult:
    usual = {
        "end": End.AS_PLANNED,
        "detail": "",
        "streams": 1,
        "pause_s": 0.02,
        "frames_lost": 0,
        "is_disordered": False,
    }
    return CallResult(number=number, **(usual | changes))


def row(*results: CallResult, **changes) -> Row:
    return Row(scenario="kill", results=results, **changes)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (call(7, end=End.LOST, detail="gone"), "call 7 lost: gone"),
        (call(7, end=End.REFUSED, detail="busy"), "call 7 refused: busy"),
        (call(7, end=End.FALLBACK, detail="sorry"), "call 7 heard the fallback: sorry"),
        (call(7, frames_lost=3), "3 frames lost in calls that kept their stream"),
        (call(7, is_disordered=True), "1 calls with frames twice, changed or out of order"),
    ],
)
def test_bad_call_fails_its_row(bad, reason):
    found = row(call(), bad)
    assert found.verdict.status is Status.FAILED
    assert found.verdict.reasons == [reason]
    assert table([found]).splitlines()[2:] == [table([found]).splitlines()[2], f"  - {reason}"]
    assert "FAILED" in table([found])


def test_row_without_a_call_or_with_a_problem_fails():
    assert row().verdict.status is Status.FAILED
    assert row(call(), problems=["exit code 1"]).verdict.reasons == ["exit code 1"]


def test_only_the_first_failures_are_named():
    found = row(*(call(number, end=End.LOST, detail="gone") for number in range(9)))
    assert len(found.verdict.reasons) == 4
    assert found.verdict.reasons[-1] == "and 6 more calls"


def test_pauses_are_those_of_the_calls_with_a_new_stream():
    kept = [call(number) for number in range(5)]
    line = to_json(
        row(*kept, call(5, streams=2, pause_s=0.5, frames_lost=None), call(6, streams=3, pause_s=2))
    )
    assert (line["calls"], line["calls_with_new_stream"]) == (7, 2)
    assert (line["without_audio_p50_s"], line["without_audio_max_s"]) == (0.5, 2)
    assert to_json(row(*kept))["without_audio_max_s"] == 0.02


def test_row_that_was_not_run_has_not_passed():
    passed, not_run, failed = row(call()), row(not_run="install it"), row()
    assert "not run: install it" in table([passed, not_run])
    assert worst([row.verdict for row in [passed, passed]]) is Status.OK
    assert worst([row.verdict for row in [not_run, passed]]) is Status.INVALID
    assert worst([row.verdict for row in [failed, not_run, passed]]) is Status.FAILED
