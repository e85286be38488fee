"""Routes: which agents answer which calls, read from a file."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bridge.agents.toml_file import TomlFile


class Share(BaseModel):
    """A part of a route's calls."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agents: list[str] = Field(min_length=1)
    weight: float = Field(gt=0, le=1_000_000)


class Route(BaseModel):
    """
    The agents of some calls.

    ``to`` lists called numbers, ``from_prefix`` beginnings of callers' numbers; a route without either fits every
    call. If an agent of ``agents`` is unavailable, the next one is tried; ``split`` divides the calls by weight.
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
            raise ValueError("must have either agents or split")
        return self

    def fits(self, to_number: str, from_number: str) -> bool:
        """Whether the route answers a call between these numbers."""
        return (not self.to or to_number in self.to) and (
            not self.from_prefix or from_number.startswith(tuple(self.from_prefix))
        )

    def chain(self, call_sid: str) -> tuple[str, ...]:
        """Return the agents to try, in order: always the same for one call."""
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
        """All agents that the route names."""
        return {*self.agents, *(name for share in self.split for name in share.agents)}


class _RoutesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    route: list[Route] = Field(min_length=1)


def read_routes(file: TomlFile) -> list[Route]:
    """Read the routes; a file with a problem has none."""
    content = file.read()
    if content is None:
        return []
    try:
        return _RoutesFile.model_validate(content).route
    except ValidationError as error:
        file.add_errors(error)
        return []
