"""Writes the report of `--report DIR`: every run as JSON, the pictures, and the section of an existing page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.compare import GATHERING_FLOOR, Comparison, Ratio, in_floors, lost_of, number
from benchmarks.measure import machine
from benchmarks.sweep import Sweep
from benchmarks.verdict import Line, and_set, set_in

BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The results of one command."""

    runs: Sequence[Line]
    comparison: Comparison | None = None
    sweeps: Sequence[Sweep] = ()


@dataclass
class Report:
    """All findings on one machine; new ones replace earlier ones of the same kind."""

    machine: str
    runs: list[Line] = field(default_factory=list)
    comparisons: list[Line] = field(default_factory=list)
    sweeps: list[Line] = field(default_factory=list)

    def add(self, findings: Findings) -> None:
        new = {_kind(run) for run in findings.runs}
        self.runs = [run for run in self.runs if _kind(run) not in new] + list(findings.runs)
        first = findings.runs[0]
        setting = {"date": first["date"], "seconds": first["seconds"]}
        if findings.comparison:
            bridge = findings.comparison.typical("bridge")
            found = {
                "calls": bridge["calls"],
                "tls": bridge["tls"],
                "set": set_in(bridge),
                **setting,
                **findings.comparison.to_json(),
            }
            found["typical"] = {
                name: findings.comparison.typical(name) for name in findings.comparison.names()
            }
            self.comparisons = _replaced(self.comparisons, found, "calls", "tls")
        for sweep in findings.sweeps:
            step = sweep.steps[0]
            found = {"name": step["name"], "tls": step["tls"], "set": set_in(step), **setting}
            found |= {"carried": sweep.carried, "why_ended": sweep.why_ended}
            self.sweeps = _replaced(self.sweeps, found, "name", "tls")


def _kind(run: Line) -> tuple[str, int, bool, str]:
    return run["name"], run["calls"], run["tls"], set_in(run)


def _replaced(known: list[Line], new: Line, *keys: str) -> list[Line]:
    others = [one for one in known if set_in(one) != set_in(new) or any(one[key] != new[key] for key in keys)]
    return sorted([*others, new], key=lambda one: [*(str(one[key]).zfill(8) for key in keys), set_in(one)])


def write_report(directory: Path, findings: Findings) -> None:
    """
    Add findings to the report in ``directory`` and redraw its pictures; on another machine the report starts over.

    If a page ``directory``.md has the two marks, the report as text replaces the part between them.
    """
    report = _load(directory / "report.json")
    report.add(findings)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.json").write_text(json.dumps(vars(report), indent=1) + "\n")
    # Imported here because only this needs matplotlib.
    from benchmarks.pictures import draw

    pictures = draw(report.runs, directory)
    page = directory.with_suffix(".md")
    text = as_markdown(report, [f"{directory.name}/{picture.name}" for picture in pictures])
    if page.is_file() and BEGIN in page.read_text():
        page.write_text(filled(page.read_text(), text))
        click.echo(f"written: {page}", err=True)
    click.echo(f"written: {directory}/report.json, {', '.join(p.name for p in pictures)}", err=True)


def filled(page: str, text: str) -> str:
    """Return a page with ``text`` between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _load(path: Path) -> Report:
    if path.is_file():
        report = Report(**json.loads(path.read_text(), object_hook=_renamed))
        if report.machine == machine():
            return report
        click.echo(f"{path} is of another machine ({report.machine}): starting over", err=True)
    return Report(machine())


def _renamed(found: dict[str, Any]) -> dict[str, Any]:
    """Rename "void", the word of older reports for "invalid"."""
    if found.get("verdict") == "void":
        found["verdict"] = "invalid"
    if "rounds_void" in found:
        found["rounds_invalid"] = found.pop("rounds_void")
    return found


COLUMNS: list[tuple[str, Callable[[Line], str]]] = [
    ("µs CPU per frame", lambda run: number(run["bridge_cpu_us_per_frame"], 1, ".2f")),
    ("% of the core", lambda run: number(run["bridge_load_percent"], 1, ".0f")),
    ("p99 delay to agent, ms", lambda run: number(run["to_agent_delay_p99_us"], 1e3, ".2f")),
    ("p99 delay to caller, ms", lambda run: number(run["to_caller_delay_p99_us"], 1e3, ".2f")),
    ("lost", lambda run: str(lost_of(run))),
    (
        "interrupt to clear p50 / p99 / max, ms",
        lambda run: " / ".join(
            number(run[f"interrupt_to_clear_{q}_us"], 1e3, ".2f") for q in ("p50", "p99", "max")
        ),
    ),
    ("KB per call", lambda run: number(run["bridge_kb_per_call"], 1, ".0f")),
    ("generator, % of its core", lambda run: number(run["generator_load_percent"], 1, ".0f")),
    ("verdict", lambda run: str(run["verdict"])),
]


def as_markdown(report: Report, pictures: Sequence[str]) -> str:
    """Return the report as text, pictures by their path."""
    parts = [
        f"Machine: {report.machine}. Each row is the middle one of its runs by cost; invalid ones are left aside."
    ]
    for found in report.comparisons:
        over = ", TLS to the agent (the floor without)" if found["tls"] else ""
        rows = [
            [name, *_costs_in_floors(found, name), *(form(run) for _, form in COLUMNS)]
            for name, run in found["typical"].items()
        ]
        header = [
            "",
            "cost in floors: median (spread)",
            "in gathering floors",
            *(title for title, _ in COLUMNS),
        ]
        parts.append(
            f"### {found['calls']} calls{over}{and_set(found)}\n\n"
            f"{found['date'][:10]}, {found['seconds']:g} s a run; {found['rounds'] - found['rounds_invalid']} of "
            f"{found['rounds']} rounds count.\n\n{_grid(header, rows)}"
        )
        parts += [f"`{name}` is left out: {reason}" for name, reason in found["left_out"].items()]
    if report.sweeps:
        rows = [
            [
                one["name"] + (" (TLS to the agent)" if one["tls"] else "") + and_set(one),
                "-" if one["carried"] is None else str(one["carried"]),
                one["why_ended"],
                one["date"][:10],
            ]
            for one in report.sweeps
        ]
        parts.append("### Calls that one core carries\n\n" + _grid(["", "calls", "and then", "date"], rows))
    parts += [f"![{Path(picture).stem.replace('-', ' ')}]({picture})" for picture in pictures]
    return "\n\n".join(parts)


def _costs_in_floors(found: Line, name: str) -> tuple[str, str]:
    def cost(kind: str, floor: str) -> str:
        ratio = found[kind].get(name)
        return in_floors(Ratio(**ratio) if ratio else None, name == floor)

    # Older reports have no gathering floor.
    has_gathering = name != "floor" and found.get("cost_in_gathering_floors")
    gathering = cost("cost_in_gathering_floors", GATHERING_FLOOR) if has_gathering else ""
    return cost("cost_in_floors", "floor"), gathering


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
