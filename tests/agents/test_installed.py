"""Agents of other distributions: which are found and imported, and the problems of those that cannot be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.agents.agent import Resources
from bridge.agents.directory import BUILT_IN, DirectoryError, open_directory

CANARY = "canary-7f3a"
AGENT = """
from pydantic import SecretStr, Field
from bridge.agents.agent import Agent, AgentModule, AgentSettings, no_session

class Settings(AgentSettings):
    acme_key: SecretStr = Field(description="from Acme's console")

def describe(settings, resources):
    return Agent(open_session=no_session)

AGENT = AgentModule(Settings, describe)
"""
MODULE = "voice_bridge_test_acme"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch) -> Iterator[Install]:
    """Installs a distribution: its entry points by name, and the source of its one module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install_one(
        agents: dict[str, str], source: str = AGENT, *, distribution: str = "acme-voice", module: str = MODULE
    ) -> None:
        info = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        lines = "".join(f"{name} = {value}\n" for name, value in agents.items())
        (info / "entry_points.txt").write_text(f"[voice_bridge.agents]\n{lines}")
        (tmp_path / f"{module}.py").write_text(source)

    yield install_one
    for name in [name for name in sys.modules if name.startswith(MODULE)]:
        del sys.modules[name]


def problems(default: str, agents_file: str = "", **variables: str) -> list[tuple[str, str]]:
    with pytest.raises(DirectoryError) as caught:
        open_directory(default.split(","), "", agents_file, variables)
    assert CANARY not in str(caught.value)
    return caught.value.problems


def test_installed_agent_answers_by_its_entry_points_name(install):
    install({"acme": f"{MODULE}:AGENT"})
    directory = open_directory(["acme", "echo"], "", "", {"acme_key": "k"})
    assert directory.names == {"acme", "echo"}
    assert directory.describe(Resources(None, 1.0)).keys() == {"acme", "echo"}


def test_route_may_name_it(install, tmp_path):
    install({"acme": f"{MODULE}:AGENT"})
    (tmp_path / "routes.toml").write_text('[[route]]\nagents = ["acme"]')
    directory = open_directory(["echo"], str(tmp_path / "routes.toml"), "", {"acme_key": "k"})
    assert directory.route("", "", datetime.now(UTC)).chain("CA1") == ("acme",)


def test_its_settings_are_checked_like_those_of_a_built_in_agent(install):
    install({"acme": f"{MODULE}:AGENT"})
    assert problems("acme") == [("acme_key", "ACME_KEY: is missing: get it from Acme's console")]


def test_agent_that_nothing_names_is_not_imported(install):
    install({"acme": f"{MODULE}:AGENT"}, "raise RuntimeError")
    assert open_directory(["echo"], "", "", {}).names == {"echo"}
    assert MODULE not in sys.modules


def test_unknown_agent_is_reported_with_the_installed_ones_among_the_others(install):
    install({"acme": f"{MODULE}:AGENT"}, "raise RuntimeError")
    [(setting, text)] = problems("parrot")
    assert setting == "bridge_agent"
    assert text == f"BRIDGE_AGENT: unknown agent 'parrot'; available: {', '.join(BUILT_IN)}, acme"


@pytest.mark.parametrize(
    ("value", "source", "reason"),
    [
        ("no_such_module:AGENT", "", "cannot be imported: No module named 'no_such_module'"),
        (f"{MODULE}:AGENT", "import no_such_module", "cannot be imported: No module named 'no_such_module'"),
        (f"{MODULE}:AGENT", "", f"cannot be imported: module '{MODULE}' has no attribute 'AGENT'"),
        (f"{MODULE}:AGENT", "AGENT = (", f"cannot be imported: '(' was never closed ({MODULE}.py, line 1)"),
        (f"{MODULE}:AGENT", f"raise ValueError('{CANARY}')", "cannot be imported: ValueError"),
        (f"{MODULE}:AGENT", f"AGENT = {{1: '{CANARY}'}}", "is not an AgentModule but of type dict"),
        (MODULE, "", "is not an AgentModule but of type module"),
    ],
)
def test_entry_point_without_an_agent_is_reported_with_its_distribution(install, value, source, reason):
    install({"acme": value}, source)
    start = f"BRIDGE_AGENT: agent acme is unavailable: {value} of distribution acme-voice "
    assert problems("acme,echo") == [("bridge_agent", start + reason)]


def test_name_of_a_built_in_agent_is_refused_even_where_nothing_names_it(install):
    install({"openai": f"{MODULE}:AGENT"}, "raise RuntimeError")
    text = "distribution acme-voice must not provide openai, a built-in agent's name"
    assert problems("echo") == [("bridge_agent", f"BRIDGE_AGENT: {text}")]
    assert MODULE not in sys.modules


def test_two_distributions_with_one_name_are_both_reported(install):
    install({"acme": f"{MODULE}:AGENT"})
    install({"acme": f"{MODULE}_b:AGENT"}, distribution="b-voice", module=f"{MODULE}_b")
    reason = "distributions acme-voice and b-voice provide an agent of this name; uninstall all but one"
    assert problems("acme") == [("bridge_agent", f"BRIDGE_AGENT: agent acme is unavailable: {reason}")]
    assert open_directory(["echo"], "", "", {}).names == {"echo"}


def test_table_must_not_take_the_name_of_an_installed_agent(install, tmp_path):
    install({"acme": f"{MODULE}:AGENT"})
    path = tmp_path / "agents.toml"
    path.write_text('[acme]\nurl = "wss://h"\nbinary = true\n')
    reason = "distribution acme-voice provides this agent; use another name"
    assert problems("echo", str(path)) == [
        ("bridge_agents_file", f"BRIDGE_AGENTS_FILE: {path}: acme: {reason}")
    ]
