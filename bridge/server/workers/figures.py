"""The metrics of several workers as those of one process: counters add up, each gauge by its rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

# As `bridge.metrics.Metrics.families` returns it, also after a way through JSON.
Family = dict[str, Any]

RULES: dict[str, Callable[[list[float]], float]] = {"sum": sum, "min": min, "max": max}


def merged(parts: Iterable[Iterable[Family]]) -> list[Family]:
    """
    One list of families out of the lists of several workers, which may be of different versions.

    A worker that knows no rule for a gauge, or another one, leaves it to the first that has one.
    """
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]] = {}
    for part in parts:
        for family in part:
            name = family["name"]
            families.setdefault(name, family)
            of_family = values.setdefault(name, {})
            for sample, labels, value in family["samples"]:
                of_family.setdefault((sample, tuple(sorted(labels.items()))), []).append(value)
    return [
        {
            **family,
            "samples": [
                [sample, dict(labels), RULES.get(family["rule"], sum)(numbers)]
                for (sample, labels), numbers in values[name].items()
            ],
        }
        for name, family in families.items()
    ]


def counted(families: Iterable[Family]) -> list[Family]:
    """What stays of a worker that is gone: all but the gauges."""
    return [family for family in families if family["type"] != "gauge"]
