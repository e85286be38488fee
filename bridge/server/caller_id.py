"""The number that a dialled party is shown in place of a caller's that Twilio cannot pass on."""

from __future__ import annotations

from bridge.agents.agent import CallInfo
from bridge.agents.setting_types import E164

# Twilio's numbers of callers who withhold theirs: ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE on a
# telephone's keys.
WITHHELD = frozenset({"+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253"})


def caller_id(call: CallInfo, default: str, of_route: str = "") -> str | None:
    """
    Choose the ``callerId`` of a ``<Dial>``, without which Twilio refuses a caller who has no number.

    Source: Twilio, error 13214: it is the calling number, the called number, or one that the account has verified.

    Args:
        default: ``BRIDGE_CALLER_ID``, for a caller without a number; may be empty.
        of_route: The number that the call's route shows for every caller; may be empty.

    Returns:
        None where Twilio passes the caller's own number on, or where no number is known.
    """
    if of_route or is_number(call.from_number):
        return of_route or None
    return default or (call.to_number if is_number(call.to_number) else None)


def is_number(text: str) -> bool:
    """Whether a caller has shown a number; others withhold it, or call from a browser or a SIP phone."""
    return E164.fullmatch(text) is not None and text not in WITHHELD
