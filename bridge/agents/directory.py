"""
The agents by name: built in, installed beside the bridge, or described in a file; and the routes to them.

Both files can be read again during calls; a file with a problem is refused whole.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import EntryPoint
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import ValidationError

import bridge.agents.vendors
from bridge.agents.agent import Agent, AgentModule, AgentSettings, Resources
from bridge.agents.described_problems import read_model
from bridge.agents.installed import AgentLoadError, distributions, find_installed, load_installed
from bridge.agents.max_calls import limits_of
from bridge.agents.routing import DEFAULT, Route, read_routes, usual_name
from bridge.agents.setting_types import problems_of, quoted, template_texts
from bridge.agents.tables import OfModule, Table, describe_table, is_of_module, read_table
from bridge.agents.template import fill, names_in, process_values, variables_in
from bridge.agents.toml_file import Problem, TomlFile

URL = re.compile(r"(http|ws)s?://[^/?#{}]+([/?#]|$)")
# The agent that needs no service, and so costs nothing.
FREE = "echo"
BUILT_IN = tuple(
    sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(bridge.agents.vendors.__path__))
)


class DirectoryError(Exception):
    """Files or settings are wrong; ``problems`` has a setting's name and a sentence for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(text for _, text in problems))
        self.problems = list(problems)


class Directory:
    """The agents in use, checked and not yet connected to anything."""

    def __init__(
        self,
        default: Sequence[str],
        routes: Sequence[Route],
        modules: Mapping[str, tuple[AgentModule[Any], AgentSettings]],
        tables: Mapping[str, Table],
        values: Mapping[str, str],
        placeholder_variables: set[str],
        limits: Mapping[str, int],
        disabled: frozenset[str],
    ) -> None:
        # Agents in use that no call tries.
        self.disabled = disabled
        # How many calls agents and routes may have at once, by `max_calls.key_of_agent` and `max_calls.key_of_route`.
        self.limits = limits
        # Variables that placeholders name, by name in lower case.
        self.placeholder_variables = placeholder_variables
        # Of calls that no other route fits.
        self._default = Route(name=DEFAULT, agents=list(default))
        self._routes = tuple(routes)
        # Agents that are modules, each with its settings, and agents that are tables of the agents file.
        self._modules = modules
        self._tables = tables
        # Values of the process for the placeholders of texts.
        self._values = values

    @property
    def names(self) -> set[str]:
        """All agents that may answer."""
        return {*self._modules, *self._tables}

    @property
    def settings_read(self) -> dict[str, Any]:
        """The values of the settings of agents that are modules, by name in lower case."""
        return {
            field: getattr(settings, field)
            for _, settings in self._modules.values()
            for field in type(settings).model_fields
        }

    def route(self, to_number: str, from_number: str, at: datetime) -> Route:
        """Return the route of a call between these numbers at this time, which has a time zone."""
        fitting = (route for route in self._routes if route.fits(to_number, from_number, at))
        return next(fitting, self._default)

    def named(self, name: str) -> Route | None:
        """Return the route of this name, if there is one."""
        return next((route for route in (*self._routes, self._default) if route.name == name), None)

    def urls(self, name: str) -> list[str]:
        """The URLs in an agent's settings or table, if their host is known before a call."""
        if name in self._tables:
            texts: list[Any] = list(self._tables[name].texts)
        else:
            settings = self._modules[name][1]
            texts = [getattr(settings, field) for field in type(settings).model_fields]
        filled = [fill(text, self._values) for text in texts if isinstance(text, str)]
        return [text for text in filled if URL.match(text)]

    def models(self, name: str) -> list[str]:
        """The models that an agent's settings, or the queries of its URLs, name."""
        found = [text for url in self.urls(name) for text in parse_qs(urlsplit(url).query).get("model", [])]
        if name in self._modules:
            settings = self._modules[name][1]
            fields = [field for field in type(settings).model_fields if field.endswith("_model")]
            found += [str(getattr(settings, field)) for field in fields]
        return found

    def describe(self, resources: Resources) -> dict[str, Agent]:
        """Make the agents, by name."""
        resources = replace(resources, values=self._values)
        agents = {
            name: module.describe(settings, resources) for name, (module, settings) in self._modules.items()
        }
        for name, table in self._tables.items():
            agents[name] = describe_table(table, resources)
        return agents


