"""Agents of other installed distributions, found by entry points in the group ``voice_bridge.agents``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from bridge.agents.agent import AgentModule

GROUP = "voice_bridge.agents"


class AgentLoadError(Exception):
    """An agent is unknown or cannot be loaded; the text says why."""


def find_installed() -> Mapping[str, Sequence[EntryPoint]]:
    """Return the entry points by agent's name; nothing is imported."""
    found: defaultdict[str, list[EntryPoint]] = defaultdict(list)
    for entry_point in entry_points(group=GROUP):
        found[entry_point.name].append(entry_point)
    return found


def load_installed(name: str, candidates: Sequence[EntryPoint]) -> AgentModule[Any]:
    """
    Import an agent.

    Args:
        candidates: All entry points with this name: more than one are ambiguous.

    Raises:
        AgentLoadError: The agent is unavailable; the text names the distribution.
    """
    unavailable = f"agent {name} is unavailable"
    if len(candidates) > 1:
        raise AgentLoadError(
            f"{unavailable}: {distributions(candidates)} provide an agent of this name; uninstall all but one"
        )
    [entry_point] = candidates
    source = f"{unavailable}: {entry_point.value} of {distributions(candidates)}"
    try:
        loaded = entry_point.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        raise AgentLoadError(f"{source} cannot be imported: {error}") from None
    except Exception as error:
        # Without the text, which may hold a value from the environment.
        raise AgentLoadError(f"{source} cannot be imported: {type(error).__name__}") from None
    if not isinstance(loaded, AgentModule):
        raise AgentLoadError(f"{source} is not an AgentModule but of type {type(loaded).__name__}")
    return loaded


def distributions(candidates: Sequence[EntryPoint]) -> str:
    """Name the distributions of entry points, for a message."""
    names = sorted(point.dist.name if point.dist else "an unknown one" for point in candidates)
    return f"distribution{'s' * (len(names) > 1)} {' and '.join(names)}"
