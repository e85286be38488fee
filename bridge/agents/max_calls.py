"""Limits of calls: of each agent, by a setting or by its table, and of each route."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator

from bridge.agents.routing import Route
from bridge.agents.setting_types import quoted
from bridge.agents.toml_file import Problem

PAIR = re.compile(r"([A-Za-z0-9_-]{1,64})=([1-9][0-9]{0,5})")


def _parsed(text: str) -> dict[str, int]:
    limits: dict[str, int] = {}
    for pair in filter(None, text.split(",")):
        found = PAIR.fullmatch(pair.strip())
        if found is None or found[1] in limits:
            raise ValueError("must be agents with their most calls, each once, e.g. retell-sip=20,openai=100")
        limits[found[1]] = int(found[2])
    return limits


def _checked(text: str) -> str:
    _parsed(text)
    return text


# The setting's text.
MaxCallsOf = Annotated[str, AfterValidator(_checked)]


def key_of_agent(name: str) -> str:
    """An agent's key among the limits."""
    return f"agent:{name}"


def key_of_route(name: str) -> str:
    """A route's key among the limits."""
    return f"route:{name}"


def limits_of(
    text: str,
    names: Sequence[str],
    tables: Mapping[str, int | None],
    routes: Sequence[Route],
    problems: list[Problem],
) -> dict[str, int]:
    """
    All limits by their keys.

    Args:
        text: The setting; one that is malformed is reported elsewhere.
        names: The agents in use.
        tables: Those of them that are tables, each with its own limit.
        problems: Gets what is wrong.
    """
    try:
        of_setting = _parsed(text)
    except ValueError:
        of_setting = {}
    for name in of_setting:
        problem = ""
        if name not in names:
            problem = f"no agent in use is named {quoted(name)}; in use: {', '.join(sorted(names))}"
        elif tables.get(name) is not None:
            problem = f"agent {name} has max_calls in its table; leave one of the two out"
        if problem:
            problems.append(("bridge_max_calls_of", f"BRIDGE_MAX_CALLS_OF: {problem}"))
    limits = {key_of_agent(name): most for name, most in of_setting.items()}
    limits |= {key_of_agent(name): most for name, most in tables.items() if most is not None}
    limits |= {key_of_route(route.name): most for route in routes if (most := route.max_calls) is not None}
    return limits