def open_directory(
    default: Sequence[str],
    routes_file: str,
    agents_file: str,
    variables: Mapping[str, str],
    by_answer: Sequence[str] = (),
) -> Directory:
    """
    Read the files and check the settings of the agents in use.

    Args:
        default: The agents of calls that no route fits, tried in order.
        variables: All settings, by name in lower case.
        by_answer: The agents that only the answer webhook names.

    Raises:
        DirectoryError: With every problem found.
    """
    problems: list[Problem] = []
    routing = TomlFile("bridge_routes_file", routes_file, problems)
    routes = read_routes(routing)
    installed = find_installed()
    for name in sorted(installed.keys() & set(BUILT_IN)):
        text = f"{distributions(installed[name])} must not provide {name}, a built-in agent's name"
        problems.append(("bridge_agent", f"BRIDGE_AGENT: {text}"))
    tables, disabled, in_file = _read_tables(TomlFile("bridge_agents_file", agents_file, problems), installed)
    # Each agent in use, with the setting and the place that name it.
    named = [("bridge_agent", "BRIDGE_AGENT", name) for name in default]
    named += [("bridge_answer_agents", "BRIDGE_ANSWER_AGENTS", name) for name in by_answer]
    for n, route in enumerate(routes):
        place = routing.place(usual_name(n))
        named += [("bridge_routes_file", place, name) for name in sorted(route.names)]
    used = {name: tables[name] for _, _, name in named if name in tables}
    modules: dict[str, AgentModule[Any]] = {}
    # No problem that only follows from one in the file: of a wrong table, or of a file that cannot be read.
    is_unread = not in_file and any(setting == "bridge_agents_file" for setting, _ in problems)
    for setting, place, name in named:
        is_excused = (is_unread or name in in_file) and name not in (*BUILT_IN, *installed)
        if name not in tables and not is_excused:
            try:
                modules[name] = _load_module(name, installed, tables)
            except AgentLoadError as error:
                problems.append((setting, f"{place}: {error}"))
    with_settings = {
        name: (module, _read_settings(module.settings, variables, problems))
        for name, module in modules.items()
    }
    texts = {f"agent {name} in {agents_file}": table.texts for name, table in used.items()}
    texts |= {f"agent {name}": template_texts(settings) for name, (_, settings) in with_settings.items()}
    values: dict[str, str] = {}
    for user, of_user in texts.items():
        found, unavailable = process_values(variables, names_in(of_user))
        values |= found
        problems += [
            (variable, f"{variable.upper()}: {reason}: {user} uses it") for variable, reason in unavailable
        ]
    limits = limits_of(
        variables.get("bridge_max_calls_of", ""),
        [*used, *modules],
        {name: table.max_calls for name, table in used.items()},
        routes,
        problems,
    )
    if problems:
        raise DirectoryError(list(dict.fromkeys(problems)))
    texts |= {name: table.texts for name, table in tables.items()}
    named_variables = {variable for of_user in texts.values() for variable in variables_in(of_user)}
    disabled &= {*used, *modules}
    return Directory(
        default, routes, with_settings, used, values, named_variables, limits, frozenset(disabled)
    )


def load_built_in(name: str) -> AgentModule[Any]:
    """Load the module of a built-in agent."""
    module = importlib.import_module(f"bridge.agents.vendors.{name.replace('-', '_')}")
    agent: AgentModule[Any] = module.AGENT
    return agent


def _load_module(
    name: str, installed: Mapping[str, Sequence[EntryPoint]], tables: Mapping[str, Table]
) -> AgentModule[Any]:
    if name in BUILT_IN:
        return load_built_in(name)
    if name in installed:
        return load_installed(name, installed[name])
    available = ", ".join([*BUILT_IN, *sorted(installed.keys() - set(BUILT_IN)), *tables])
    raise AgentLoadError(f"unknown agent {quoted(name)}; available: {available}")


def _read_settings(
    kind: type[AgentSettings], variables: Mapping[str, str], problems: list[Problem]
) -> AgentSettings:
    given = {field: variables[field] for field in kind.model_fields if variables.get(field)}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problems += problems_of(kind, error, given)
        return AgentSettings()


def _read_tables(
    file: TomlFile, installed: Mapping[str, Sequence[EntryPoint]]
) -> tuple[dict[str, Table], set[str], set[str]]:
    """Read the agents of a file, the names of those that are disabled, and all names in it."""
    tables: dict[str, Table] = {}
    disabled = set()
    in_file = file.read() or {}
    for name, content in in_file.items():
        if (name in BUILT_IN or name in installed) and is_of_module(content):
            of_module, wrong = read_model(OfModule, content)
            for place, text in wrong:
                file.add_problem(text, name, *place)
            if of_module is not None and of_module.disabled:
                disabled.add(name)
            continue
        if name in BUILT_IN:
            text = "is the name of a built-in agent; use another, or have disabled = true or false alone in the table"
            file.add_problem(text, name)
            continue
        if name in installed:
            file.add_problem(f"{distributions(installed[name])} provides this agent; use another name", name)
            continue
        table, wrong = read_table(content)
        for place, text in wrong:
            file.add_problem(text, name, *place)
        if table is not None:
            tables[name] = table
            if table.disabled:
                disabled.add(name)
    return tables, disabled, set(in_file)
