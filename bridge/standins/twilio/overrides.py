"""Connection overrides: how often Twilio sends a webhook again, and after which failures."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

# Source: Twilio, webhook connection overrides, as are the defaults below: the name, and the bounds of its value.
BOUNDS = {"rc": (0, 5), "ct": (100, 10_000), "rt": (100, 15_000), "tt": (100, 15_000)}
POLICIES = frozenset({"4xx", "5xx", "ct", "rt", "all"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Overrides:
    """
    The overrides of one URL.

    Attributes:
        problem: The error that Twilio would report, with its number; empty for none.
    """

    retries: int = 1
    policies: frozenset[str] = frozenset({"ct"})
    connect_s: float = 5.0
    read_s: float = 15.0
    total_s: float = 15.0
    problem: str = ""

    @classmethod
    def of(cls, fragment: str) -> Overrides:
        """Read what stands behind the ``#`` of a URL."""
        values = dict(parse_qsl(fragment))
        policies = frozenset(values.get("rp", "ct").split(","))
        if not policies <= POLICIES:
            return cls(problem=f"11243: {values['rp']!r} is no retry policy")
        numbers = {"rc": 1, "ct": 5_000, "rt": 15_000, "tt": 15_000}
        for name, (least, most) in BOUNDS.items():
            text = values.get(name)
            if text is None:
                continue
            if not text.isdecimal() or not least <= int(text) <= most:
                return cls(problem=f"11200: the override {name}={text} is not from {least} to {most}")
            numbers[name] = int(text)
        return cls(
            retries=numbers["rc"],
            policies=policies,
            connect_s=numbers["ct"] / 1000,
            read_s=numbers["rt"] / 1000,
            total_s=numbers["tt"] / 1000,
        )

    def asks_again_after(self, failure: str) -> bool:
        """Whether a failure is worth another try: ``ct``, or the first digit of an HTTP status and ``xx``."""
        return failure in self.policies or "all" in self.policies
