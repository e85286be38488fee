"""Limits of calls: the setting, the keys of tables and routes, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from bridge.agents.directory import Directory, DirectoryError, open_directory
from bridge.agents.max_calls import MaxCallsOf

TABLE = """
[mine]
url = "wss://h"
binary = true
max_calls = 7
"""
ROUTES = """
[[route]]
to = ["+14155550101"]
agents = ["echo"]
[[route]]
to = ["+14155550102"]
agents = ["mine"]
max_calls = 3
"""


def directory(tmp_path: Path, text: str = "", table: str = TABLE, routes: str = ROUTES) -> Directory:
    (tmp_path / "agents.toml").write_text(table)
    (tmp_path / "routes.toml").write_text(routes)
    variables = {"bridge_max_calls_of": text}
    return open_directory(["echo"], str(tmp_path / "routes.toml"), str(tmp_path / "agents.toml"), variables)


def problems(*arguments: str | Path) -> list[str]:
    with pytest.raises(DirectoryError) as caught:
        directory(*arguments)
    return [text for _, text in caught.value.problems]


def test_limits_come_from_the_setting_the_table_and_the_route(tmp_path):
    limits = directory(tmp_path, "echo=20").limits
    assert limits == {"agent:echo": 20, "agent:mine": 7, "route:route-2": 3}


@pytest.mark.parametrize(
    "kind", ['protocol = "openai-realtime"\nurl = "wss://h"', 'dial = { sip = "sip:a@b.example" }']
)
def test_tables_of_each_kind_may_have_a_limit(tmp_path, kind):
    table = f"[mine]\n{kind}\nmax_calls = 4\n"
    assert directory(tmp_path, "", table).limits["agent:mine"] == 4


def test_without_a_limit_there_is_none(tmp_path):
    routes = ROUTES.replace("max_calls = 3", "")
    assert directory(tmp_path, "", TABLE.replace("max_calls = 7", ""), routes).limits == {}


@pytest.mark.parametrize("text", ["", "openai=1", "retell-sip=20,openai=100", "a=1, b=2", "a=999999"])
def test_setting_has_agents_with_numbers(text):
    assert TypeAdapter(MaxCallsOf).validate_python(text) == text


@pytest.mark.parametrize(
    "text", ["openai", "openai=", "=1", "a=0", "a=-1", "a=1.5", "a=1000000", "a=1,a=2", "a:1"]
)
def test_setting_that_is_malformed_says_what_is_right(text):
    with pytest.raises(ValidationError, match=r"e\.g\. retell-sip=20,openai=100"):
        TypeAdapter(MaxCallsOf).validate_python(text)


def test_agent_that_is_not_in_use_is_a_problem_which_names_those_that_are(tmp_path):
    [problem] = problems(tmp_path, "openai=1,echo=2")
    assert problem == "BRIDGE_MAX_CALLS_OF: no agent in use is named 'openai'; in use: echo, mine"


def test_two_limits_of_one_agent_are_a_problem(tmp_path):
    [problem] = problems(tmp_path, "mine=1")
    assert "agent mine has max_calls in its table; leave one of the two out" in problem


@pytest.mark.parametrize("most", ["0", "-1", "1.5", '"20"', "1000000", "true"])
def test_limit_that_is_no_number_of_calls_is_a_problem_at_its_place(tmp_path, most):
    of_table, *_ = problems(tmp_path, "", TABLE.replace("max_calls = 7", f"max_calls = {most}"))
    assert "agents.toml: mine.max_calls: " in of_table
    [of_route] = problems(tmp_path, "", TABLE, ROUTES.replace("max_calls = 3", f"max_calls = {most}"))
    assert "routes.toml: route-2.max_calls: " in of_route
