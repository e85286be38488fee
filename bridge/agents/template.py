"""
Texts with placeholders: ``{from}`` is a value of the call, ``{env.KEY}`` one of a namespace.

Each text is filled in one pass: a value that looks like a placeholder stays as it is. Two braces (``{{name}}``) are
another system's placeholder and stay too.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

# A trailing ``!`` marks a value without which the agent cannot take the call.
PLACEHOLDER = re.compile(r"(?<!\{)\{([A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_0-9-]+|\[[0-9]+\])*)(!?)\}")
# A quote of JSON text; an escaped one is consumed with its backslash.
QUOTE = re.compile(r'\\.|"', re.DOTALL)
# What each namespace holds.
OF_PROCESS = {
    "env": "a variable of the environment",
    "file": "the content of the file that a variable of the environment names",
}
OF_CALL = {
    "form": "a field of Twilio's form",
    "param": "a parameter of the webhook's URL",
    "value": "a value of the answer webhook",
}
CALL_NAMES = frozenset({"call_sid", "from", "to"})


def names_in(texts: Iterable[str]) -> set[str]:
    """The names of all placeholders in these texts."""
    return {found[1] for text in texts for found in PLACEHOLDER.finditer(text)}


def required_in(texts: Iterable[str]) -> set[str]:
    """The names of the placeholders that are marked as required."""
    return {found[1] for text in texts for found in PLACEHOLDER.finditer(text) if found[2]}


def of_call(names: Iterable[str]) -> frozenset[str]:
    """Those of some names that are values of the call."""
    return frozenset(name for name in names if name.partition(".")[0] in OF_CALL)


def variables_in(texts: Iterable[str]) -> set[str]:
    """The variables of the environment that these texts need, in lower case."""
    names = (name.partition(".") for name in names_in(texts))
    return {name.lower() for namespace, _, name in names if namespace in OF_PROCESS and name}


def unknown_names(texts: Iterable[str], known: Iterable[str]) -> list[str]:
    """
    A sentence for each placeholder that means nothing.

    Args:
        known: Names without a namespace, and namespaces beside those of the process and of a call, that these texts
            may use.
    """
    namespaces = {name for name in known if name.endswith(".")} | {
        f"{name}." for name in (*OF_PROCESS, *OF_CALL)
    }
    bare = {name for name in known if not name.endswith(".")}
    unknown = sorted(
        name
        for name in names_in(texts)
        if (f"{name.partition('.')[0]}." not in namespaces if "." in name else name not in bare)
    )
    available = ", ".join(
        f"{{{name}}}" for name in [*sorted(bare), *(f"{n}NAME" for n in sorted(namespaces))]
    )
    return [f"unknown placeholder {{{name}}}; available: {available}" for name in unknown]


def process_values(
    variables: Mapping[str, str], names: Iterable[str]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """
    The values of the ``env`` and ``file`` placeholders among these names, and what is wrong with others.

    Args:
        variables: The environment, by name in lower case; a placeholder may write a name in either case.

    Returns:
        The values by placeholder, and a variable with the reason for each that is unavailable.
    """
    values: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    for name in sorted(names):
        namespace, _, variable = name.partition(".")
        if namespace not in OF_PROCESS:
            continue
        text = variables.get(variable.lower())
        if text is None:
            problems.append((variable.lower(), "is missing"))
        elif namespace == "env":
            values[name] = text
        else:
            try:
                values[name] = Path(text).read_text(encoding="utf-8").removesuffix("\n")
            except OSError as error:
                # Without the path, which may be a secret in the wrong variable.
                problems.append((variable.lower(), f"must name a file: {error.strerror}"))
            except UnicodeDecodeError:
                problems.append((variable.lower(), "must name a file of UTF-8 text"))
    return values, problems


def fill(template: str, values: Mapping[str, str]) -> str:
    """Fill a plain text. A value of the call that is missing is empty; other unknown placeholders stay."""

    def value(found: re.Match[str]) -> str:
        text = _value(values.get, found)
        return found[0] if text is None else str(text)

    return PLACEHOLDER.sub(value, template)


def fill_json(template: str, value_of: Callable[[str], Any], before: str = "") -> bytes:
    """
    Fill JSON text: values are escaped within quotes, and become JSON values elsewhere.

    Args:
        value_of: Gives the value of a name, any JSON value; None if there is none.
        before: The part of the same JSON text that precedes the template.
    """

    def text_of(found: re.Match[str]) -> str:
        filled = _value(value_of, found)
        if filled is None:
            return found[0]
        text = orjson.dumps(filled).decode()
        if QUOTE.findall(before + found.string[: found.start()]).count('"') % 2 == 0:
            return text
        return text[1:-1] if isinstance(filled, str) else orjson.dumps(text).decode()[1:-1]

    return PLACEHOLDER.sub(text_of, template).encode()


def _value(value_of: Callable[[str], Any], found: re.Match[str]) -> Any:
    """The value of a placeholder, empty for a missing one of the call; None for one that means nothing."""
    value = value_of(found[1])
    return "" if value is None and found[1].partition(".")[0] in OF_CALL else value


def in_url(values: Mapping[str, str]) -> dict[str, str]:
    """Values of a call or a service for a URL: percent-encoded, because somebody else chooses their text."""
    return {name: quote(text, safe="") for name, text in values.items()}


def in_header(values: Mapping[str, str]) -> dict[str, str]:
    """Values of a call or a service for a header: what is not printable ASCII is percent-encoded."""
    return {name: quote(text, safe=string.punctuation) for name, text in values.items()}
