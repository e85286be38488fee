"""The session object and the conversation items of OpenAI's Realtime protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from bridge.agents.json_dialogue import worded
from bridge.agents.succession import Said, Speaker

FORMAT = "audio/pcmu"
HANG_UP = {
    "type": "function",
    "name": "hang_up",
    "description": "End the phone call. Say goodbye first: what you have said is still heard.",
    "parameters": {"type": "object", "properties": {}},
}
TRANSFER = {
    "type": "function",
    "name": "transfer_call",
    "description": "Connect the caller to another phone number and leave the call.",
    "parameters": {
        "type": "object",
        "properties": {"to_number": {"type": "string", "description": "E.164, e.g. +14155550100"}},
        "required": ["to_number"],
    },
}


def session_object(
    given: Mapping[str, Any], *, instructions: str = "", voice: str = "", tools: bool, may_transfer: bool
) -> dict[str, Any]:
    """
    Return the session object for a call.

    Args:
        given: The user's part of it. The audio formats in it are replaced; its tools follow ours.
        instructions, voice: Empty ones leave those of ``given``.
        tools: Whether the model may end the call, and transfer it if ``may_transfer``.
    """
    ours: dict[str, Any] = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "audio": {"input": {"format": {"type": FORMAT}}, "output": {"format": {"type": FORMAT}}},
    }
    if instructions:
        ours["instructions"] = instructions
    if voice:
        ours["audio"]["output"]["voice"] = voice
    if tools:
        others = given.get("tools")
        ours["tools"] = [HANG_UP, *([TRANSFER] if may_transfer else [])]
        ours["tools"] += others if isinstance(others, list) else []
    return _merged(given, ours)


def _merged(given: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Merge objects; of other values, and of formats, ours count."""
    merged = dict(given)
    for key, value in ours.items():
        old = merged.get(key)
        if key != "format" and isinstance(old, dict) and isinstance(value, dict):
            value = _merged(old, value)
        merged[key] = value
    return merged


def turn_detection(session: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a session detects the caller's turns; xAI has it beside ``audio``, others within."""
    match session:
        case {"turn_detection": dict(detection)} | {"audio": {"input": {"turn_detection": dict(detection)}}}:
            return detection
    return {}


def wrong_format(session: Any) -> str | None:
    """Say which audio of a confirmed session is in another format than ours; None if none is, or it does not say."""
    match session:
        case {"audio": dict(audio)}:
            for side in ("input", "output"):
                match audio.get(side):
                    case {"format": {"type": kind}} if kind != FORMAT:
                        return worded(f"it confirms {side} audio as {kind} instead of {FORMAT}")
    return None


def item_create(item: Mapping[str, Any]) -> bytes:
    """The message that adds an item to the conversation."""
    return orjson.dumps({"type": "conversation.item.create", "item": item})


def message_item(role: str, text: str) -> bytes:
    """The message that adds something said or written to the conversation."""
    kind = "output_text" if role == "assistant" else "input_text"
    return item_create({"type": "message", "role": role, "content": [{"type": kind, "text": text}]})


def said_item(said: Said) -> bytes:
    """The message that adds an utterance of before."""
    return message_item("assistant" if said.speaker is Speaker.AGENT else "user", said.text)


def function_result(call_id: str, name: str, result: str, is_error: bool) -> bytes:
    """The message with the result of a function call."""
    output = orjson.dumps({"error" if is_error else "result": result}).decode()
    return item_create({"type": "function_call_output", "call_id": call_id, "output": output})
