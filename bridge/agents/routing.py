"""Routes: which agents answer which calls, read from a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from bridge.agents.described_problems import read_model
from bridge.agents.hours import Hours
from bridge.agents.setting_types import Announcement, CallerId, Fallback
from bridge.agents.toml_file import TomlFile

# The name of the agents that answer where no route fits.
DEFAULT = "default"
NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
# The shape of all languages of Twilio's <Say>, e.g. de-DE, arb, cmn-CN, es-419.
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")
# Addresses like sip:, client: and whatsapp: have a colon; Twilio writes all others as E.164, and a caller without a
# number as a word.
CALLED = re.compile(r"\+[1-9][0-9]{6,14}|[^:]+:.*")
BEGINNING = re.compile(r"\+[1-9][0-9]{0,14}|[^:]+:.*|[A-Za-z]+")


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError("must be 1 to 40 letters, digits, hyphens and underscores")
    return text


def _called(text: str) -> str:
    if not CALLED.fullmatch(text):
        raise ValueError(
            "must be + and 7 to 15 digits without spaces and without a 0 in front, e.g. +14155550100, or an address "
            "like sip:sales@example.com"
        )
    return text


def _beginning(text: str) -> str:
    if not BEGINNING.fullmatch(text):
        raise ValueError(
            "must be + and 1 to 15 digits without spaces and without a 0 in front, e.g. +49, a beginning like sip:, or "
            "a word like anonymous"
        )
    return text


def _language(text: str) -> str:
    if not LANGUAGE.fullmatch(text):
        raise ValueError("must be a language of Twilio's <Say>, e.g. en-GB, de-DE or cmn-CN")
    return text


def _time_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            "must be a time zone that this machine knows, e.g. Europe/Berlin; its package tzdata has them"
        ) from None
    return text


class Share(BaseModel):
    """A part of a route's calls."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    agents: list[str] = Field(min_length=1)
    weight: float = Field(gt=0, le=1_000_000)


class Route(BaseModel):
    """
    The agents of some calls, and what else the operator chooses for these calls.

    ``to`` lists called numbers, ``from_prefix`` beginnings of callers' numbers, ``hours`` times in ``time_zone``; a
    route without any fits every call. If an agent of ``agents`` is unavailable, the next one is tried; ``split``
    divides the calls by weight.

    Attributes:
        name: For logs; unique.
        fallback: In place of ``BRIDGE_FALLBACK``; empty for that.
        announce: In place of ``BRIDGE_ANNOUNCE``; empty for that.
        language: Of the words of ``fallback`` and ``announce``; empty for Twilio's default.
        record: Whether its calls are recorded, where calls are.
        caller_id: The number that a dialled party is shown; empty for the caller's.
        max_calls: The most calls at once; beyond them callers get the fallback.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_name)] = ""
    to: list[Annotated[str, AfterValidator(_called)]] = []
    from_prefix: list[Annotated[str, AfterValidator(_beginning)]] = []
    hours: list[Annotated[Hours, BeforeValidator(Hours.of)]] = []
    time_zone: Annotated[str, AfterValidator(_time_zone)] = ""
    agents: list[str] = []
    split: list[Share] = []
    fallback: Fallback = ""
    announce: Announcement = ""
    language: Annotated[str, AfterValidator(_language)] = ""
    record: bool = Field(default=True, strict=True)
    caller_id: CallerId = ""
    max_calls: int | None = Field(default=None, ge=1, le=999_999, strict=True)

    @field_validator("to", "from_prefix", "hours", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_agents(self) -> Route:
        if bool(self.agents) == bool(self.split):
            raise ValueError("must have either agents or split")
        return self

    @model_validator(mode="after")
    def _is_whole(self) -> Route:
        if self.hours and not self.time_zone:
            raise ValueError("hours need a time_zone, e.g. Europe/Berlin")
        if self.time_zone and not self.hours:
            raise ValueError("time_zone needs hours, e.g. Mon-Fri 09:00-17:30")
        if self.language and not (self.announce or self.fallback.startswith("say:")):
            raise ValueError(
                "language needs a fallback of say:TEXT or an announce, which it is the language of"
            )
        return self

    def fits(self, to_number: str, from_number: str, at: datetime) -> bool:
        """Whether the route answers a call between these numbers at this time, which has a time zone."""
        return (
            (not self.to or to_number in self.to)
            and (not self.from_prefix or from_number.startswith(tuple(self.from_prefix)))
            and (not self.hours or self._is_open(at.astimezone(ZoneInfo(self.time_zone))))
        )

    def _is_open(self, at: datetime) -> bool:
        return any(hours.include(at) for hours in self.hours)

    def covers(self, other: Route) -> bool:
        """Whether the route fits every call that another one fits."""
        beginnings = tuple(self.from_prefix)
        return (
            (not self.to or (bool(other.to) and set(other.to) <= set(self.to)))
            and (
                not beginnings
                or (
                    bool(other.from_prefix) and all(text.startswith(beginnings) for text in other.from_prefix)
                )
            )
            and (not self.hours or (self.hours, self.time_zone) == (other.hours, other.time_zone))
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
    """Read the routes, each with a name; a file that cannot be read has none."""
    content = file.read()
    if content is None:
        return []
    read, problems = read_model(_RoutesFile, content)
    for place, text in problems:
        match place:
            case ("route", int(n), *keys):
                file.add_problem(text, usual_name(n), *keys)
            case _:
                file.add_problem(text, *place)
    if read is None:
        return []
    routes = [
        route if route.name else route.model_copy(update={"name": usual_name(n)})
        for n, route in enumerate(read.route)
    ]
    _check_together(routes, file)
    return routes


def usual_name(n: int) -> str:
    """The name of the route at an index where it has none of its own, and its place in messages about the file."""
    return f"route-{n + 1}"


def _check_together(routes: Sequence[Route], file: TomlFile) -> None:
    """Add a problem for each route that another one makes useless."""
    for n, route in enumerate(routes):
        before = routes[:n]
        if route.name == DEFAULT:
            file.add_problem(
                "is the name of the agents where no route fits; use another", usual_name(n), "name"
            )
        if route.name in {earlier.name for earlier in before}:
            file.add_problem(f"another route has the name {route.name} too", usual_name(n), "name")
        covering = next((earlier for earlier in before if earlier.covers(route)), None)
        if covering is not None:
            file.add_problem(
                f"answers no call, because the one named {covering.name} fits all of its calls and stands before it: "
                "put it before that one",
                usual_name(n),
            )
