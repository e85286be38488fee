"""The facts of one call, collected once for what is said of it when it is over."""

from __future__ import annotations

from dataclasses import dataclass, field

# Of a number or an address that is masked.
SHOWN_FIRST, SHOWN_LAST = 4, 2


@dataclass(slots=True)
class AgentRecord:
    """
    One agent that a call tried.

    Attributes:
        name: As in ``BRIDGE_AGENT``, a route or the answer webhook.
        session_id: The service's name of the session.
        how_closed: Who closed its socket, and how.
        why_lost: Why the next agent took its place; empty for the last one.
    """

    name: str
    session_id: str = ""
    how_closed: str = ""
    why_lost: str = ""


@dataclass(slots=True)
class CallRecord:
    """
    One call, from its verified ``start`` on.

    Attributes:
        caller_closed: Who closed the last media socket, and how.
        agents: Those that were tried, in order; the last one had the call in the end.
    """

    from_number: str = ""
    to_number: str = ""
    route: str = ""
    caller_closed: str = ""
    agents: list[AgentRecord] = field(default_factory=list)

    @property
    def agent(self) -> AgentRecord:
        """The agent that had the call in the end; without a name if there was none."""
        return self.agents[-1] if self.agents else AgentRecord("")


def masked(number: str) -> str:
    """A number or an address with its middle left out."""
    if len(number) <= SHOWN_FIRST + SHOWN_LAST:
        return "…" if number else ""
    return f"{number[:SHOWN_FIRST]}…{number[-SHOWN_LAST:]}"
