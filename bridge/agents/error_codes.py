"""The code in the reason of an agent's failure, as a label of a metric: few of them, whatever a service says."""

from __future__ import annotations

import re

# Distinct codes of one agent; a service could name a new one in each error.
CODES_MOST = 32
OTHER = "other"
# The words of a reason, and what stands before its code in the label.
SHAPES = (
    (re.compile(r"[Ee]rror:? ([A-Za-z0-9_.-]{1,48})"), ""),
    (re.compile(r"close ([0-9]{4})"), "close_"),
    (re.compile(r"(?:upgrade refused: |status )([0-9]{3})"), "status_"),
    (
        re.compile(r"(?:no session|not open|not ready|silent|did not read)[^0-9]*(?:within|for) [0-9]()"),
        "timeout",
    ),
    (re.compile(r"certificate refused()"), "certificate"),
    (re.compile(r"(?:cannot open|no close frame|reset)()"), "connection"),
)


class ErrorCodes:
    """Finds the codes, and bounds how many each agent has."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def code_of(self, agent: str, reason: str) -> str:
        """The code of a reason; ``other`` without one, or beyond the bound."""
        code = next((before + found[1] for shape, before in SHAPES if (found := shape.search(reason))), OTHER)
        known = self._known.setdefault(agent, set())
        if code not in known and len(known) >= CODES_MOST:
            return OTHER
        known.add(code)
        return code
