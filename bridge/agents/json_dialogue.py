"""Dialogues in JSON: each message is parsed once, and a model's tool calls are decided in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from bridge.agents.agent import Control, Dialogue, Event, Ignored, Reply, Transfer

# What `parse` returns for bytes that are not JSON; JSON's null is None.
NOT_JSON: Final = object()
# Levels of an answer around a part of the message that it repeats: orjson reads 1024 levels and writes 254.
ANSWER_LEVELS = 16
# Keys under which services write what a message is.
KIND_KEYS = ("type", "event", "event_type", "kind", "message_type")
# Of one report of a service, or of one message.
REPORT_CHARS = 200
# A service's advice to wait is kept up to this; a caller does not wait longer for an answer.
ADVISED_WAIT_S = 2.0


def parse(text: bytes | str) -> Any:
    """Parse JSON; return `NOT_JSON` if it is invalid, or nested too deep to be repeated in an answer."""
    try:
        value = answer = orjson.loads(text)
        for _ in range(ANSWER_LEVELS):
            answer = [answer]
        orjson.dumps(answer)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return NOT_JSON
    return value


def shape_of(message: bytes) -> str:
    """The keys of a message and its type, for a log: nothing of what was said in the call."""
    fields = parse(message)
    if not isinstance(fields, dict):
        kind = "not JSON" if fields is NOT_JSON else type(fields).__name__
        return f"{len(message)} bytes, {kind}"
    kinds = [f"{key}={value}" for key in KIND_KEYS if isinstance(value := fields.get(key), str)]
    return worded(" ".join([*kinds, "keys:", ", ".join(map(str, fields))]))


def worded(text: str) -> str:
    """What a service says, for a log: bounded, on one line, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text[:REPORT_CHARS]).strip()


def name_at(fields: Any, key: str) -> str:
    """The name under a key of a message, for a log; empty if there is none."""
    name = fields.get(key) if isinstance(fields, dict) else None
    return worded(name) if isinstance(name, str) else ""


class JsonDialogue(Dialogue):
    """Base of dialogues whose messages are JSON; messages that are not are ignored and counted."""

    def read(self, message: bytes) -> Iterable[Event]:
        fields = parse(message)
        return (Ignored("not_json"),) if fields is NOT_JSON else self.read_fields(fields)

    def read_fields(self, fields: Any) -> Iterable[Event]:
        """Return the meaning of a parsed message, which may be any JSON value."""
        raise NotImplementedError


def on_tool_call(name: Any, arguments: Any, refusal: Callable[[str], tuple[bytes, ...]]) -> Iterable[Event]:
    """
    Decide what a model's tool call does: hang up, transfer the call, or nothing that the bridge knows.

    Args:
        name: As the model gave it; any JSON value.
        arguments: Parsed; anything but an object makes the call unknown.
        refusal: Makes the messages that give the model this reason; none if the call cannot be answered.
    """
    match name, arguments:
        case "hang_up", dict():
            return (Control.HANG_UP,)
        case "transfer_call", {"to_number": str(to_number)}:
            return (Transfer(to_number, refusal("transfers to this number are not allowed")),)
    replies = tuple(Reply(message) for message in refusal("this function is not known here"))
    return replies or (Ignored("unknown_function"),)
