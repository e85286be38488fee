"""Messages of OpenAI's GPT-Live, without their event ids, and the fields that it takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

PCMU = {"type": "audio/pcmu", "rate": 8000}
# The vendor's bound on one append. Without a tokenizer each byte counts as a token, the worst case.
APPEND_TOKENS = 500
# Names of fields, each with those inside it; None: any value.
_ITEM = {"type": None, "role": None, "content": [{"type": None, "text": None}], "id": None, "status": None}
_TOOL = {"type": None, "name": None, "description": None, "parameters": None, "strict": None}
_RESPONSES = {
    "model": None,
    "instructions": None,
    "tools": [_TOOL],
    "tool_choice": None,
    "parallel_tool_calls": None,
    "reasoning": None,
    "text": None,
    "service_tier": None,
    "max_output_tokens": None,
}
_SESSION = {
    "model": None,
    "instructions": None,
    "input": [_ITEM],
    "safety_identifier": None,
    "store": None,
    "audio": {"format": {"type": None, "rate": None}, "output": {"voice": None}},
    "delegation": {"type": None, "acknowledgement_delay_ms": None, "responses": _RESPONSES},
}
_APPEND = {"content": None, "delegation_id": None}
FIELDS: dict[str, dict[str, Any]] = {
    "session.start": {"session": _SESSION},
    "session.input_audio.append": {"audio": None},
    "session.instructions.append": _APPEND,
    "session.thinking.append": _APPEND,
    "session.commentary.append": _APPEND,
    "response.item.create": {"item": {"type": None, "call_id": None, "output": None}},
    "response.create": {},
    "session.close": {},
}


class ClientError(ValueError):
    """The service answers the message with ``error``; it counts as a violation."""

    def __init__(self, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.code = code


class FunctionCall(NamedTuple):
    """A call of one of the functions in the session's delegation; ``arguments`` is JSON text."""

    call_id: str
    name: str
    arguments: str


def check_fields(value: Any, known: Any, path: str = "") -> None:
    """Raise `ClientError` for a field that the service does not know."""
    if isinstance(known, list):
        for item in value:
            check_fields(item, known[0], path)
    elif known is not None:
        for name, inside in value.items():
            if name not in known:
                raise ClientError(f"Unknown parameter: '{path}{name}'.", "unknown_parameter")
            check_fields(inside, known[name], f"{path}{name}.")


def error(message: str, code: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return an error."""
    return {"type": "error", "error": {"type": kind, "code": code, "message": message, "param": None}}


def work(delegation_id: str, response_id: str, calls: Iterable[FunctionCall]) -> list[dict[str, Any]]:
    """Return the messages of delegated work, until all its function calls are there."""
    metadata = {"id": delegation_id, "type": "delegation", "target": "responses", "response_id": response_id}
    events = [
        {"type": "session.delegation.created", "offset_ms": 0, "delegation": metadata},
        nested(delegation_id, "response.created", response=_response(response_id, "in_progress")),
    ]
    for index, call in enumerate(calls):
        where = {"output_index": index}
        item = {"id": f"fc_{index}", "type": "function_call", "call_id": call.call_id, "name": call.name}
        begun = {**item, "status": "in_progress", "arguments": ""}
        done = {**item, "status": "completed", "arguments": call.arguments}
        words = {"item_id": item["id"], "name": call.name, "arguments": call.arguments}
        events += [
            nested(delegation_id, "response.output_item.added", **where, item=begun),
            nested(delegation_id, "response.function_call_arguments.done", **where, **words),
            nested(delegation_id, "response.output_item.done", **where, item=done),
        ]
    return events


def work_done(delegation_id: str, response_id: str) -> dict[str, Any]:
    """Return the end of delegated work; its output is empty, as the vendor's is."""
    return nested(delegation_id, "response.completed", response=_response(response_id, "completed"))


def nested(delegation_id: str, event: str, **fields: Any) -> dict[str, Any]:
    """Return an event of the second model."""
    return {"type": "response.event", "delegation_id": delegation_id, "event": {"type": event, **fields}}


def _response(response_id: str, status: str) -> Mapping[str, Any]:
    return {"id": response_id, "object": "response", "status": status, "output": []}
