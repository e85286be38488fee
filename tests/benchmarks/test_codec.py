"""The benchmark of the codec: its jobs are done right, its figures follow from its samples, and it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import codec, timing
from benchmarks.timing import Candidate, Contest, Score, measure, score, table


def test_every_candidate_does_its_job() -> None:
    for job in codec.contests():
        job.check()


def test_every_job_has_the_core_first_then_its_reference_then_a_library() -> None:
    for job in codec.contests():
        assert job.candidates[1].name == "reference"
        assert len(job.candidates) >= 3, job.job


def test_missing_libraries_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "find_spec", lambda name: None)
    assert codec.missing_libraries() == ["pybase64", "soxr"]
    names = [candidate.name for job in codec.contests() for candidate in job.candidates]
    assert not [name for name in names if "pybase64" in name or "soxr" in name]


def test_candidate_that_does_another_job_is_refused() -> None:
    wrong = Contest(
        "add", [Candidate("right", "1 + a", {"a": 1}), Candidate("wrong", "1 - a", {"a": 1})], expected=2
    )
    with pytest.raises(ValueError, match="wrong does not add: 0"):
        measure(wrong, 2, 0.0001)


def test_state_is_kept_from_one_time_to_the_next() -> None:
    counting = Candidate("count", "(at := at + 1)", {}, setup="at = 5", read=lambda at: at == 6)
    [only] = measure(Contest("count", [counting], expected=True), 3, 0.0001)
    assert only.times_first == 1


def test_ratio_is_between_neighbours() -> None:
    slow_machine_in_the_middle = [100.0, 300.0, 100.0]
    twice_as_long = [200.0, 600.0, 220.0]
    assert score("job", "other", twice_as_long, slow_machine_in_the_middle) == Score(
        "job", "other", 220.0, pytest.approx(100 * 100 / 220), 2.0
    )


def test_one_round_is_refused() -> None:
    with pytest.raises(ValueError, match="rounds must be at least 2, got 1"):
        measure(Contest("nothing", []), 1, 0.01)


def test_table_has_jobs_as_headings() -> None:
    scores = [Score("job one", "us", 52.4, 1.25, 1.0), Score("job one", "them", 5.24, 0.0, 0.1)]
    lines = table([*scores, Score("job two", "us", 1.0, 0.0, 1.0)]).splitlines()
    assert [line.split() for line in lines] == [
        ["ns", "spread", "ratio"],
        ["job", "one"],
        ["us", "52", "1.2", "%", "1.0"],
        ["them", "5.2", "0.0", "%", "0.10"],
        ["job", "two"],
        ["us", "1.0", "0.0", "%", "1.0"],
    ]
    assert {len(line) for line in lines[2:4]} == {len(lines[0])}


def test_tiny_run(tmp_path: Path) -> None:
    output = tmp_path / "codec.jsonl"
    result = CliRunner().invoke(
        codec.main, ["--rounds", "2", "--sample-ms", "0.01", "--json", str(output)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "SpanFinder.find" in result.stdout
    [line] = output.read_text().splitlines()
    run = json.loads(line)
    assert run["rounds"] == 2
    assert {item["name"] for item in run["scores"]} >= {"Resampler", "audioop.ratecv", "collections.deque"}
    assert all(item["ns"] > 0 for item in run["scores"])


def test_fault_of_a_candidate_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = timing.Contest("add", [Candidate("sum", "1", {})], expected=2)
    monkeypatch.setattr(codec, "contests", lambda: [wrong])
    result = CliRunner().invoke(codec.main, [])
    assert result.exit_code == 1
    assert "FAILED: sum does not add: 1" in result.stdout
