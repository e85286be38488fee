"""Calls as traces, at a receiver that reads them with OpenTelemetry's own messages."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from live import soon, until
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bridge.server import traces
from bridge.standins.numbered import make_numbered

UNIX_NS = 1_000_000_000


class Receiver:
    """
    An OTLP receiver.

    Attributes:
        spans: All that came.
        resource: The attributes of the last sender.
        answers: Cleared, requests wait.
    """

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Any] = []
        self.resource: dict[str, Any] = {}
        self.answers = asyncio.Event()
        self.answers.set()

    async def on_spans(self, request: web.Request) -> web.Response:
        await self.answers.wait()
        body = await request.read()
        # aiohttp unpacks what it knows; the exporter may pack by its own settings.
        sent = ExportTraceServiceRequest.FromString(
            gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        )
        for resource in sent.resource_spans:
            self.resource = attributes(resource.resource)
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return web.Response(content_type="application/x-protobuf")

    def named(self, name: str) -> Any:
        [found] = [span for span in self.spans if span.name == name]
        return found


def attributes(of: Any) -> dict[str, Any]:
    """Attributes of a resource, span or event as a dictionary."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/v1/traces", receiver.on_spans)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    with contextlib.ExitStack() as stack:
        stack.callback(receiver.answers.set)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    await runner.cleanup()


@pytest.fixture
def traced(monkeypatch, receiver) -> Receiver:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    return receiver


async def test_call_is_a_trace_that_its_call_sid_finds(live_server, traced):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await session.send_audio(make_numbered(1))
        await until(lambda: live.traffic.to_caller == 1)
        await session.send_interrupt()
        await until(lambda: live.traffic.interrupts == 1)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    await soon(live.server.stop())
    assert {span.trace_id.hex() for span in traced.spans} == {caller.call_sid.removeprefix("CA")}
    call = traced.named("call")
    assert not call.parent_span_id
    steps = [traced.named(name) for name in traces.STEPS]
    assert {step.parent_span_id for step in steps} == {call.span_id}
    times = [call.start_time_unix_nano, *(step.end_time_unix_nano for step in steps), call.end_time_unix_nano]
    assert times == sorted(times)
    [document] = live.documents
    socket_ns = traced.named("media socket").start_time_unix_nano
    assert (times[-1] - socket_ns) / UNIX_NS == pytest.approx(document["duration_s"], abs=0.002)
    facts = attributes(call)
    assert (facts["bridge.why"], facts["bridge.agent"]) == ("caller_stopped", "retell")
    [event] = call.events
    assert event.name == "interrupt"
    assert attributes(event)["bridge.clear_ms"] == document["interrupts"]["last"][0]["ms"]
    assert call.status.code == 0
    assert traced.resource["service.name"] == "voice-bridge"


async def test_traces_have_no_numbers_and_no_texts(live_server, traced):
    live = await live_server(agent={"protocol": "openai"}, BRIDGE_AGENT="openai", BRIDGE_LOG_NUMBERS="1")
    async with live.bridged() as (caller, session):
        await session.send_heard("When do you open?")
        await until(lambda: live.open_calls[0].conversation.changes)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    await soon(live.server.stop())
    sent = str(traced.spans)
    assert "call" in sent
    assert not any(text in sent for text in ("14155550123", "14155550100", "When do you"))


async def test_each_turn_is_a_span_with_the_callers_wait(live_server, traced):
    live = await live_server()
    async with live.bridged() as (caller, _):
        await caller.hang_up()
        await until(lambda: live.is_idle)
    [document] = live.documents
    said, answer = {"at_s": 0.5, "until_s": 1.5}, {"at_s": 2.2, "until_s": 3.0}
    turns = [
        {"caller": said, "agent": answer, "wait_ms": 700.0},
        {"caller": None, "agent": answer, "wait_ms": None},
        {"caller": None, "agent": None, "wait_ms": None},
    ]
    once_more = traces.Traces()
    once_more.on_ended({**document, "turns": {**document["turns"], "last": turns}})
    await soon(once_more.stop())
    first, second = (span for span in traced.spans if span.name == "turn")
    assert first.end_time_unix_nano - first.start_time_unix_nano == 2.5 * UNIX_NS
    assert second.end_time_unix_nano - second.start_time_unix_nano == pytest.approx(0.8 * UNIX_NS)
    assert [attributes(turn) for turn in (first, second)] == [{"bridge.wait_ms": 700.0}, {}]


async def test_lost_agent_is_an_error_and_the_users_own_name_is_kept(live_server, traced, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "phones")
    live = await live_server()
    async with live.bridged() as (_, session):
        live.refuse_sessions()
        await session.close(1011, "fault of mine")
        await until(lambda: live.is_idle)
    await soon(live.server.stop())
    call = traced.named("call")
    assert (call.status.code, call.status.message) == (2, "agent_lost")
    assert traced.resource["service.name"] == "phones"


async def test_receiver_that_does_not_answer_holds_up_no_call_and_the_stop_for_its_bound_only(
    live_server, traced, monkeypatch
):
    monkeypatch.setattr(traces, "STOP_S", 0.05)
    traced.answers.clear()
    live = await live_server()
    async with live.bridged() as (caller, _):
        await caller.hang_up()
        await until(lambda: live.is_idle)
    await soon(live.server.stop())
    assert not traced.spans


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
async def test_no_call_is_traced_unless_it_is_asked_for(live_server, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    live = await live_server()
    taken = [getattr(take, "__self__", None) for take in live.server._live.on_ended]
    assert not any(isinstance(one, traces.Traces) for one in taken)


async def test_missing_library_is_a_warning_that_says_what_to_install(live_server, monkeypatch, logs):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    monkeypatch.setitem(sys.modules, "bridge.server.traces", None)
    await live_server()
    [line] = [line for line in logs.lines if "OpenTelemetry" in line]
    assert line.startswith("WARNING")
    assert "pip install 'voice-bridge[otel]', or unset OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in line
