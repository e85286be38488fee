"""Places in JSON messages, and the shapes by which messages are recognised."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

_ITEM = r"\[(?:[0-9]{1,6}|\*)\]"
_KEY = rf"[^.\[\]]+(?:{_ITEM})*"
PATH = re.compile(rf"{_KEY}(?:\.{_KEY})*")
STEP = re.compile(r"([^.\[\]]+)|\[([0-9]+|\*)\]")
PATH_WORDS = 'must be keys joined by dots, with [0] for an item of a list, e.g. "event.parts[0].data"'
MATCH_WORDS = (
    'must be values at places, e.g. { type = "audio" } or { done = { exists = true } }, a whole message as a text, '
    "or a list of these"
)

Fixed = str | int | bool
# A key, the number of an item, or every item.
Step = str | int | None


@dataclass(frozen=True, slots=True)
class Path:
    """A place in a message; with ``[*]``, which stands for every item of a list, several places."""

    text: str
    steps: tuple[Step, ...]

    @property
    def is_one(self) -> bool:
        """Whether there is at most one value at the place."""
        return None not in self.steps

    @property
    def has_keys_only(self) -> bool:
        """Whether no item of a list is on the way."""
        return all(isinstance(step, str) for step in self.steps)

    def values(self, fields: Any, *, reads_json: bool = False) -> list[Any]:
        """
        The values there, without JSON's null.

        Args:
            fields: Any JSON value.
            reads_json: A text on the way is read as JSON.
        """
        found = [fields]
        for step in self.steps:
            found = [below for value in found for below in _below(value, step, reads_json)]
        return [value for value in found if value is not None]

    def value(self, fields: Any, *, reads_json: bool = False) -> Any:
        """The first value there; None if there is none."""
        return next(iter(self.values(fields, reads_json=reads_json)), None)


def _below(value: Any, step: Step, reads_json: bool) -> list[Any]:
    if reads_json and isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return []
    match value, step:
        case dict(), str():
            return [value[step]] if step in value else []
        case list(), int():
            return value[step : step + 1]
        case list(), None:
            return value
    return []


@lru_cache(maxsize=4096)
def path_of(text: str) -> Path:
    """
    Read a path.

    Raises:
        ValueError: It is none; the text says what would be right.
    """
    if not PATH.fullmatch(text):
        raise ValueError(PATH_WORDS)
    steps = (key or (None if item == "*" else int(item)) for key, item in STEP.findall(text))
    return Path(text, tuple(steps))


def read_path(raw: object) -> Path:
    """
    Read the path of one place, as a file has it.

    Raises:
        ValueError: It is none.
    """
    path = read_paths(raw)
    if not path.is_one:
        raise ValueError("must be one place, so it cannot have [*]")
    return path


def read_paths(raw: object) -> Path:
    """Read the path of one or several places, likewise."""
    if not isinstance(raw, str):
        raise ValueError(PATH_WORDS)
    return path_of(raw)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must be at a place: one of ``values``; or, if ``exists`` is not None, anything or nothing."""

    values: tuple[Fixed, ...] = ()
    exists: bool | None = None

    def fits(self, found: Any) -> bool:
        """Whether a value, None for none, is what must be there."""
        if self.exists is not None:
            return (found is not None) is self.exists
        return any(is_same(found, value) for value in self.values)

    def excludes(self, other: Wanted) -> bool:
        """Whether nothing fits both."""
        if self.exists is None and other.exists is None:
            return not any(is_same(mine, its) for mine in self.values for its in other.values)
        return (self.exists is False) is not (other.exists is False)


Shape = Mapping[Path, Wanted]


def shape_fits(shape: Shape, fields: Any) -> bool:
    """Whether a parsed message has this shape."""
    return all(wanted.fits(path.value(fields)) for path, wanted in shape.items())


def shapes_exclude(one: Shape, other: Shape) -> bool:
    """Whether no message can have both shapes."""
    return any(path in other and wanted.excludes(other[path]) for path, wanted in one.items())


@dataclass(frozen=True, slots=True)
class Match:
    """Messages that are one of ``texts``, or have one of ``shapes``."""

    texts: frozenset[bytes]
    shapes: tuple[Shape, ...]

    def fits(self, message: bytes, fields: Any) -> bool:
        """Whether a message, and what it is when it is parsed, is one of these."""
        return message in self.texts or any(shape_fits(shape, fields) for shape in self.shapes)


def read_match(raw: object) -> Match:
    """
    Read a match as a file has it.

    Raises:
        ValueError: It is none.
    """
    texts: list[bytes] = []
    shapes: list[Shape] = []
    for one in raw if isinstance(raw, list) else [raw]:
        match one:
            case str():
                texts.append(one.encode())
            case dict() if one:
                shapes.append(read_shape(one))
            case _:
                raise ValueError(MATCH_WORDS)
    if not texts and not shapes:
        raise ValueError(MATCH_WORDS)
    return Match(frozenset(texts), tuple(shapes))


def read_shape(raw: object) -> Shape:
    """Read the values at some places, likewise."""
    if not isinstance(raw, dict):
        raise ValueError(MATCH_WORDS)
    shape: dict[Path, Wanted] = {}
    _read_below("", raw, shape)
    return shape


def _read_below(prefix: str, table: Mapping[str, Any], shape: dict[Path, Wanted]) -> None:
    for key, value in table.items():
        try:
            path = read_path(prefix + key)
        except ValueError as error:
            raise ValueError(f"{prefix}{key}: {error}") from None
        match value:
            case {"exists": bool(exists), **more} if not more:
                shape[path] = Wanted(exists=exists)
            case dict() if value:
                # TOML writes { event.kind = "x" } for a table in a table.
                _read_below(f"{path.text}.", value, shape)
            case str() | int() | bool():
                shape[path] = Wanted((value,))
            case list() if value and all(isinstance(one, Fixed) for one in value):
                shape[path] = Wanted(tuple(value))
            case _:
                raise ValueError(
                    f"{path.text}: must be a text, a whole number, true or false, a list of such values, or "
                    "{ exists = true }"
                )


def is_same(found: Any, wanted: Fixed) -> bool:
    """Whether a value of a message is this one."""
    # Python's True is 1, JSON's is not.
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)
