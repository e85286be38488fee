"""The file of numbers: who may call, and every problem in words and with its place."""

from __future__ import annotations

import pytest
from settings_env import GOOD, clean_environment, problems

from bridge.number_lists import NumberLists, read_number_lists
from bridge.settings import load_settings

__all__ = ["clean_environment"]


def lists(refused: str = "", allowed: str = "", *, only_allowed: bool = False) -> NumberLists:
    return NumberLists(frozenset(refused.split()), frozenset(allowed.split()), only_allowed)


@pytest.mark.parametrize(
    ("refused", "allowed", "number", "reason", "is_allowed"),
    [
        ("", "", "+4930111", "", False),
        ("+4930111", "", "+4930111", "number_refused", False),
        ("+4930111", "", "+49301112", "", False),
        ("+4930*", "", "+4930111", "number_refused", False),
        ("+4930*", "", "+4931111", "", False),
        ("+4930*", "+4930111", "+4930111", "", True),
        ("+4930111", "+4930*", "+4930111", "number_refused", False),
        ("+49*", "+4930*", "+4930111", "", True),
        ("+4930*", "+49*", "+4930111", "number_refused", False),
        # A whole number goes before the beginning of the same digits.
        ("+4930111*", "+4930111", "+4930111", "", True),
        ("anonymous", "+49*", "anonymous", "number_refused", False),
    ],
)
def test_longer_entry_counts(refused, allowed, number, reason, is_allowed):
    both = lists(refused, allowed)
    assert (both.refusal(number), both.is_allowed(number)) == (reason, is_allowed)


def test_where_only_some_are_allowed_nobody_else_may_call():
    some = lists("", "+49* anonymous", only_allowed=True)
    assert some.refusal("+4930111") == some.refusal("anonymous") == ""
    assert some.refusal("+14155550100") == "number_not_allowed"


def test_without_a_file_everybody_may_call():
    found: list[tuple[str, str]] = []
    assert read_number_lists("", found) == NumberLists()
    assert found == []


def test_file_is_read(tmp_path):
    path = tmp_path / "numbers.toml"
    path.write_text('refused = ["+1900*", "anonymous"]\nallowed = ["+4930111222"]\nonly_allowed = true\n')
    settings = load_settings({**GOOD, "BRIDGE_NUMBERS_FILE": str(path)})
    assert settings.read_number_lists() == lists("+1900* anonymous", "+4930111222", only_allowed=True)


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ('refused = ["4930111222"]', "refused.0", "must be a number such as +14155550100"),
        ('allowed = ["+49 30 111222"]', "allowed.0", "must be a number such as +14155550100"),
        ('refused = ["*"]', "refused.0", "must be a number such as +14155550100"),
        ('refused = "+4930111222"', "refused", "must be a list"),
        ("only_allowed = 1", "only_allowed", "must be true or false"),
        ("refusd = []", "refusd", "unknown key; did you mean refused?"),
        ('refused = ["+49*"]\nallowed = ["+49*"]', "refused", "+49* is in allowed too"),
        ("only_allowed = true", "only_allowed", "needs numbers in allowed, or nobody may call"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, content, place, words):
    path = tmp_path / "numbers.toml"
    path.write_text(content)
    [problem] = problems(**GOOD, BRIDGE_NUMBERS_FILE=str(path))
    assert problem.startswith(f"BRIDGE_NUMBERS_FILE: {path}: {place}: {words}")


def test_file_that_cannot_be_read_is_said(tmp_path):
    [problem] = problems(**GOOD, BRIDGE_NUMBERS_FILE=str(tmp_path / "missing.toml"))
    assert problem.startswith(
        "BRIDGE_NUMBERS_FILE: cannot be read: No such file or directory; look at its path"
    )


def test_every_problem_of_a_file_is_said(tmp_path):
    path = tmp_path / "numbers.toml"
    path.write_text('refused = ["a", "b"]\nx = 1\n')
    assert len(problems(**GOOD, BRIDGE_NUMBERS_FILE=str(path))) == 3


@pytest.mark.parametrize("refusal", ["reject", "hangup", "say:No", "dial:+14155550100"])
def test_what_refused_callers_get_is_a_setting(refusal):
    assert load_settings({**GOOD, "BRIDGE_REFUSAL": refusal}).bridge_refusal == refusal


@pytest.mark.parametrize("refusal", ["busy", "say:", "dial:5"])
def test_refusal_that_is_none_is_said(refusal):
    assert problems(**GOOD, BRIDGE_REFUSAL=refusal) == [
        "BRIDGE_REFUSAL: must be say:TEXT, dial:+E164NUMBER, hangup or reject"
    ]
