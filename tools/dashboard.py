"""Prints the dashboard of tools/dashboard.toml: ``python -m tools.dashboard > deploy/grafana/voice-bridge.json``."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
FILTERS = {
    "$BRIDGES": 'instance=~"$instance"',
    "$AGENTS": 'instance=~"$instance", agent=~"$agent"',
}
# The choices above the panels, and the series that have their values.
CHOICES = {
    "instance": "bridge_build_info",
    "agent": "bridge_calls_ended_total{$BRIDGES}",
    "route": "bridge_calls_total{$BRIDGES}",
}
WIDTH = 24
OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"colorMode": "background", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}},
    "state-timeline": {"mergeValues": True, "showValue": "never", "rowHeight": 0.8},
    "table": {"showHeader": True},
}
# Kinds that show one moment.
OF_NOW = ("stat", "table")
HIDDEN = ("Time", "Value", "__name__", "alertstate", "job")

Panel = dict[str, Any]


def filtered(query: str) -> str:
    """The query with its filters."""
    for name, text in FILTERS.items():
        query = query.replace(name, text)
    return query


def choices() -> list[dict[str, Any]]:
    """The choices above the panels."""
    source = {"name": "datasource", "label": "source", "type": "datasource", "query": "prometheus"}
    queries = [
        {
            "name": name,
            "label": name,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": f"label_values({filtered(series)}, {name})", "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "current": {"text": ["All"], "value": ["$__all"]},
        }
        for name, series in CHOICES.items()
    ]
    return [source, *queries]


def steps(limits: list[float]) -> list[dict[str, Any]]:
    """The colours of values: green, and yellow and red, or red alone, from the limits on."""
    colours = ("yellow", "red")[2 - len(limits) :]
    above = [{"color": color, "value": limit} for color, limit in zip(colours, limits, strict=True)]
    return [{"color": "green", "value": None}, *above]


def defaults(panel: Panel, kind: str) -> dict[str, Any]:
    """How a panel shows its values."""
    limits = panel.get("limits", [])
    found: dict[str, Any] = {
        "unit": panel.get("unit", "short"),
        "min": 0,
        "noValue": panel.get("empty", "-"),
        "thresholds": {"mode": "absolute", "steps": steps(limits)},
    }
    if kind in ("stat", "state-timeline"):
        found["color"] = {"mode": "thresholds"}
    if kind == "timeseries":
        is_stacked = panel.get("is_stacked", False)
        found["custom"] = {
            "fillOpacity": 30 if is_stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if is_stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if limits else "off"},
        }
    if states := panel.get("states"):
        options = {value: {"text": word, "color": color} for value, (word, color) in states.items()}
        found["mappings"] = [{"type": "value", "options": options}]
    return found


def target(kind: str, letter: str, legend: str, query: str) -> dict[str, Any]:
    """One query of a panel."""
    return {
        "refId": letter,
        "datasource": SOURCE,
        "expr": filtered(query),
        "legendFormat": legend or "__auto",
        "instant": kind in OF_NOW,
        "range": kind not in OF_NOW,
        "format": "table" if kind == "table" else "time_series",
    }


def fixed(name: str, color: str) -> dict[str, Any]:
    """The override that gives one legend its colour."""
    value = {"mode": "fixed", "fixedColor": color}
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": value}],
    }


def as_grafana(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """A panel as Grafana reads it."""
    kind = panel.get("kind", "timeseries")
    found = {
        "id": number,
        "type": kind,
        "title": panel["title"],
        "description": panel["text"],
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width(panel), "h": height(panel)},
        "fieldConfig": {
            "defaults": defaults(panel, kind),
            "overrides": [fixed(*one) for one in panel.get("colours", {}).items()],
        },
        "options": OPTIONS[kind],
        "targets": [target(kind, chr(65 + n), *one) for n, one in enumerate(panel["queries"].items())],
    }
    if kind == "table":
        options = {"excludeByName": dict.fromkeys(HIDDEN, True)}
        found["transformations"] = [{"id": "organize", "options": options}]
    return found


def width(panel: Panel) -> int:
    return int(panel.get("width", 8))


def height(panel: Panel) -> int:
    return int(panel.get("height", 8))


def placed(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows and their panels, each in the highest free place."""
    number, top = 1, 0
    for row in rows:
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": row["title"], "gridPos": place}
        number, top = number + 1, top + 1
        # The lowest free line of each column.
        free = [top] * WIDTH
        for panel in row["panel"]:
            y = min(free)
            x = free.index(y)
            yield as_grafana(panel, number, x, y)
            free[x : x + width(panel)] = [y + height(panel)] * width(panel)
            number += 1
        top = max(free)


def dashboard() -> str:
    """Return the dashboard as Grafana imports it."""
    rows = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["row"]
    found = {
        "uid": "voice-bridge",
        "title": "voice-bridge",
        "tags": ["voice-bridge"],
        "schemaVersion": 36,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": choices()},
        "panels": list(placed(rows)),
    }
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    print(dashboard(), end="")  # noqa: T201
