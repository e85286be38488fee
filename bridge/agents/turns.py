"""How much of an agent's turns the caller heard before an interrupt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeardTurn:
    """
    One turn whose audio has been sent at least in part.

    Attributes:
        name: As in the agent's `bridge.agents.agent.Turn`.
        heard_ms: The heard part.
        is_all: Whether that is all audio that has been sent; the agent may have more of it to send.
    """

    name: str
    heard_ms: int
    is_all: bool
