"""A result of the load's generator, as it reports it, and runs made of it."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.verdict import Limits, Measured, settings_of

HISTOGRAM = {"count": 1000, "p50": 100.0, "p99": 900.0, "p999": 1500.0, "max": 2000.0}
WAY = {
    "sent": 1100,
    "received": 1100,
    "received_in_window": 1000,
    "lost": 0,
    "duplicated": 0,
    "reordered": 0,
    "corrupt": 0,
    "unexpected_messages": 0,
    "cleared": 0,
    "stale_after_clear": 0,
    "delay_us": HISTOGRAM,
}
GOOD: dict[str, Any] = {
    "event": "result",
    "window_s": 2.0,
    "generator_cpu_s": 0.5,
    "calls_given": 10,
    "calls_up": 10,
    "calls_refused": 0,
    "calls_missing": 0,
    "calls_closed_early": 0,
    "bad_closes": 0,
    "legs_left_open": 0,
    "interrupts": 3,
    "interrupts_unanswered": 0,
    "clears_unexpected": 0,
    "to_agent": WAY,
    "to_caller": WAY,
    "clear_us": HISTOGRAM,
    "lateness_us": HISTOGRAM,
    "notes": [],
}


def measured(*changes: tuple[str, object], **more: Any) -> Measured:
    """A run without faults but for the changes; a path leads to each, as in `to_agent.lost`."""
    raw = json.loads(json.dumps(GOOD))
    for path, value in changes:
        *parents, key = path.split(".")
        place = raw
        for parent in parents:
            place = place[parent]
        place[key] = value
    return Measured(raw=raw, settings=settings_of(Limits(), calls=10), **more)
