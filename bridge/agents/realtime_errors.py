"""
What the reports of a service that speaks OpenAI's Realtime protocol mean to a call.

Source: the types of openai 3.57.0 (``error``, ``response.done``, ``rate_limits.updated``), OpenAI's list of error
codes, and codes in use at OpenAI and Azure.

| report                                                        | meaning                                    |
|---------------------------------------------------------------|--------------------------------------------|
| ``error`` or failed ``response.done`` with a name of `FATAL`  | lost, of that kind                         |
| another ``error`` before the session is confirmed             | lost: of its kind in `TRANSIENT`, else the |
|                                                               | settings are refused                       |
| ``error`` of `HARMLESS`; an ``invalid_request_error`` that is | a warning                                  |
| not in `TRANSIENT`, about any message but ``response.create`` |                                            |
| another ``error``                                             | trouble: lost if silence or a close follows|
| another failed ``response.done``                              | asked again once, after the advised wait;  |
|                                                               | lost the second time, or if it is too long |
| incomplete ``response.done`` (token limit, content filter)    | a warning                                  |
| cancelled ``response.done``                                   | nothing                                    |

A name is an error's ``code`` or, without an entry for that, its ``type``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from bridge.agents.json_dialogue import worded
from bridge.agents.succession import FailureKind

# An error's code, or its type, that ends the session.
FATAL = {
    "insufficient_quota": FailureKind.QUOTA,
    "credit_balance_exhausted": FailureKind.QUOTA,
    "organization_spend_limit_exceeded": FailureKind.QUOTA,
    "project_spend_limit_exceeded": FailureKind.QUOTA,
    "billing_hard_limit_reached": FailureKind.QUOTA,
    "billing_not_active": FailureKind.QUOTA,
    "invalid_api_key": FailureKind.CREDENTIALS,
    "account_deactivated": FailureKind.CREDENTIALS,
    "authentication_error": FailureKind.CREDENTIALS,
    "session_expired": FailureKind.SESSION_LIMIT,
}
# One that may be over after a moment, and the kind if it is not. The third code is Azure's.
TRANSIENT = {
    "server_error": FailureKind.SERVER,
    "rate_limit_exceeded": FailureKind.QUOTA,
    "inference_rate_limit_exceeded": FailureKind.QUOTA,
}
# One that says that a message came too late to matter.
HARMLESS = frozenset({"conversation_already_has_active_response", "response_cancel_not_active"})
# Before another attempt after a rate limit that states no time.
RATE_LIMIT_WAIT_S = 1.0
# "Please try again in 1m26.4s", "try again in 16 seconds".
ADVICE = re.compile(r"try again in ((?:\d+(?:\.\d+)?\s*(?:ms|[hms])[a-z]*\s*)+)", re.IGNORECASE)
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|mil|h|m|s)", re.IGNORECASE)
UNITS_S = {"ms": 0.001, "mil": 0.001, "h": 3600.0, "m": 60.0, "s": 1.0}


def fatal_kind(error: Mapping[str, Any]) -> FailureKind | None:
    """The kind of an error that ends the session; None for another."""
    return _in(FATAL, error)


def transient_kind(error: Mapping[str, Any]) -> FailureKind | None:
    """The kind of an error that may be over after a moment; None for another."""
    return _in(TRANSIENT, error)


def is_warning(error: Mapping[str, Any], respond_id: str) -> bool:
    """
    Whether an error leaves the conversation as it is.

    Args:
        respond_id: The ``event_id`` of requests for a response, whose refusal leaves the caller without an answer.
    """
    if not HARMLESS.isdisjoint(_names(error)):
        return True
    return error.get("type") == "invalid_request_error" and error.get("event_id") != respond_id


def report_of(error: Mapping[str, Any]) -> str:
    """An error's code, type, parameter and message, for a log."""
    named = {name: error.get(name) for name in ("code", "type", "param")}
    if named["code"] == named["type"]:
        del named["type"]
    fields = ", ".join(f"{name} {value}" for name, value in named.items() if value)
    return worded(": ".join(str(text) for text in (f"error {fields}".strip(), error.get("message")) if text))


def wait_s(error: Mapping[str, Any], reset_s: float) -> float:
    """
    How long to wait before another attempt.

    Args:
        reset_s: When the exhausted rate limits reset, as the service said before.
    """
    found = ADVICE.search(str(error.get("message")))
    if found is not None:
        return sum(float(count) * UNITS_S[unit.lower()] for count, unit in DURATION.findall(found[1]))
    if transient_kind(error) is FailureKind.QUOTA:
        return reset_s or RATE_LIMIT_WAIT_S
    return 0.0


def reset_s(limits: Iterable[Any]) -> float:
    """When all exhausted limits of a ``rate_limits.updated`` have been reset; 0 if none is exhausted."""
    left_s = 0.0
    for limit in limits:
        match limit:
            case {"remaining": int(remaining), "reset_seconds": int() | float() as seconds} if remaining <= 0:
                left_s = max(left_s, float(seconds))
    return left_s


def _in(kinds: Mapping[str, FailureKind], error: Mapping[str, Any]) -> FailureKind | None:
    return next((kinds[name] for name in _names(error) if name in kinds), None)


def _names(error: Mapping[str, Any]) -> list[str]:
    return [name for name in (error.get("code"), error.get("type")) if isinstance(name, str)]
