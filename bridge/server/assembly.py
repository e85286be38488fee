"""Puts together what answers requests: webhooks, media sockets, health checks and metrics."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from _codec import HeldBudget
from bridge.agents.sessions import Sessions
from bridge.call import flight
from bridge.call.ends import Why
from bridge.call.leg import Process
from bridge.call.limits import Limits
from bridge.metrics import Metrics
from bridge.seal import BadSeal, Seal
from bridge.server.admissions import Admissions
from bridge.server.answer_webhook import AnswerWebhook
from bridge.server.call_loudness import CallLoudness
from bridge.server.callers import Callers
from bridge.server.calls_api import CallsApi
from bridge.server.events.standard_webhooks import WebhookSigner
from bridge.server.forms import Forms
from bridge.server.known_calls import KnownCalls
from bridge.server.live import Live
from bridge.server.live_calls import LiveCalls
from bridge.server.media_socket import MediaSockets
from bridge.server.outgoing import twilio_api
from bridge.server.page.login import Login
from bridge.server.page.page import Page
from bridge.server.page.telephone import Telephone
from bridge.server.paths import Paths
from bridge.server.probe import Probe
from bridge.server.recorded_calls import RecordedCalls
from bridge.server.records.finished import FinishedCalls, Forget
from bridge.server.records.flights import FlightFiles
from bridge.server.records.recordings import Recordings
from bridge.server.refusals import Refusals
from bridge.server.registry import Registry
from bridge.server.retell_webhook import RetellWebhook
from bridge.server.store.agreement import Agreement
from bridge.server.store.opening import Parts
from bridge.server.telephone_calls import TelephoneCalls
from bridge.server.webhooks import Webhooks, nobody_to_tell
from bridge.server.workers.worker import Siblings
from bridge.settings import Settings
from bridge.twilio.signature import Signatures
from bridge.twilio.tokens import Tokens

log = structlog.get_logger()

# Either one turns traces on, as in any program that uses OpenTelemetry.
TRACE_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def expect_ends(metrics: Metrics, agents: Iterable[str]) -> None:
    """Count from zero on how calls of these agents end, so that a rule finds each before the first call."""
    for why, name in itertools.product(Why, agents):
        metrics.calls_ended.labels(why.value, name)


def expose(metrics: Metrics, settings: Settings, registry: Registry, held: HeldBudget) -> None:
    """Let the gauges show what these have at the time of a scrape."""
    metrics.calls_max.set(settings.bridge_max_calls)
    metrics.held_bytes.set_function(lambda: held.used_bytes)
    metrics.calls_live.set_function(lambda: registry.live)
    metrics.calls_admitted.set_function(lambda: registry.admitted)


def open_traces(live: Live, opened: AsyncExitStack) -> None:
    """Trace the calls that end, until ``opened`` closes, where OpenTelemetry's variables name a receiver."""
    wanted = next((name for name in TRACE_ENDPOINTS if os.environ.get(name)), None)
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if wanted is None or is_off or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return
    try:
        from bridge.server.traces import Traces
    except ImportError:
        what_to_do = f"run pip install 'voice-bridge[otel]', or unset {wanted}"
        log.warning("calls are not traced: OpenTelemetry is not installed", detail=what_to_do)
        return
    traces = Traces()
    live.on_ended.append(traces.on_ended)
    opened.push_async_callback(traces.stop)


def open_flights(settings: Settings, seal: Seal, metrics: Metrics, opened: AsyncExitStack) -> FlightFiles:
    """Keep flight records, until ``opened`` closes; without an auth token no other process could read one."""

    def unsealed(text: str) -> dict[str, Any] | None:
        try:
            return seal.open(flight.PURPOSE, text, None)
        except BadSeal:
            return None

    sealed = partial(seal.seal, flight.PURPOSE) if settings.auth_tokens else None
    folder, keep_s = settings.state_dir / flight.FOLDER, settings.bridge_keep_h * 3600
    flights = FlightFiles(folder, sealed, unsealed, keep_s, metrics)
    opened.push_async_callback(flights.stop)
    return flights


