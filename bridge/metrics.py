"""The metrics for Prometheus. Counters of the data path are kept by wires and calls, and are summed at each scrape."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.metric_labels import IGNORED, REFUSALS

disable_created_metrics()  # type: ignore[no-untyped-call]

FAST_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
# How the values of several workers become one, for gauges that do not add up.
GAUGE_RULES = {
    "bridge_draining": "min",
    "bridge_store_available": "min",
    "bridge_agent_available": "min",
    "bridge_full": "max",
    "bridge_day_call_seconds": "max",
    "bridge_events_queued": "max",
    "bridge_events_oldest_seconds": "max",
    "bridge_day_call_seconds_max": "max",
    "bridge_gc_pause_longest_seconds": "max",
    "bridge_build_info": "max",
    "process_start_time_seconds": "min",
}
# Waits of callers: a second is a long silence on the phone, and beyond two people ask whether anybody is there.
WAIT_BUCKETS_S = (0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)
SLOW_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0)


@dataclass(slots=True)
class Traffic:
    """
    Counts of media messages: ``from_*`` well-formed ones that came in, ``to_*`` those sent.

    ``dropped_*`` were not sent: ``overflowed_*`` of them for want of room, the others because their socket ended;
    ``cleared_to_caller`` were discarded at an interrupt.
    """

    from_caller: int = 0
    to_agent: int = 0
    from_agent: int = 0
    to_caller: int = 0
    dropped_to_agent: int = 0
    dropped_to_caller: int = 0
    overflowed_to_agent: int = 0
    overflowed_to_caller: int = 0
    cleared_to_caller: int = 0
    interrupts: int = 0
    dtmf: int = 0

    def add(self, other: Traffic) -> None:
        """Add another's counts to these."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class GcPauses(Collector):
    """
    The pauses that garbage collection causes.

    The counts are plain numbers, because a collection may begin while a metric's lock is held.
    """

    def __init__(self) -> None:
        # Runs so far, their time together, and the longest one.
        self.count = 0
        self.total_s = 0.0
        self.longest_s = 0.0
        # The start of the run that is going on.
        self._began_s = 0.0

    def on_gc(self, phase: str, info: dict[str, int]) -> None:
        """Measure a run; a member of ``gc.callbacks``."""
        if phase == "start":
            self._began_s = time.perf_counter()
            return
        pause_s = time.perf_counter() - self._began_s
        self.count += 1
        self.total_s += pause_s
        self.longest_s = max(self.longest_s, pause_s)

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily("bridge_gc_pauses", "Runs of the garbage collector", value=self.count)
        yield CounterMetricFamily(
            "bridge_gc_pause_seconds", "Time spent in garbage collection", value=self.total_s
        )
        yield GaugeMetricFamily(
            "bridge_gc_pause_longest_seconds",
            "The longest run of the garbage collector",
            value=self.longest_s,
        )


class _TrafficCollector(Collector):
    def __init__(self, total: Callable[[], Traffic]) -> None:
        self._total = total

    def collect(self) -> Iterable[CounterMetricFamily]:
        now = self._total()
        frames = CounterMetricFamily("bridge_frames", "Media messages by direction", labels=["direction"])
        for direction in ("from_caller", "to_agent", "from_agent", "to_caller"):
            frames.add_metric([direction], getattr(now, direction))
        yield frames
        dropped = CounterMetricFamily(
            "bridge_frames_dropped", "Media messages that were not sent", labels=["direction", "reason"]
        )
        for direction in ("to_agent", "to_caller"):
            overflowed = getattr(now, f"overflowed_{direction}")
            dropped.add_metric([direction, "full"], overflowed)
            dropped.add_metric([direction, "ended"], getattr(now, f"dropped_{direction}") - overflowed)
        yield dropped
        yield CounterMetricFamily(
            "bridge_frames_cleared", "Held agent audio discarded at an interrupt", value=now.cleared_to_caller
        )
        yield CounterMetricFamily("bridge_interrupts", "Interrupts relayed as clear", value=now.interrupts)
        yield CounterMetricFamily("bridge_dtmf", "Keys pressed by callers", value=now.dtmf)


