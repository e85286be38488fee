"""Which summaries of calls somebody means who types words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from bridge.call.record import masked

FIELDS = ("call_sid", "from", "to", "agent", "route", "why", "outcome")
# As people write numbers, which may be masked in a summary.
NUMBER = re.compile(r"\+?[0-9][0-9 ()./-]{5,20}[0-9]")
MOST_CHARACTERS, MOST_WORDS = 200, 8


def matcher(words: str) -> Callable[[Mapping[str, Any]], bool]:
    """
    A rule that is true of a summary with all of these words in its fields, whatever their case.

    A whole phone number is found though the summary has its middle left out. Words beyond the bounds do not count.
    """
    text = words.strip()[:MOST_CHARACTERS].lower()
    number = "+" + re.sub("[^0-9]", "", text)
    numbers = (number, masked(number)) if NUMBER.fullmatch(text) else ()
    parts = text.split()[:MOST_WORDS]

    def is_meant(row: Mapping[str, Any]) -> bool:
        if row["from"] in numbers or row["to"] in numbers:
            return True
        return all(any(part in str(row[name] or "").lower() for name in FIELDS) for part in parts)

    return is_meant
