"""
Who can answer a call, and who does: the agents by name, those of a settings file, and the routes.

Both files can be read again while calls are up; a bad one is refused whole.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

import bridge.agents.vendors
from bridge.agents.agent import Agent, AgentModule, AgentSettings, Resources
from bridge.agents.described import Description, describe_table
from bridge.agents.setting_types import problems_of, quoted

# Answers without a service behind it.
FREE = "echo"
BUILT_IN = tuple(
    sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(bridge.agents.vendors.__path__))
)


class DirectoryError(Exception):
    """Files or settings that cannot work; ``problems`` are a setting's name and a sentence each."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(text for _, text in problems))
        self.problems = list(problems)


class Share(BaseModel):
    """A part of a route's calls."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agents: list[str] = Field(min_length=1)
    weight: float = Field(gt=0, le=1_000_000)


class Route(BaseModel):
    """
    Some calls, and who answers them.

    ``to`` are called numbers, ``from_prefix`` beginnings of the caller's; without either it fits every call. Where
    an agent of ``agents`` cannot be had, the next one is tried; ``split`` divides the calls by weight.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: list[str] = []
    from_prefix: list[str] = []
    agents: list[str] = []
    split: list[Share] = []

    @field_validator("to", "from_prefix", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_agents(self) -> Route:
        if bool(self.agents) == bool(self.split):
            raise ValueError("either agents or split says who answers")
        return self

    def fits(self, to_number: str, from_number: str) -> bool:
        """Whether this is the route of such a call."""
        return (not self.to or to_number in self.to) and (
            not self.from_prefix or from_number.startswith(tuple(self.from_prefix))
        )

    def chain(self, call_sid: str) -> tuple[str, ...]:
        """Who answers, in order; the same for a call whenever it is asked."""
        if not self.split:
            return tuple(self.agents)
        draw = int.from_bytes(hashlib.sha256(call_sid.encode()).digest()[:8]) / 2**64
        left = draw * sum(share.weight for share in self.split)
        for share in self.split:
            left -= share.weight
            if left < 0:
                return tuple(share.agents)
        return tuple(self.split[-1].agents)

    @property
    def names(self) -> set[str]:
        """All agents that it names."""
        return {*self.agents, *(name for share in self.split for name in share.agents)}


class _RoutesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    route: list[Route] = Field(min_length=1)


class Directory:
    """The agents that are in use, checked and not yet connected to anything."""

    def __init__(
        self,
        default: Sequence[str],
        routes: Sequence[Route],
        built_in: Mapping[str, tuple[AgentModule[Any], AgentSettings]],
        tables: Mapping[str, Description],
        secrets: Mapping[str, str],
    ) -> None:
        self._default = tuple(default)
        self._routes = tuple(routes)
        self._built_in = built_in
        self._tables = tables
        self._secrets = secrets

    @property
    def names(self) -> set[str]:
        """All agents that may answer."""
        return {*self._built_in, *self._tables}

    def chain(self, call_sid: str, to_number: str, from_number: str) -> tuple[str, ...]:
        """Who answers a call, in order."""
        for route in self._routes:
            if route.fits(to_number, from_number):
                return route.chain(call_sid)
        return self._default

    def describe(self, resources: Resources) -> dict[str, Agent]:
        """Make the agents, by name."""
        agents = {
            name: module.describe(settings, resources) for name, (module, settings) in self._built_in.items()
        }
        for name, table in self._tables.items():
            agents[name] = describe_table(name, table, self._secrets, resources)
        return agents


def open_directory(
    default: Sequence[str], routes_file: str, agents_file: str, variables: Mapping[str, str]
) -> Directory:
    """
    Read the files and check all that the agents in use want.

    Args:
        default: Who answers where no route fits.
        variables: All settings there are, by name in lower case.

    Raises:
        DirectoryError: With every problem found.
    """
    problems: list[tuple[str, str]] = []
    routes: list[Route] = []
    tables: dict[str, Description] = {}
    if routes_file:
        routes = _read_routes(routes_file, problems)
    if agents_file:
        tables = _read_tables(agents_file, problems)
    modules: dict[str, AgentModule[Any]] = {}
    used: dict[str, Description] = {}
    named = [("bridge_agent", "BRIDGE_AGENT", name) for name in default]
    for n, route in enumerate(routes):
        place = f"BRIDGE_ROUTES_FILE: {routes_file}: route.{n}"
        named += [("bridge_routes_file", place, name) for name in sorted(route.names)]
    for setting, place, name in named:
        if name in tables:
            used[name] = tables[name]
        elif name in BUILT_IN:
            modules[name] = _load_built_in(name)
        else:
            known = ", ".join([*BUILT_IN, *tables])
            problems.append((setting, f"{place}: there is no agent {quoted(name)}; there are: {known}"))
    built_in = {
        name: (module, _read_settings(module.settings, variables, problems))
        for name, module in modules.items()
    }
    for name, table in used.items():
        for variable in sorted(table.variables - variables.keys()):
            problems.append((variable, f"{variable.upper()}: is missing: {agents_file}: {name} names it"))
    if problems:
        raise DirectoryError(list(dict.fromkeys(problems)))
    # In either spelling, as settings are.
    secrets = {f"env.{key}": text for name, text in variables.items() for key in (name, name.upper())}
    return Directory(default, routes, built_in, used, secrets)


def _load_built_in(name: str) -> AgentModule[Any]:
    module = importlib.import_module(f"bridge.agents.vendors.{name.replace('-', '_')}")
    agent: AgentModule[Any] = module.AGENT
    return agent


def _read_settings(
    kind: type[AgentSettings], variables: Mapping[str, str], problems: list[tuple[str, str]]
) -> AgentSettings:
    given = {field: variables[field] for field in kind.model_fields if variables.get(field)}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problems += problems_of(kind, error, given)
        return AgentSettings()


def _read_toml(setting: str, path: str, problems: list[tuple[str, str]]) -> dict[str, Any] | None:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        # Without the path, which may be a secret in the wrong variable.
        problems.append((setting, f"{setting.upper()}: cannot be read: {error.strerror}"))
        return None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append((setting, f"{setting.upper()}: {path}: cannot be read: {error}"))
        return None


def _read_routes(path: str, problems: list[tuple[str, str]]) -> list[Route]:
    setting = "bridge_routes_file"
    content = _read_toml(setting, path, problems)
    if content is None:
        return []
    try:
        return _RoutesFile.model_validate(content).route
    except ValidationError as error:
        problems += _told(setting, path, error, ())
        return []


def _read_tables(path: str, problems: list[tuple[str, str]]) -> dict[str, Description]:
    setting = "bridge_agents_file"
    tables: dict[str, Description] = {}
    for name, content in (_read_toml(setting, path, problems) or {}).items():
        if name in BUILT_IN:
            problems.append(
                (setting, f"{setting.upper()}: {path}: {name} is a built-in agent: name it otherwise")
            )
            continue
        try:
            tables[name] = Description.model_validate(content)
        except ValidationError as error:
            problems += _told(setting, path, error, (name,))
    return tables


def _told(setting: str, path: str, error: ValidationError, above: tuple[str, ...]) -> list[tuple[str, str]]:
    return [
        (
            setting,
            f"{setting.upper()}: {path}: {'.'.join(map(str, (*above, *item['loc'])))}: "
            f"{item['msg'].removeprefix('Value error, ')}",
        )
        for item in error.errors(include_url=False, include_context=False)
    ]
