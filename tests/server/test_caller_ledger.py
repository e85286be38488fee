"""The calls of one caller against the bounds, on a fake clock."""

from __future__ import annotations

import json

import pytest

from bridge.server.caller_ledger import HOUR_S, MOST_UP, Bounds, Ledger, Place

NOW = 1_800_000_000.0
BOTH = Bounds(at_once=2, per_hour=3)
HERE = Place("here", NOW + 90)


def entered(*calls: str, bounds: Bounds = BOTH, now: float = NOW) -> Ledger:
    ledger = Ledger()
    for call in calls:
        ledger = ledger.enter(call, now, Place("here", now + 90), bounds)
    return ledger


def test_call_beyond_those_that_are_up_is_refused_until_one_leaves():
    ledger = entered("a", "b")
    assert ledger.refusal("c", BOTH) == "at_once"
    assert ledger.leave("a").refusal("c", BOTH) == ""


def test_call_beyond_those_of_the_hour_is_refused_until_the_first_is_an_hour_old():
    ledger = entered("a", "b", "c").leave("a").leave("b").leave("c")
    assert ledger.at(NOW + HOUR_S - 1).refusal("d", BOTH) == "per_hour"
    assert ledger.at(NOW + HOUR_S).refusal("d", BOTH) == ""


def test_hour_is_a_sliding_one():
    one = Bounds(per_hour=2)
    ledger = entered("a", bounds=one).enter("b", NOW + 1800, HERE, one)
    later = ledger.at(NOW + HOUR_S)
    assert later.refusal("c", one) == ""
    assert later.enter("c", NOW + HOUR_S, HERE, one).refusal("d", one) == "per_hour"


@pytest.mark.parametrize("bounds", [BOTH, Bounds(per_hour=3), Bounds(at_once=2)])
def test_webhook_of_a_call_that_comes_again_counts_once(bounds):
    ledger = entered("a", "b", "b", "b", bounds=bounds)
    assert ledger.refusal("b", bounds) == ""
    assert max(len(ledger.came), len(ledger.up)) == 2


def test_without_a_bound_nothing_is_kept_for_it():
    assert entered("a", bounds=Bounds(at_once=1)).came == {}
    assert entered("a", bounds=Bounds(per_hour=1)).up == {}
    assert entered("a", "b", "c", bounds=Bounds(per_hour=9)).refusal("d", Bounds(per_hour=9)) == ""


def test_call_that_nobody_renews_is_not_up_any_more():
    ledger = entered("a", "b")
    assert ledger.at(NOW + 89).refusal("c", BOTH) == "at_once"
    assert ledger.at(NOW + 90).refusal("c", BOTH) == ""


def test_process_takes_back_only_what_is_its_own():
    ledger = entered("a").hold("a", Place("there", NOW + 90))
    assert ledger.leave("a", "here").up == {"a": Place("there", NOW + 90)}
    assert ledger.leave("a", "there").up == ledger.leave("a").up == {}


def test_refused_call_leaves_nothing():
    assert entered("a").cancel("a") == Ledger()


def test_ledger_goes_through_json():
    ledger = entered("a", "b").leave("a")
    assert Ledger.of(json.loads(json.dumps(ledger.fields()))) == ledger


@pytest.mark.parametrize(
    "fields", [{}, {"came": [], "up": {}}, {"came": {"a": "x"}, "up": {}}, {"came": {}, "up": {"a": 1}}]
)
def test_fields_of_another_form_are_an_empty_ledger(fields):
    assert Ledger.of(fields) == Ledger()


def test_calls_that_are_up_are_bounded():
    ledger = Ledger(up={f"{n}": Place("here", NOW + n) for n in range(MOST_UP)})
    assert set(ledger.hold("new", Place("here", NOW + 90)).up) == {
        "new",
        *(f"{n}" for n in range(1, MOST_UP)),
    }
