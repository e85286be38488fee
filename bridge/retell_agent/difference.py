"""The differences between a file and Retell, and their description: short, and without secrets."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHOWN_CHARACTERS = 60
_ABSENT = "(not set)"


@dataclass(frozen=True, slots=True)
class Change:
    """A key with its present and its wanted value; None if it is not set."""

    section: str
    key: str
    old: Any
    new: Any


def differences(section: str, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[Change]:
    """Give the keys of ``wanted`` that differ; the file does not decide about other keys."""
    return [
        Change(section, key, there.get(key), value)
        for key, value in wanted.items()
        if not is_same(value, there.get(key))
    ]


def is_same(wanted: Any, there: Any) -> bool:
    """Compare two values; keys that Retell adds to a table are no difference."""
    match wanted, there:
        case dict(), dict():
            return all(is_same(value, there.get(key)) for key, value in wanted.items())
        case list(), list():
            return len(wanted) == len(there) and all(map(is_same, wanted, there))
        case (bool(), _) | (_, bool()):
            return wanted is there
        case int() | float(), int() | float():
            return math.isclose(wanted, there, rel_tol=1e-9)
    return bool(wanted == there)


def described(change: Change) -> str:
    """Describe a change in one line."""
    path = f"{change.section}.{change.key}"
    if change.key == "general_tools":
        return f"{path}: {_described_tools(change.old or [], change.new or [])}"
    old, new = _shown(change.old), _shown(change.new)
    are_texts = isinstance(change.old, str) and isinstance(change.new, str)
    if are_texts and max(len(old), len(new)) > SHOWN_CHARACTERS:
        before, after = _without_query(change.old), _without_query(change.new)
        pairs = enumerate(zip(before, after, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(before), len(after)))
        old, new = _cut(before, at), _cut(after, at)
    return f"{path}: {_shortened(old)} -> {_shortened(new)}"


def _shown(value: Any) -> str:
    if value is None:
        return _ABSENT
    if isinstance(value, dict) and value.get("type") in ("retell-llm", "custom-llm", "conversation-flow"):
        ids = [
            value[key] for key in ("llm_id", "llm_websocket_url", "conversation_flow_id") if value.get(key)
        ]
        return " ".join([value["type"], *map(_without_query, map(str, ids))])
    if isinstance(value, str):
        return json.dumps(_without_query(value), ensure_ascii=False)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _without_query(text: str) -> str:
    """Remove the user and the query, which may be secrets, from a URL; other texts stay the same."""
    if not text.startswith(("http://", "https://", "ws://", "wss://")):
        return text
    scheme, _, rest = text.partition("://")
    rest, query, _ = rest.partition("?")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}{query and '?…'}"


def _cut(text: str, at: int) -> str:
    """Give the text around the position at which two long texts begin to differ."""
    begin = max(0, at - SHOWN_CHARACTERS // 3)
    end = begin + SHOWN_CHARACTERS - 12
    part = json.dumps(text[begin:end], ensure_ascii=False)
    return f"{'…' if begin else ''}{part}{'…' if end < len(text) else ''}"


def _shortened(text: str) -> str:
    if len(text) <= 2 * SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}… ({len(text)} characters)"


def _described_tools(old: list[Any], new: list[Any]) -> str:
    """Describe tools by name and key only, because their headers and URLs contain secrets."""
    before, after = ({str(tool.get("name")): tool for tool in tools} for tools in (old, new))
    parts = [f"+{name}" for name in after if name not in before]
    parts += [f"-{name}" for name in before if name not in after]
    for name in after:
        if name in before and not is_same(after[name], before[name]):
            keys = [key for key, value in after[name].items() if not is_same(value, before[name].get(key))]
            parts.append(f"{name} ({', '.join(keys)})")
    return ", ".join(parts) or "another order"
