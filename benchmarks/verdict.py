"""Judges a load run: the verdict with its reasons, a table as text, and one JSON line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

WAYS = (("to_agent", "caller to agent"), ("to_caller", "agent to caller"))
FAULTS = (
    ("lost", "lost"),
    ("duplicated", "duplicated"),
    ("reordered", "reordered"),
    ("corrupt", "corrupt"),
    ("unexpected_messages", "unexpected messages"),
    ("stale_after_clear", "from before an interrupt but after its clear"),
)
CALL_FAULTS = (
    ("calls_refused", "calls refused at the media socket or before both legs were open"),
    ("calls_missing", "calls whose two legs were not open in time"),
    ("calls_closed_early", "calls closed early"),
    ("bad_closes", "agent legs not closed with 1000 after the caller's stop"),
    ("legs_left_open", "legs left open after the caller's stop"),
    ("interrupts_unanswered", "interrupts without clear"),
    ("clears_unexpected", "clears without interrupt"),
)


Line = dict[str, Any]


class Status(Enum):
    """The result of a run; the value is the exit code."""

    OK = 0
    FAILED = 1
    INVALID = 3


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper limits: the delay fails a run, the others make it invalid."""

    delay_p99_ms: float = 20
    lateness_p99_ms: float = 5
    generator_load_percent: float = 90
    others_percent: float = 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """
    One run's findings.

    ``raw`` is the generator's result object, as it reports it. ``calls_by_worker`` is empty for a bridge without
    workers.
    """

    raw: dict[str, Any]
    settings: dict[str, Any]
    webhook_ms: Sequence[float] = ()
    problems: Sequence[str] = ()
    bridge_cpu_s: float | None = None
    others_cpu_s: float | None = None
    rss_before_kb: float | None = None
    rss_peak_kb: float | None = None
    calls_by_worker: Sequence[int] = ()

    @property
    def frames(self) -> int:
        return sum(int(self.raw[way]["received_in_window"]) for way, _ in WAYS)

    @property
    def cpu_us_per_frame(self) -> float | None:
        return (
            self.bridge_cpu_s * 1e6 / self.frames if self.bridge_cpu_s is not None and self.frames else None
        )

    @property
    def bridge_load_percent(self) -> float | None:
        return _percent(self.bridge_cpu_s, self.raw["window_s"]) if self.bridge_cpu_s is not None else None

    @property
    def others_percent(self) -> float | None:
        """Share of the bridge's core used by other processes or taken by the host of a virtual machine."""
        return _percent(self.others_cpu_s, self.raw["window_s"]) if self.others_cpu_s is not None else None

    @property
    def generator_load_percent(self) -> float:
        return _percent(self.raw["generator_cpu_s"], self.raw["window_s"])

    @property
    def largest_share_percent(self) -> float | None:
        """Share of the calls that the worker with most of them has."""
        calls = self.calls_by_worker
        return _percent(max(calls), sum(calls)) if calls else None

    @property
    def kb_per_call(self) -> float | None:
        if self.rss_before_kb is None or self.rss_peak_kb is None or not self.raw["calls_up"]:
            return None
        return (self.rss_peak_kb - self.rss_before_kb) / float(self.raw["calls_up"])


@dataclass(frozen=True)
class Verdict:
    """The status of a run with every reason."""

    status: Status
    reasons: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.status is Status.OK:
            return "OK"
        head = "invalid" if self.status is Status.INVALID else "FAILED"
        return f"{head}: {'; '.join(self.reasons)}"


def worst(verdicts: Iterable[Verdict]) -> Status:
    """Return the status of all together: what could not be run has not passed."""
    return max((verdict.status for verdict in verdicts), key=[Status.OK, Status.INVALID, Status.FAILED].index)


def in_short(run: Line) -> str:
    """Return the verdict of a run with its first reason."""
    first, *more = run["reasons"] or [""]
    return str(Verdict(Status[run["verdict"].upper()], [first + (f" and {len(more)} more" if more else "")]))


def judge(measured: Measured, limits: Limits) -> Verdict:
    """
    Return the verdict on a run.

    Losses and broken frames count even in an invalid run; its delays do not.
    """
    raw = measured.raw
    broken = [f"{raw[key]} {text}" for key, text in CALL_FAULTS if raw[key]]
    for way, way_text in WAYS:
        broken += [f"{raw[way][key]} {text} ({way_text})" for key, text in FAULTS if raw[way][key]]
    broken += measured.problems
    if not broken and not measured.frames:
        broken.append("no frame was relayed")
    invalid = _why_invalid(measured, limits)
    if broken:
        return Verdict(Status.FAILED, broken + [f"but the run is invalid: {reason}" for reason in invalid])
    if invalid:
        return Verdict(Status.INVALID, invalid)
    slow = []
    for way, way_text in WAYS:
        delay_ms = raw[way]["delay_us"]["p99"] / 1000
        if delay_ms > limits.delay_p99_ms:
            slow.append(f"p99 delay {delay_ms:.1f} ms > {limits.delay_p99_ms:g} ms ({way_text})")
    return Verdict(Status.FAILED if slow else Status.OK, slow)


def _why_invalid(measured: Measured, limits: Limits) -> list[str]:
    """Return the reasons why a run's delays do not count."""
    invalid = []
    raw = measured.raw
    lateness_ms = raw["lateness_us"]["p99"] / 1000
    if lateness_ms > limits.lateness_p99_ms:
        invalid.append(f"the generator sent late: p99 {lateness_ms:.1f} ms > {limits.lateness_p99_ms:g} ms")
    if measured.generator_load_percent > limits.generator_load_percent:
        invalid.append(
            f"the generator was saturated: {measured.generator_load_percent:.0f} % of a core"
            f" > {limits.generator_load_percent:g} %"
        )
    if measured.others_percent is not None and measured.others_percent > limits.others_percent:
        invalid.append(
            f"others used {measured.others_percent:.0f} % of the bridge's core > {limits.others_percent:g} %"
        )
    return invalid


