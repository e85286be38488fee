"""Finished calls as OpenTelemetry traces, made of their documents; needs the extra ``otel``."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from bridge.call.document import summary
from bridge.call.ends import Outcome
from bridge.metrics import installed_version

# The spans of a call, each from one time of the document to another.
STEPS = {
    "webhook": ("webhook", "answered"),
    "media socket": ("socket", "start"),
    "agent connect": ("start", "agent_open"),
    "first word": ("agent_open", "first_word"),
}
# Numbers are personal data; the times are those of the span.
NOT_IN_ATTRIBUTES = {"from", "to", "start", "ended"}
# A receiver that does not answer must not hold up the end of a process for longer.
STOP_S = 5.0


class Traces:
    """
    Makes a trace of each finished call.

    Its id is the CallSid without ``CA``, so that the spans of all processes that had the call are one trace. A thread
    sends it from a bounded queue, as the ``OTEL_*`` variables say; what the receiver does not take is dropped.
    """

    def __init__(self) -> None:
        self._ids = _CallIds()
        own = Resource.create({SERVICE_NAME: "voice-bridge", SERVICE_VERSION: installed_version()})
        resource = own.merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("voice-bridge")

    def on_ended(self, document: Mapping[str, Any]) -> None:
        """Queue the spans of a call that is over; does not wait."""
        times = {name: _unix_ns(time) for name, time in document["times"].items() if time is not None}
        facts = {name: value for name, value in summary(document).items() if name not in NOT_IN_ATTRIBUTES}
        self._ids.trace_id = int(document["call_sid"].removeprefix("CA"), 16)
        call = self._tracer.start_span(
            "call",
            kind=SpanKind.SERVER,
            attributes={f"bridge.{name}": value for name, value in facts.items() if value is not None},
            start_time=min(times.values()),
        )
        within = set_span_in_context(call)
        for name, (began, ended) in STEPS.items():
            if began in times and ended in times:
                self._tracer.start_span(name, within, start_time=times[began]).end(times[ended])
        start_ns = times.get("start", times["socket"])
        for turn in document["turns"]["last"]:
            sides = [side for side in (turn["caller"], turn["agent"]) if side is not None]
            if sides:
                spoken = self._tracer.start_span("turn", within, start_time=start_ns + _ns(sides[0]["at_s"]))
                if turn["wait_ms"] is not None:
                    spoken.set_attribute("bridge.wait_ms", turn["wait_ms"])
                spoken.end(start_ns + _ns(max(side["until_s"] for side in sides)))
        for interrupt in document["interrupts"]["last"]:
            call.add_event(
                "interrupt", {"bridge.clear_ms": interrupt["ms"]}, start_ns + _ns(interrupt["at_s"])
            )
        if facts["outcome"] in (None, Outcome.AGENT_LOST.value):
            call.set_status(Status(StatusCode.ERROR, facts["why"]))
        call.end(times["ended"])

    async def stop(self) -> None:
        """Send what waits, for at most `STOP_S` seconds."""
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()

        def stop() -> None:
            self._provider.shutdown()
            # The loop may be closed by now.
            if not loop.is_closed():
                loop.call_soon_threadsafe(stopped.set)

        threading.Thread(target=stop, name="traces", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), STOP_S)


class _CallIds(RandomIdGenerator):
    """Gives each trace the id that was set last; random ids for spans."""

    trace_id = 0

    def generate_trace_id(self) -> int:
        # Zero is no valid id, though it can be a CallSid.
        return self.trace_id or super().generate_trace_id()


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _unix_ns(time: str) -> int:
    # Python 3.11 reads the Z.
    return round(datetime.fromisoformat(time).timestamp() * 1000) * 1_000_000
