"""The public face: what `import bridge` gives, and what it leaves unloaded."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import bridge
from bridge.agents import agent
from bridge.server.server import Server
from bridge.settings import load_settings

FOR_AN_AGENT = {"Agent", "AgentModule", "AgentSettings", "Dialogue", "JsonDialogue", "Envelope", "SpanFinder"}


def run(code: str) -> list[str]:
    """The words that a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.parametrize("name", bridge.__all__)
def test_public_name_is_there_and_is_listed(name):
    assert getattr(bridge, name) is not None
    assert name in dir(bridge)


def test_public_names_are_those_of_their_rooms():
    assert bridge.Server is Server
    assert bridge.load_settings is load_settings
    assert bridge.Agent is agent.Agent
    assert bridge.__version__ == importlib.metadata.version("voice-bridge")


def test_every_event_and_part_of_an_agent_is_public():
    events = {kind.__name__ for kind in agent.Event.__args__}
    records = {"AudioFormat", "CallInfo", "Endpoint", "Resources", "SessionError", "StreamInfo"}
    assert events | records | FOR_AN_AGENT <= set(bridge.__all__)


def test_type_checkers_see_the_same_names():
    [block] = [node for node in ast.parse(Path(bridge.__file__).read_text()).body if isinstance(node, ast.If)]
    imported = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported | {"__version__"} == set(bridge.__all__)


def test_import_loads_no_room():
    loaded = set(
        run("import sys; before = set(sys.modules); import bridge; print(*set(sys.modules) - before)")
    )
    assert {name for name in loaded if name.startswith(("bridge", "_codec"))} == {"bridge"}
    assert not loaded & {"pydantic", "aiohttp", "structlog", "picows", "importlib.metadata"}


def test_name_loads_its_room_and_no_more():
    loaded = set(run("import sys, bridge; bridge.Agent; print(*sys.modules)"))
    assert "bridge.agents.agent" in loaded
    assert not any(name.startswith(("bridge.server", "bridge.call", "bridge.http")) for name in loaded)


@pytest.mark.parametrize("name", ["Agents", "_Agent", "__path", "agent"])
def test_unknown_name_is_no_attribute(name):
    with pytest.raises(AttributeError, match=f"module 'bridge' has no attribute '{name}'"):
        getattr(bridge, name)
