"""What Prometheus reads. Counters of the data path live in the wires and calls and are summed when scraped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]

FAST_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
SLOW_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0)


@dataclass(slots=True)
class Traffic:
    """
    Frames by direction: ``from_caller`` and ``from_agent`` count what came in whole and well formed;
    ``to_agent`` and ``to_caller`` what went out.
    """

    from_caller: int = 0
    to_agent: int = 0
    from_agent: int = 0
    to_caller: int = 0
    dropped_to_agent: int = 0
    dropped_to_caller: int = 0
    cleared_to_caller: int = 0
    interrupts: int = 0
    dtmf: int = 0

    def add(self, other: Traffic) -> None:
        """Add another's counts to these."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class GcPauses(Collector):
    """
    How long the garbage collector held everything up.

    Counted in plain numbers: a collection may begin while a metric's lock is held.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.longest_s = 0.0
        self._began_s = 0.0

    def on_gc(self, phase: str, info: dict[str, int]) -> None:
        """One of ``gc.callbacks``."""
        if phase == "start":
            self._began_s = time.perf_counter()
            return
        pause_s = time.perf_counter() - self._began_s
        self.count += 1
        self.total_s += pause_s
        self.longest_s = max(self.longest_s, pause_s)

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily("bridge_gc_pauses", "Runs of the garbage collector", value=self.count)
        yield CounterMetricFamily("bridge_gc_pause_seconds", "Time spent in them", value=self.total_s)
        yield GaugeMetricFamily(
            "bridge_gc_pause_longest_seconds", "The longest of them", value=self.longest_s
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
            "bridge_frames_dropped", "Media messages that overflowed a hold ring", labels=["direction"]
        )
        dropped.add_metric(["to_agent"], now.dropped_to_agent)
        dropped.add_metric(["to_caller"], now.dropped_to_caller)
        yield dropped
        yield CounterMetricFamily(
            "bridge_frames_cleared", "Held agent audio forgotten at an interrupt", value=now.cleared_to_caller
        )
        yield CounterMetricFamily("bridge_interrupts", "Interrupts relayed as clear", value=now.interrupts)
        yield CounterMetricFamily("bridge_dtmf", "Keys pressed by callers", value=now.dtmf)


@dataclass
class Metrics:
    """All metrics of one process."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        r = self.registry
        self.calls_live = Gauge("bridge_calls_live", "Calls with a verified media socket", registry=r)
        self.calls_admitted = Gauge("bridge_calls_admitted", "Calls answered whose socket is due", registry=r)
        self.draining = Gauge("bridge_draining", "1 after SIGTERM", registry=r)
        self.calls = Counter("bridge_calls", "Calls that became live", registry=r)
        self.calls_ended = Counter("bridge_calls_ended", "Calls that ended", ["why"], registry=r)
        self.calls_refused = Counter("bridge_calls_refused", "Calls not taken", ["reason"], registry=r)
        self.requests = Counter("bridge_http_requests", "HTTP answers", ["path", "status"], registry=r)
        self.messages_ignored = Counter(
            "bridge_messages_ignored", "Messages dropped, the call went on", ["side", "reason"], registry=r
        )
        self.webhook_s = Histogram(
            "bridge_webhook_seconds", "/voice, request to answer", buckets=SLOW_BUCKETS_S, registry=r
        )
        self.agent_connect_s = Histogram(
            "bridge_agent_connect_seconds",
            "start to the agent's open socket",
            buckets=SLOW_BUCKETS_S,
            registry=r,
        )
        self.first_agent_audio_s = Histogram(
            "bridge_first_agent_audio_seconds",
            "start to the agent's first audio",
            buckets=SLOW_BUCKETS_S,
            registry=r,
        )
        self.agents_replaced = Counter(
            "bridge_agents_replaced", "Agents that could not be had, and the next one was tried", registry=r
        )
        self.interrupt_to_clear_s = Histogram(
            "bridge_interrupt_to_clear_seconds",
            "interrupt read to clear written",
            buckets=FAST_BUCKETS_S,
            registry=r,
        )
        self.gc_pauses = GcPauses()
        r.register(self.gc_pauses)
        self.loop_lag_s = Histogram(
            "bridge_event_loop_lag_seconds", "Lateness of the tick", buckets=FAST_BUCKETS_S, registry=r
        )

    def watch_traffic(self, total: Callable[[], Traffic]) -> None:
        """Say where the data path's counters come from."""
        self.registry.register(_TrafficCollector(total))

    def ignored(self, side: str, reason: str) -> None:
        """Count a message that was dropped while its call went on."""
        self.messages_ignored.labels(side, reason).inc()

    def refused(self, reason: str) -> None:
        """Count a call that was not taken."""
        self.calls_refused.labels(reason).inc()

    def interrupt_to_clear(self, seconds: float) -> None:
        """Record one barge-in."""
        self.interrupt_to_clear_s.observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