def assemble_paths(
    settings: Settings,
    limits: Limits,
    process: Process,
    live: Live,
    registry: Registry,
    agreement: Agreement,
    parts: Parts,
    sessions: Sessions,
    callers: Callers,
    siblings: Siblings | None,
    flights: FlightFiles,
    http: aiohttp.ClientSession,
    opened: AsyncExitStack,
) -> Paths:
    """
    Make the handlers of one process.

    Args:
        process: What each leg is lent.
        parts: The store, in which events wait.
        siblings: The other workers on the same port, if this process is one.
        flights: The flight records of this host.
        http: For requests to the user's own webhook.
        opened: Closes what is opened here.
    """
    metrics, clock = process.metrics, process.clock
    tokens = Tokens(settings.auth_tokens, limits.token_s)
    overrides = settings.bridge_connection_overrides
    signatures = Signatures(settings.auth_tokens, settings.public_url, settings.stream_base, overrides)
    checked, account_sid = settings.bridge_validate_signatures, settings.twilio_account_sid
    refusals = Refusals(signatures, metrics, checked, clock, account_sid)

    async def forget_events(call_sid: str) -> bool:
        return await parts.breaker.ask(lambda: parts.store.queue.blank(call_sid))

    loudness = CallLoudness(live, registry) if settings.has_page else None
    live_calls = LiveCalls(live, registry, siblings, loudness, clock)
    also_forget: list[Forget] = [agreement.transcripts.forget, agreement.answers.forget]
    also_forget += [forget_events, flights.forget, live_calls.forget_loudness]
    recordings = None
    if settings.bridge_record_dir:
        keep_s = settings.bridge_record_keep_h * 3600
        is_opus = settings.bridge_record_format == "opus"
        recordings = Recordings(Path(settings.bridge_record_dir), keep_s, metrics, is_opus=is_opus)
        opened.push_async_callback(recordings.stop)
        also_forget.append(recordings.forget)
    twilio = twilio_api(settings, http, limits.twilio_api_s) if settings.bridge_record_twilio else None
    recorded = RecordedCalls(live, sessions, recordings, twilio)
    finished = FinishedCalls(agreement.documents, metrics, settings.bridge_keep_h * 3600, also_forget)
    live.on_ended.append(finished.keep)
    media_sockets = MediaSockets(
        settings,
        limits,
        process,
        live,
        registry,
        agreement,
        sessions,
        tokens,
        signatures,
        refusals,
        callers,
        flights,
        recorded,
    )
    answers = None
    if settings.bridge_answer_url:
        answers = AnswerWebhook(
            settings.bridge_answer_url,
            WebhookSigner(settings.webhook_secrets),
            http,
            agreement.answers,
            sessions.is_known,
            metrics,
            clock,
            min(limits.answer_s, settings.bridge_session_s / 2),
        )

    def has_other() -> bool:
        # The heartbeats of workers that have just taken the place of this one may not be read yet.
        return (siblings is not None and siblings.is_replaced) or agreement.presence.has_other()

    webhooks = Webhooks(
        settings,
        sessions,
        registry,
        agreement,
        tokens,
        signatures,
        refusals,
        callers,
        metrics,
        clock,
        siblings.announce if siblings is not None else nobody_to_tell,
        has_other,
        answers,
    )
    retell = RetellWebhook(settings.retell_api_key.get_secret_value(), registry, clock)
    probe = Probe(settings, Forms(settings, signatures, refusals), signatures, refusals)
    api_token = settings.bridge_api_token.get_secret_value()
    known = KnownCalls(live_calls, finished, registry, agreement)
    calls = CallsApi(api_token, known, flights) if api_token else None
    page = None
    if settings.has_page:
        password = settings.bridge_page_password.get_secret_value()
        login = Login(password, settings.auth_tokens, settings.public_url, clock)
        admissions = Admissions(
            settings,
            sessions,
            registry,
            agreement,
            tokens,
            callers,
            metrics,
            clock,
            nobody_to_tell,
        )
        telephone_calls = TelephoneCalls(settings.twilio_account_sid, sessions, registry, admissions)
        telephone = Telephone(
            login,
            settings.path_prefix,
            settings.auth_tokens,
            limits.token_s,
            telephone_calls.agents,
            telephone_calls.open,
            telephone_calls.is_used,
        )
        media_sockets.admits_page = telephone.admits
        page = Page(login, settings.path_prefix, known)
        page.gets |= telephone.gets
        page.posts |= telephone.posts
    return Paths(
        settings, webhooks, retell, registry, media_sockets, probe, refusals, metrics, siblings, calls, page
    )
