"""What is known of the calls of one caller: when they came, and which are up. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

HOUR_S = 3600.0
# Beyond it those leave that end first: a media socket is taken beyond a bound, because its caller is on the line.
MOST_UP = 2000


class Bounds(NamedTuple):
    """The most calls of one caller; 0 for no bound."""

    at_once: int = 0
    per_hour: int = 0


class Place(NamedTuple):
    """A call that is up: the process that has it, and the Unix time until which it counts unless that is renewed."""

    owner: str
    until: float


@dataclass(frozen=True, slots=True)
class Ledger:
    """
    The calls of one caller, by their ids.

    Attributes:
        came: The Unix times of those that came within the last hour.
        up: Those that are up.
    """

    came: Mapping[str, float] = field(default_factory=dict)
    up: Mapping[str, Place] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Ledger:
        """The ledger that `fields` made these fields of, also after a way through JSON; others count as none."""
        try:
            came = {str(call): float(at) for call, at in fields["came"].items()}
            up = {str(call): Place(str(owner), float(until)) for call, (owner, until) in fields["up"].items()}
        except (KeyError, AttributeError, TypeError, ValueError):
            return cls()
        return cls(came, up)

    def fields(self) -> dict[str, Any]:
        """The ledger as values that JSON has."""
        return {"came": dict(self.came), "up": {call: list(place) for call, place in self.up.items()}}

    def at(self, now: float) -> Ledger:
        """The ledger without what is over at this Unix time."""
        return Ledger(
            {call: at for call, at in self.came.items() if now - at < HOUR_S},
            {call: place for call, place in self.up.items() if place.until > now},
        )

    def refusal(self, call: str, bounds: Bounds) -> str:
        """Why a new call is beyond the bounds: ``at_once`` or ``per_hour``; empty for one within them or known."""
        if bounds.at_once and len(self.up.keys() - {call}) >= bounds.at_once:
            return "at_once"
        if bounds.per_hour and call not in self.came and len(self.came) >= bounds.per_hour:
            return "per_hour"
        return ""

    def enter(self, call: str, now: float, place: Place, bounds: Bounds) -> Ledger:
        """The ledger with a call that has come."""
        came = {**self.came, call: self.came.get(call, now)} if bounds.per_hour else self.came
        return replace(self, came=came).hold(call, place) if bounds.at_once else replace(self, came=came)

    def hold(self, call: str, place: Place) -> Ledger:
        """The ledger with a call that is up at a process, also beyond the bounds."""
        up = {**self.up, call: place}
        if len(up) > MOST_UP:
            up.pop(min(up, key=lambda one: up[one].until))
        return replace(self, up=up)

    def leave(self, call: str, owner: str = "") -> Ledger:
        """The ledger without a call that is not up any more; with an owner only if that one has it."""
        place = self.up.get(call)
        if place is None or (owner and place.owner != owner):
            return self
        return replace(self, up={one: other for one, other in self.up.items() if one != call})

    def cancel(self, call: str) -> Ledger:
        """The ledger as if the call had not come."""
        return replace(self.leave(call), came={one: at for one, at in self.came.items() if one != call})
