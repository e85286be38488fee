"""Errors that an agent reports, and the silence after them."""

from __future__ import annotations

import pytest

from bridge.agents.agent import Troubled
from bridge.agents.succession import FailureKind
from bridge.call.trouble import MOST_REPORTS, Trouble

ERROR = Troubled("error rate_limit", FailureKind.QUOTA)


@pytest.fixture
def trouble() -> Trouble:
    return Trouble(silence_s=5.0)


def test_silence_after_an_error_is_due(trouble):
    assert not trouble.is_due(10, 100.0)
    trouble.report(ERROR, 10, 100.0)
    assert not trouble.is_due(10, 104.9)
    assert trouble.is_due(10, 105.0)
    assert trouble.last(10) is ERROR


def test_audio_after_an_error_ends_it(trouble):
    trouble.report(ERROR, 10, 100.0)
    assert trouble.last(11) is None
    assert not trouble.is_due(11, 200.0)
    trouble.report(ERROR, 11, 200.0)
    assert trouble.is_due(11, 205.0)


def test_first_of_several_errors_counts(trouble):
    trouble.report(ERROR, 10, 100.0)
    trouble.report(Troubled("error again"), 10, 104.0)
    assert trouble.is_due(10, 105.0)
    assert trouble.last(10) is ERROR


def test_agent_that_hears_the_caller_has_its_time_anew(trouble):
    trouble.report(ERROR, 10, 100.0)
    trouble.on_sign(104.0)
    assert not trouble.is_due(10, 108.9)
    assert trouble.is_due(10, 109.0)


def test_sign_without_an_error_means_nothing(trouble):
    trouble.on_sign(100.0)
    assert not trouble.is_due(0, 1000.0)


def test_each_report_is_new_once_and_their_number_is_bounded(trouble):
    assert trouble.is_new("a")
    assert not trouble.is_new("a")
    assert sum(trouble.is_new(f"b{n}") for n in range(100)) == MOST_REPORTS - 1
