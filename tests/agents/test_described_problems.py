"""Wrong tables: every problem at once, with its place, and with what would be right."""

from __future__ import annotations

import tomllib

import pytest
from wrong_tables import GOOD, SESSION, WRONG

from bridge.agents.tables import read_table

CANARY = "canary-7f3a"


def problems(content: str) -> list[tuple[str, str]]:
    described, found = read_table(tomllib.loads(content))
    assert (described is None) is bool(found)
    return [(".".join(map(str, place)), text) for place, text in found]


@pytest.mark.parametrize(
    ("content", "place", "words"), WRONG, ids=[f"{place}: {words}" for _, place, words in WRONG]
)
def test_wrong_table_has_one_problem_with_its_place_and_what_would_be_right(content, place, words):
    [(found, text)] = problems(content)
    assert found == place
    assert text.startswith(words)


def test_library_is_not_heard_in_any_problem():
    for content, _, _ in WRONG:
        for _, text in problems(content):
            assert "Input should" not in text
            assert "Value error" not in text


def test_problems_of_every_kind_are_reported_together():
    content = (
        GOOD
        + f"""
    interupt = "{CANARY}"
    sample_rate = 16000
    keepalive_s = "{CANARY}"
    first = ["{{whom}}"]
    """
    )
    assert sorted(place for place, _ in problems(content)) == [
        "first.0",
        "interupt",
        "keepalive_s",
        "sample_rate",
    ]
    assert CANARY not in str(problems(content))


def test_what_follows_from_another_problem_is_left_out():
    assert [place for place, _ in problems("url = 'wss://h'\nto_agent = 5\nfrom_agent = { path = 'a' }")] == [
        "to_agent"
    ]


@pytest.mark.parametrize("content", [5, "text", [], None])
def test_what_is_no_table_is_refused(content):
    assert read_table(content) == (None, [((), "must be a table: { ... }")])


@pytest.mark.parametrize(
    "more",
    [
        "",
        "to_agent_encoding = 'pcm16'\nto_agent_rate = 48000\nfrom_agent_encoding = 'alaw'",
        "encoding = 'pcm16'\nsample_rate = 48000",
        "first = ['{history} {env.A} {file.A} {form.A-B} {param.A} {value.A!} {stream_sid} {{other}}']",
        SESSION + "headers = { A = '{env.KEY}' }",
        "answers = [{ match = 'a', answer = '{anything.of[0].it} {env.A}' }]",
        "item = 'id'\nheard = '{item} {heard_ms}'\nturn_id = 'id'",
    ],
)
def test_right_table_has_no_problem(more):
    assert problems(GOOD + more) == []


def test_whole_address_may_come_from_the_reply():
    assert problems(GOOD.replace("wss://h", "{session.data.id}") + SESSION) == []
