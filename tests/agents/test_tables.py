"""The tables of the agents file: those that disable an agent, in words and in the directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.agents.directory import Directory, DirectoryError, open_directory

KINDS = {
    "socket": 'url = "wss://h"\nbinary = true',
    "realtime": 'protocol = "openai-realtime"\nurl = "wss://h"',
    "dial": 'dial = { sip = "sip:me@example.com" }',
}


def directory(folder: Path, content: str, *default: str, **variables: str) -> Directory:
    file = folder / "agents.toml"
    file.write_text(content)
    return open_directory(default or ("echo",), "", str(file), variables)


def problems(folder: Path, content: str) -> list[str]:
    with pytest.raises(DirectoryError) as caught:
        directory(folder, content)
    return [text.partition("agents.toml: ")[2] for _, text in caught.value.problems]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_table_of_each_kind_can_be_disabled(tmp_path, kind):
    assert directory(tmp_path, f"[mine]\n{kind}\n", "mine").disabled == frozenset()
    assert directory(tmp_path, f"[mine]\n{kind}\ndisabled = false\n", "mine").disabled == frozenset()
    disabled = directory(tmp_path, f"[mine]\n{kind}\ndisabled = true\n", "mine", "echo")
    assert disabled.disabled == {"mine"}
    # It is checked as the others are.
    assert disabled.names == {"mine", "echo"}


def test_built_in_agent_can_be_disabled_by_a_table_of_one_line(tmp_path):
    assert directory(tmp_path, "[echo]\ndisabled = true\n").disabled == {"echo"}
    assert directory(tmp_path, "[echo]\ndisabled = false\n").disabled == frozenset()


def test_disabled_agent_that_is_not_in_use_changes_nothing(tmp_path):
    assert directory(tmp_path, "[openai]\ndisabled = true\n").disabled == frozenset()


@pytest.mark.parametrize("value", ["1", '"true"', "[]"])
def test_what_is_neither_true_nor_false_is_refused(tmp_path, value):
    assert problems(tmp_path, f"[echo]\ndisabled = {value}\n") == ["echo.disabled: must be true or false"]
    table = f"[mine]\n{KINDS['socket']}\ndisabled = {value}\n"
    assert problems(tmp_path, table) == ["mine.disabled: must be true or false"]


def test_table_of_a_built_in_agent_may_say_nothing_else(tmp_path):
    [problem] = problems(tmp_path, '[echo]\ndisabled = true\nurl = "wss://h"\n')
    assert problem == (
        "echo: is the name of a built-in agent; use another, or have disabled = true or false alone in the table"
    )