class _LogCollector(Collector):
    def __init__(self, dropped: Callable[[], int]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterable[CounterMetricFamily]:
        yield CounterMetricFamily(
            "bridge_log_lines_dropped",
            "Log lines that nobody read in time, or that could not be written",
            value=self._dropped(),
        )


@dataclass
class Metrics:
    """All metrics of one process."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        r = self.registry
        ProcessCollector(registry=r)
        build = Gauge("bridge_build_info", "1, with the versions", ["version", "python"], registry=r)
        build.labels(installed_version(), platform.python_version()).set(1)
        self.calls_max = Gauge(
            "bridge_calls_max", "The most calls at once (BRIDGE_MAX_CALLS of each process)", registry=r
        )
        self.calls_live = Gauge("bridge_calls_live", "Calls with a verified media socket", registry=r)
        self.calls_admitted = Gauge(
            "bridge_calls_admitted", "Answered calls whose media socket has not opened yet", registry=r
        )
        self.draining = Gauge("bridge_draining", "1 after SIGTERM", registry=r)
        self.held_bytes = Gauge(
            "bridge_held_bytes", "Audio and partial messages held for all calls", registry=r
        )
        self.agents_ahead = Counter(
            "bridge_agents_ahead",
            "Calls whose agent was more than nine minutes ahead of the caller",
            registry=r,
        )
        self.calls = Counter(
            "bridge_calls",
            "Calls that became live, by the first agent of their chain",
            ["agent", "route"],
            registry=r,
        )
        self.calls_ended = Counter(
            "bridge_calls_ended", "Calls that ended, by the last agent", ["why", "agent"], registry=r
        )
        self.calls_refused = Counter("bridge_calls_refused", "Refused calls", ["reason"], registry=r)
        for reason in REFUSALS:
            self.calls_refused.labels(reason)
        self.requests = Counter("bridge_http_requests", "HTTP answers", ["path", "status"], registry=r)
        self.messages_ignored = Counter(
            "bridge_messages_ignored",
            "Ignored messages of calls that went on",
            ["side", "reason"],
            registry=r,
        )
        for side, reasons in IGNORED.items():
            for reason in reasons:
                self.messages_ignored.labels(side, reason)
        self.webhook_s = Histogram(
            "bridge_webhook_seconds",
            "From a request for /voice to its answer",
            buckets=SLOW_BUCKETS_S,
            registry=r,
        )
        self.answers = Counter(
            "bridge_answers", "Questions to the answer webhook, by what came of them", ["result"], registry=r
        )
        self.answer_s = Histogram(
            "bridge_answer_seconds",
            "From a question to the answer webhook to its answer, or its failure",
            buckets=SLOW_BUCKETS_S,
            registry=r,
        )
        self.events = Counter(
            "bridge_events",
            "Events for BRIDGE_EVENTS_URL: tries that failed, and what came of the events",
            ["type", "result"],
            registry=r,
        )
        self.events_queued = Gauge(
            "bridge_events_queued", "Events that wait in the store, of all processes", registry=r
        )
        self.events_oldest_s = Gauge(
            "bridge_events_oldest_seconds", "Age of the oldest of these events", registry=r
        )
        self.agent_connect_s = Histogram(
            "bridge_agent_connect_seconds",
            "From start to the agent's open socket",
            ["agent"],
            buckets=SLOW_BUCKETS_S,
            registry=r,
        )
        self.first_agent_audio_s = Histogram(
            "bridge_first_agent_audio_seconds",
            "From start to the agent's first audio",
            ["agent"],
            buckets=SLOW_BUCKETS_S,
            registry=r,
        )
        self.caller_wait_s = Histogram(
            "bridge_caller_wait_seconds",
            "From the end of a caller's words to the agent's first sound, as the caller hears it",
            ["agent"],
            buckets=WAIT_BUCKETS_S,
            registry=r,
        )
        self.agents_replaced = Counter(
            "bridge_agents_replaced",
            "Unavailable agents after which the next one was tried",
            ["agent"],
            registry=r,
        )
        self.agent_errors = Counter(
            "bridge_agent_errors",
            "Calls that an agent failed, by what its service gave as the reason",
            ["agent", "code"],
            registry=r,
        )
        self.calls_without_agent_audio = Counter(
            "bridge_calls_without_agent_audio",
            "Calls in which an open agent sent no audio for 5 s or more",
            ["agent"],
            registry=r,
        )
        self.agent_available = Gauge(
            "bridge_agent_available", "0 while calls pass a failing agent over", ["agent"], registry=r
        )
        self.agents_passed_over = Counter(
            "bridge_agents_passed_over",
            "Calls that did not try an agent, because it fails or is full",
            ["agent", "why"],
            registry=r,
        )
        self.full = Gauge(
            "bridge_full",
            "1 while an agent or a route has all the calls that it may have",
            ["of"],
            registry=r,
        )
        self.day_call_s = Gauge(
            "bridge_day_call_seconds",
            "Time of all calls on this UTC day, where BRIDGE_DAY_MINUTES bounds it",
            registry=r,
        )
        self.day_call_max_s = Gauge(
            "bridge_day_call_seconds_max", "BRIDGE_DAY_MINUTES in seconds; 0 for no bound", registry=r
        )
        self.callers_kept = Counter(
            "bridge_callers_kept", "Lost media sockets after which the agent was kept", registry=r
        )
        self.callers_back = Counter(
            "bridge_callers_back", "New media sockets that went on with a kept agent", registry=r
        )
        lost = "Agent audio sent to media sockets that were lost before it had played"
        self.lost_audio_s = Counter("bridge_lost_audio_seconds", lost, registry=r)
        self.store_available = Gauge("bridge_store_available", "1 while the store answers", registry=r)
        self.store_failures = Counter(
            "bridge_store_failures", "Questions that the store did not answer in time", registry=r
        )
        self.records_lost = Counter(
            "bridge_records_lost", "Records of finished calls that the store did not take", registry=r
        )
        self.flight_files_lost = Counter(
            "bridge_flight_files_lost", "Flight records of calls that could not be written", registry=r
        )
        self.recordings_open = Gauge("bridge_recordings_open", "Recordings that are being made", registry=r)
        self.recordings = Counter("bridge_recordings", "Recordings that are over", ["reason"], registry=r)
        encoded = "Recordings whose encoding as Opus is over"
        self.recordings_encoded = Counter("bridge_recordings_encoded", encoded, ["reason"], registry=r)
        waiting = "Recorded audio that is not on the disk yet"
        self.recording_waiting_bytes = Gauge("bridge_recording_waiting_bytes", waiting, registry=r)
        self.interrupt_to_clear_s = Histogram(
            "bridge_interrupt_to_clear_seconds",
            "From an interrupt to the clear sent to Twilio",
            buckets=FAST_BUCKETS_S,
            registry=r,
        )
        self.gc_pauses = GcPauses()
        r.register(self.gc_pauses)
        self.loop_lag_s = Histogram(
            "bridge_event_loop_lag_seconds", "Lateness of the tick", buckets=FAST_BUCKETS_S, registry=r
        )

    def watch_traffic(self, total: Callable[[], Traffic]) -> None:
        """
        Expose the data path's counters.

        Args:
            total: Sums them; called at each scrape.
        """
        self.registry.register(_TrafficCollector(total))

    def watch_log(self, dropped: Callable[[], int]) -> None:
        """
        Expose the lines that the log lost.

        Args:
            dropped: Counts them; called at each scrape.
        """
        self.registry.register(_LogCollector(dropped))

    def ignored(self, side: str, reason: str) -> None:
        """Count an ignored message of a call that goes on."""
        self.messages_ignored.labels(side, reason).inc()

    def refused(self, reason: str) -> None:
        """Count a refused call."""
        self.calls_refused.labels(reason).inc()

    def interrupt_to_clear(self, seconds: float) -> None:
        """Record one barge-in."""
        self.interrupt_to_clear_s.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' exposition format."""
        return generate_latest(self.registry)

    def families(self) -> list[dict[str, Any]]:
        """
        Return all metrics as values that JSON has: for each family its name, type, help, rule and samples.

        A sample is a list of its name, its labels and its value.
        """
        return [
            {
                "name": family.name,
                "type": family.type,
                "help": family.documentation,
                "rule": GAUGE_RULES.get(family.name, "sum"),
                "samples": [[sample.name, dict(sample.labels), sample.value] for sample in family.samples],
            }
            for family in self.registry.collect()
        ]


def installed_version() -> str:
    try:
        return version("voice-bridge")
    except PackageNotFoundError:
        # Run from a checkout that nobody has installed.
        return "unknown"


def text_of(families: Iterable[Mapping[str, Any]]) -> bytes:
    """Return families as `Metrics.families` has them in Prometheus' exposition format."""
    registry = CollectorRegistry()
    registry.register(_Given(families))
    return generate_latest(registry)


class _Given(Collector):
    def __init__(self, families: Iterable[Mapping[str, Any]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            metric = Metric(family["name"], family["help"], family["type"])
            for name, labels, value in family["samples"]:
                metric.add_sample(name, labels, value)
            yield metric