def quantile(values: Iterable[float], share: float) -> float:
    """Return the smallest of ``values`` that at least ``share`` of them do not exceed, or NaN without values."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def set_in(run: Line) -> str:
    """Return the settings that --set gave to the bridge; runs of older reports have none."""
    return str(run.get("set", ""))


def and_set(run: Line) -> str:
    """Return the settings of `set_in` as the end of a title."""
    return f", {set_in(run)}" if set_in(run) else ""


def to_json(measured: Measured, verdict: Verdict) -> Line:
    """Return the run as one flat object, units in the keys."""
    raw = measured.raw
    line: Line = {"verdict": verdict.status.name.lower(), "reasons": verdict.reasons}
    line |= measured.settings
    line |= {
        key: value
        for key, value in raw.items()
        if key not in ("event", "notes") and not isinstance(value, dict)
    }
    for way, _ in WAYS:
        line |= {f"{way}_{key}": value for key, value in raw[way].items() if key != "delay_us"}
        line |= _histogram(f"{way}_delay", raw[way]["delay_us"])
    line |= _histogram("interrupt_to_clear", raw["clear_us"])
    line |= _histogram("generator_lateness", raw["lateness_us"])
    line["generator_load_percent"] = round(measured.generator_load_percent, 1)
    line["frames_relayed_in_window"] = measured.frames
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        line[f"webhook_{name}_ms"] = _rounded(quantile(measured.webhook_ms, share))
    line["bridge_cpu_s"] = _rounded(measured.bridge_cpu_s)
    line["bridge_load_percent"] = _rounded(measured.bridge_load_percent)
    line["others_percent_of_bridge_core"] = _rounded(measured.others_percent)
    line["bridge_cpu_us_per_frame"] = _rounded(measured.cpu_us_per_frame)
    line["calls_by_worker"] = list(measured.calls_by_worker)
    line["largest_share_percent"] = _rounded(measured.largest_share_percent)
    line["bridge_rss_before_kb"] = measured.rss_before_kb
    line["bridge_rss_peak_kb"] = measured.rss_peak_kb
    line["bridge_kb_per_call"] = _rounded(measured.kb_per_call)
    return line


def table(measured: Measured) -> str:
    """Return the findings as a few lines of text."""
    raw = measured.raw
    lines = [
        f"{'added delay, ms':<18}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9}{'frames':>11}"
        f"{'lost':>7}{'dup':>6}{'reord':>7}{'corrupt':>9}{'cleared':>9}"
    ]
    for way, way_text in WAYS:
        counts = raw[way]
        lines.append(
            f"{way_text:<18}"
            + "".join(f"{counts['delay_us'][q] / 1000:>9.3f}" for q in ("p50", "p99", "p999", "max"))
            + f"{counts['received']:>11}{counts['lost']:>7}{counts['duplicated']:>6}"
            + f"{counts['reordered']:>7}{counts['corrupt']:>9}{counts['cleared']:>9}"
        )
    others = "" if measured.others_percent is None else f" (others {measured.others_percent:.0f} %)"
    lines.append(
        f"{name_of(measured):<18} {_text(measured.cpu_us_per_frame, '.2f')} us CPU per frame, "
        f"{_text(measured.bridge_load_percent, '.0f')} % of a core{others}, "
        f"{_text(measured.kb_per_call, '.1f')} KB per call ({raw['calls_up']} calls)"
    )
    lines.append(
        f"interrupt to clear {_quantiles(raw['clear_us'])} ({raw['clear_us']['count']} in the window)"
    )
    webhook = [quantile(measured.webhook_ms, share) for share in (0.5, 0.99, 1.0)]
    if measured.webhook_ms:
        lines.append("webhook            p50 {:.1f}, p99 {:.1f}, max {:.1f} ms".format(*webhook))
    lines.append(
        f"generator          {measured.generator_load_percent:.0f} % of a core, "
        f"late by {_quantiles(raw['lateness_us'])}"
    )
    if measured.calls_by_worker:
        lines.append(
            f"workers            {', '.join(map(str, measured.calls_by_worker))} calls; "
            f"the largest share is {_text(measured.largest_share_percent, '.0f')} %"
        )
    if raw.get("marks"):
        lines.append(f"marks              {raw['marks']} received by the callers and echoed")
    lines += [f"note: {text}" for text in raw["notes"]]
    return "\n".join(lines)


def name_of(measured: Measured) -> str:
    """Return the name of the bridge or peer that was measured."""
    return str(measured.settings.get("name", "bridge"))


def _quantiles(histogram: dict[str, float]) -> str:
    if not histogram["count"]:
        return "-"
    return ", ".join(f"{name} {histogram[name] / 1000:.3f}" for name in ("p50", "p99", "max")) + " ms"


def _histogram(name: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{name}_{key}" + ("" if key == "count" else "_us"): value for key, value in values.items()}


def _percent(part: float, whole: float) -> float:
    return 100 * part / whole if whole else 0.0


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, 3)


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def settings_of(limits: Limits, **settings: Any) -> dict[str, Any]:
    """Return the settings of a run for its JSON line."""
    return settings | {f"limit_{name}": value for name, value in asdict(limits).items()}
