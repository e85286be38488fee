"""The errors of OpenAI's Realtime protocol: their kinds, their reports, and the waits that they advise."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.agents.realtime_errors import (
    FATAL,
    HARMLESS,
    RATE_LIMIT_WAIT_S,
    TRANSIENT,
    fatal_kind,
    is_warning,
    report_of,
    reset_s,
    transient_kind,
    wait_s,
)
from bridge.agents.succession import FailureKind

# As in the messages of OpenAI and Azure.
MESSAGES = {
    "Rate limit reached. Please try again in 1m26.4s. Visit https://x to learn more.": 86.4,
    "Rate limit is exceeded. Try again in 16 seconds.": 16,
    "Please try again in 350ms.": 0.35,
    "Please try again in 6m0s.": 360,
    "Please try again in 1h2m.": 3720,
    "please try again in 41.724s": 41.724,
}


@pytest.mark.parametrize("message", MESSAGES)
def test_wait_is_the_one_that_the_message_advises(message):
    assert wait_s({"code": "rate_limit_exceeded", "message": message}, 0.5) == pytest.approx(
        MESSAGES[message]
    )


@pytest.mark.parametrize(
    ("error", "reset", "expected"),
    [
        ({"code": "rate_limit_exceeded"}, 0.5, 0.5),
        (
            {"code": "inference_rate_limit_exceeded", "message": "Please try again later."},
            0.0,
            RATE_LIMIT_WAIT_S,
        ),
        ({"type": "server_error", "message": "Sorry"}, 0.5, 0.0),
        ({"type": "server_error", "message": None}, 0.0, 0.0),
    ],
)
def test_without_advice_only_a_rate_limit_is_waited_for(error, reset, expected):
    assert wait_s(error, reset) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([], 0),
        ([{"remaining": 1, "reset_seconds": 5}], 0),
        ([{"remaining": 0, "reset_seconds": 5}, {"remaining": -3, "reset_seconds": 7.5}], 7.5),
        ([{"remaining": 0}, {"remaining": "0", "reset_seconds": 5}, None], 0),
    ],
)
def test_reset_is_that_of_the_exhausted_limits(limits, expected):
    assert reset_s(limits) == expected


def test_tables_do_not_overlap_and_a_code_goes_before_a_type():
    assert not FATAL.keys() & TRANSIENT.keys()
    assert not (FATAL.keys() | TRANSIENT.keys()) & HARMLESS
    assert fatal_kind({"code": "invalid_api_key", "type": "insufficient_quota"}) is FailureKind.CREDENTIALS
    assert transient_kind({"code": "x", "type": "server_error"}) is FailureKind.SERVER


@pytest.mark.parametrize("error", [{}, {"code": 5, "type": []}, {"code": "x", "type": "y"}])
def test_unknown_error_has_no_kind(error):
    assert fatal_kind(error) is None
    assert transient_kind(error) is None
    assert not is_warning(error, "respond")


@pytest.mark.parametrize(
    ("error", "report"),
    [
        ({}, "error"),
        ({"code": "a", "type": "a"}, "error code a"),
        ({"code": "a", "type": "b", "param": "c", "message": "d\x00e"}, "error code a, type b, param c: d e"),
        ({"message": "x" * 500}, ("error: " + "x" * 500)[:200]),
    ],
)
def test_report_has_all_that_the_error_says_and_is_bounded(error: dict[str, Any], report: str):
    assert report_of(error) == report
