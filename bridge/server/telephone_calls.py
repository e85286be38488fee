"""The calls of the page's telephone."""

from __future__ import annotations

# Twilio's CallSids are random: none of them begins like this.
SID_BEGINNING = "CA" + 16 * "0"


def is_of_page(call_sid: str) -> bool:
    """Whether a call is one of the page's telephone, which Twilio knows nothing of."""
    return call_sid.startswith(SID_BEGINNING)
