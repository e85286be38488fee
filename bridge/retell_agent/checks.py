"""What a key of a TOML table may be, as values that check and tell; nothing here knows what the table is for."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# Gives what is wrong with a value at a path, one sentence each; nothing if it is right.
Check = Callable[[str, Any], list[str]]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table; ``removable``: false takes the value away."""

    check: Check
    required: bool = False
    removable: bool = False


def shown(value: Any) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"


def leaf(fault: Callable[[Any], str | None], about: str, **options: bool) -> Key:
    def check(path: str, value: Any) -> list[str]:
        wrong = fault(value)
        return [f"{path}: {shown(value)} {wrong}: {about}"] if wrong else []

    return Key(check, **options)


def number(low: float, high: float, about: str, *, whole: bool = False, **options: bool) -> Key:
    def fault(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return "is no number"
        if whole and not isinstance(value, int):
            return "is no whole number"
        if value < low:
            return f"is below {low:.9g}"
        return f"is above {high:.9g}" if value > high else None

    span = f"{low:.9g} to {high:.9g}" if math.isfinite(high) else f"{low:.9g} or more"
    return leaf(fault, f"Retell takes {span}, {about}", **options)


def choice(values: tuple[str, ...], about: str, **options: bool) -> Key:
    def fault(value: Any) -> str | None:
        return None if isinstance(value, str) and value in values else "is none of its values"

    return leaf(fault, f"it is {', '.join(values[:-1])} or {values[-1]}; {about}", **options)


def switch(about: str) -> Key:
    return leaf(lambda value: None if isinstance(value, bool) else "is neither true nor false", about)


def text(about: str, *, pattern: str = r"(?s).*\S.*", **options: bool) -> Key:
    def fault(value: Any) -> str | None:
        if not isinstance(value, str):
            return "is no text"
        if re.fullmatch(pattern, value):
            return None
        return "is not of that form" if value.strip() else "is empty"

    return leaf(fault, about, **options)


def texts(about: str, *, of: tuple[str, ...] | None = None, **options: bool) -> Key:
    def fault(value: Any) -> str | None:
        is_texts = isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
        if not is_texts or not value:
            return "is no list of texts"
        strange = set(value) - set(of or value)
        if strange:
            return f"has {', '.join(sorted(strange))} in it"
        return "has one of them twice" if len(set(value)) < len(value) else None

    return leaf(fault, f"{about}: {', '.join(of)}" if of else about, **options)


def url(schemes: tuple[str, ...], about: str, **options: bool) -> Key:
    def fault(value: Any) -> str | None:
        try:
            parts = urlsplit(value if isinstance(value, str) else "")
            good = parts.scheme in schemes and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if good and not re.search(r"[\s\x00-\x20]", value):
            return None
        return f"does not begin with {' or '.join(s + '://' for s in schemes)} and name a host"

    return leaf(fault, about, **options)


def text_map(about: str, **options: bool) -> Key:
    """A table of texts. Its values are never told: headers and the like hold secrets."""

    def check(path: str, value: Any) -> list[str]:
        if not isinstance(value, dict):
            return [f"{path}: is no table: {about}"]
        wrong = [key for key, item in value.items() if not isinstance(item, str)]
        return [f"{path}.{key}: is no text: {about}" for key in wrong]

    return Key(check, **options)


def table(keys: Mapping[str, Key], about: str, **options: bool) -> Key:
    def check(path: str, value: Any) -> list[str]:
        if not isinstance(value, dict):
            return [f"{path}: is no table: {about}"]
        return check_table(path, value, keys)

    return Key(check, **options)


def variants(kinds: Mapping[str, Mapping[str, Key]], about: str, **options: bool) -> Key:
    """A table whose ``type`` says which keys it has."""

    def check(path: str, value: Any) -> list[str]:
        if not isinstance(value, dict):
            return [f"{path}: is no table: {about}"]
        kind = value.get("type")
        if not isinstance(kind, str) or kind not in kinds:
            told = "is missing" if kind is None else f"{shown(kind)} is none of its values"
            return [f"{path}.type: {told}: it is {', '.join(kinds)}; {about}"]
        return check_table(path, {k: v for k, v in value.items() if k != "type"}, kinds[kind])

    return Key(check, **options)


def check_table(
    path: str, value: Mapping[str, Any], keys: Mapping[str, Key], elsewhere: Mapping[str, str] | None = None
) -> list[str]:
    """
    Check every key of a table.

    Args:
        path: Of the table, for the sentences.
        value: The table.
        keys: What it may have.
        elsewhere: What to say of keys that it may not have; others get the most likely name, if there is one.
    """
    told = []
    for name, item in value.items():
        if name not in keys:
            told.append(f"{path}.{name}: {(elsewhere or {}).get(name) or unknown(name, keys)}")
        elif not (keys[name].removable and item is False):
            told += keys[name].check(f"{path}.{name}", item)
    absent = [name for name, key in keys.items() if key.required and name not in value]
    return told + [f"{path}.{name}: is missing" for name in absent]


def unknown(name: str, keys: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, keys, n=1)
    hint = f"; is {close[0]} meant?" if close else ""
    return f"is no key that this file knows{hint} (--example shows them; the rest is set at Retell)"
