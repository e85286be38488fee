"""
The server: puts the parts together, routes requests, accepts media sockets, drains.

One process, one event loop, one timer: on its ticks every call and leg acts a few times a second on what is due, so
that nothing on the way of a frame reads a clock or owns a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import aiohttp
import picows
import structlog

from bridge.agents.agent import CallInfo, Resources, StreamInfo
from bridge.agents.directory import DirectoryError
from bridge.agents.sessions import Sessions
from bridge.call.agent import AgentLeg
from bridge.call.caller import CallerLeg
from bridge.call.echo import EchoSide
from bridge.call.leg import Leg, LegLimits
from bridge.call.state import ENDS, AgentSide, Call, CallLimits, Outcome, Why
from bridge.http.front import Front, FrontLimits, Request, Response
from bridge.metrics import Metrics, Traffic
from bridge.server.paths import Paths
from bridge.server.registry import Registry
from bridge.server.webhooks import FORBIDDEN, Webhooks
from bridge.settings import Settings
from bridge.twilio.media import Start
from bridge.twilio.rest import TwilioApi
from bridge.twilio.signature import Signatures
from bridge.twilio.tokens import BadToken, MediaToken, Tokens

log = structlog.get_logger()

# Each call and leg acts on what is due once in so long.
ROUND_S = 0.5
# The round is taken in so many slices: all of 500 calls at once would hold up every frame for 10 ms.
SLICES = 25
MEDIA_PATH = re.compile(r"/media/([0-9a-f]{32})")


class Server:
    """One bridge process; an `App` of the HTTP front."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = time.monotonic
        self.metrics = Metrics()
        self._calls = Registry(settings.bridge_max_calls, settings.bridge_token_s)
        self._tokens = Tokens(settings.auth_tokens, settings.bridge_token_s)
        self._signatures = Signatures(settings.auth_tokens, settings.public_url, settings.stream_base)
        self._legs: set[Leg] = set()
        self._open_calls: dict[Call, tuple[CallerLeg, AgentLeg | None]] = {}
        self._traffic = Traffic()
        self.metrics.watch_traffic(self._traffic_now)
        self._draining = False
        self._last_close_at = float("-inf")
        self._idle = asyncio.Event()
        self._no_legs = asyncio.Event()
        self._ticking: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self._round: list[Call | Leg] = []
        self._slice_size = 0
        self._asking_twilio: set[asyncio.Task[None]] = set()
        self._tls = ssl.create_default_context()
        self._call_limits = CallLimits(
            start_s=settings.bridge_start_s,
            duration_s=settings.bridge_call_max_s,
            caller_silent_s=settings.bridge_caller_no_audio_s,
            playout_max_s=settings.bridge_playout_max_s,
            playout_margin_s=settings.bridge_playout_margin_s,
            twilio_api_s=settings.bridge_twilio_api_s,
        )
        self._caller_limits = LegLimits(
            max_message_bytes=settings.bridge_caller_message_max_bytes,
            hold_ms=settings.bridge_hold_to_caller_ms,
            silence_s=settings.bridge_caller_silence_s,
            ping_s=settings.bridge_caller_ping_s,
            control_per_s=settings.bridge_control_per_s,
            stall_s=settings.bridge_stall_s,
            close_s=settings.bridge_close_s,
            send_buffer_bytes=settings.bridge_send_buffer_bytes,
            write_high_bytes=settings.bridge_write_high_bytes,
        )
        self._agent_limits = replace(
            self._caller_limits,
            max_message_bytes=settings.bridge_agent_message_max_bytes,
            hold_ms=settings.bridge_hold_from_caller_ms,
            silence_s=settings.bridge_agent_silence_s,
            ping_s=settings.bridge_agent_ping_s,
        )
        self._front = Front(
            self,
            FrontLimits(
                connections=settings.bridge_http_connections + settings.bridge_max_calls,
                ws_max_frame_bytes=settings.bridge_caller_message_max_bytes,
            ),
            upgraded=lambda: sum(isinstance(leg, CallerLeg) for leg in self._legs),
        )

    # Life

    async def start(self) -> None:
        """
        Open the port.

        Raises:
            OSError: The address cannot be bound, or the certificate cannot be read.
            DirectoryError: A file of agents or routes has become bad since the settings were read.
        """
        settings = self._settings
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=settings.bridge_session_s),
            # Shorter than any server's own, lest a request goes into a connection that is being closed.
            connector=aiohttp.TCPConnector(limit=100, keepalive_timeout=10.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A reply is bounded as it is read, which what it unpacks to would not be.
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        tls = None
        if settings.bridge_tls_cert:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(settings.bridge_tls_cert, settings.bridge_tls_key)
        self._sessions = Sessions(settings.read_directory(), Resources(self._http, settings.bridge_session_s))
        self._twilio = TwilioApi(
            self._http,
            settings.twilio_api_url,
            settings.twilio_account_sid,
            settings.auth_tokens,
            settings.bridge_twilio_api_s,
        )
        webhooks = Webhooks(
            settings,
            self._sessions,
            self._calls,
            self._tokens,
            self._signatures,
            self.metrics,
            is_draining=lambda: self._draining,
            clock=self._clock,
        )
        self._routes = Paths(
            settings, webhooks, self._calls, self.metrics, is_draining=lambda: self._draining
        )
        await self._front.start(settings.host, settings.port, ssl_context=tls)
        self._tick_due = self._clock()
        self._on_tick()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._front.port

    def reload(self) -> None:
        """Read the files of agents and routes again, for calls that come; bad ones are refused."""
        try:
            directory = self._settings.read_directory()
        except DirectoryError as error:
            for _, problem in error.problems:
                log.error("reload refused, what was read before stays", problem=problem)
            return
        self._sessions.replace(directory)
        log.info("reloaded", agents=sorted(directory.names))

    def drain(self) -> None:
        """Take no new calls; `drained` tells when the running ones are over."""
        self._draining = True
        self.metrics.draining.set(1)
        log.info("draining", live=self._calls.live, admitted=self._calls.admitted)
        self._check_idle()

    async def drained(self) -> None:
        """Wait until running and admitted calls are over, at most the drain time, and the last resume is answered."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.bridge_drain_s):
                await self._idle.wait()
        self._end_all()
        linger_s = self._last_close_at + self._settings.bridge_resume_linger_s - self._clock()
        if linger_s > 0:
            await asyncio.sleep(linger_s)

    async def stop(self) -> None:
        """Close every call and socket, within the close deadline, then the port."""
        self._draining = True
        self._end_all()
        if self._legs:
            self._no_legs.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.bridge_close_s + 2 * ROUND_S):
                    await self._no_legs.wait()
        for leg in tuple(self._legs):
            leg.abort()
        await self._front.close()
        await self._calls.close()
        for task in self._asking_twilio:
            task.cancel()
        await asyncio.gather(*self._asking_twilio, return_exceptions=True)
        if self._ticking is not None:
            self._ticking.cancel()
        await self._http.close()

    def _end_all(self) -> None:
        now = self._clock()
        for call in tuple(self._open_calls):
            call.end(Why.DRAINED, now)
        if self._calls.give_up_admitted(Outcome.HANDED_OVER, now):
            self._last_close_at = now

    def _check_idle(self) -> None:
        if self._draining and not self._open_calls and not self._calls.admitted:
            self._idle.set()

    # HTTP

    async def handle(self, request: Request) -> Response:
        """An `App`'s: answer a request."""
        return await self._routes.handle(request)

    # Media sockets

    def upgrade(self, request: Request) -> picows.WSListener | Response:
        """Accept Twilio's media socket; whose call it is, ``start`` tells."""
        path = self._routes.path(request)
        media = MEDIA_PATH.fullmatch(path)
        if media is None or request.query:
            return FORBIDDEN
        if not self._settings.bridge_validate_signatures:
            # No page in a developer's browser has business here.
            if "origin" in request.headers:
                return FORBIDDEN
        elif not self._signatures.is_upgrade(path, request.header("x-twilio-signature")):
            self.metrics.refused("upgrade_signature")
            log.warning("upgrade refused", reason="signature")
            return FORBIDDEN
        call = Call(self._call_limits, self, self._clock())
        leg = CallerLeg(
            media[1],
            call,
            self._caller_limits,
            self._clock,
            authorize=self._authorize,
            metrics=self.metrics,
            on_gone=self._on_leg_gone,
        )
        self._legs.add(leg)
        self._open_calls[call] = (leg, None)
        return leg.handshake()

    def _authorize(self, leg: CallerLeg, start: Start) -> Iterator[AgentSide] | str:
        """Check all that ``start`` claims; only a fully valid one uses the token up."""
        try:
            token = self._tokens.open_media(start.custom_parameters)
        except BadToken:
            return "token"
        account_sid = self._settings.twilio_account_sid
        if token.call_sid != start.call_sid or token.media_id != leg.media_id:
            return "token_of_another_call"
        if account_sid and start.account_sid != account_sid:
            return "account_sid"
        if not start.is_mulaw_8k:
            return "media_format"
        # Those that a reload took away are passed over; one that is dialled has no use for this socket.
        agents = [agent for name in token.agents if (agent := self._sessions.agent(name)) is not None]
        if not agents or agents[0].dial is not None:
            return "agent"
        call = leg.call
        if refusal := self._calls.claim(token.call_sid, token.media_id, token.session, call):
            return refusal
        call.call_sid = token.call_sid
        self.metrics.calls.inc()
        return self._sides(leg, start, token)

    def _sides(self, leg: CallerLeg, start: Start, token: MediaToken) -> Iterator[AgentSide]:
        asked = CallInfo(token.call_sid, token.from_number, token.to_number)
        # What waits for an agent may have to wait for the ones after it too.
        limits = replace(self._agent_limits, hold_ms=self._agent_limits.hold_ms * len(token.agents))
        for n, name in enumerate(token.agents):
            agent = self._sessions.agent(name)
            if agent is None:
                continue
            if agent.dial is not None:
                # Its turn comes when Twilio asks /voice/resume.
                return
            if agent.dialogue is None:
                yield EchoSide(leg.call, self._clock)
                continue
            side = AgentLeg(
                agent,
                StreamInfo(
                    asked, start.account_sid, start.stream_sid, token.session if n == 0 else {}, n == 0
                ),
                leg.call,
                limits,
                self._clock,
                connect_s=self._settings.bridge_agent_connect_s,
                transfer_prefixes=self._settings.transfer_prefixes,
                tls=self._tls,
                metrics=self.metrics,
                on_session=partial(self._calls.set_session, token.call_sid),
                on_gone=self._on_leg_gone,
            )
            self._legs.add(side)
            self._open_calls[leg.call] = (leg, side)
            yield side

    # What becomes of calls

    def _on_leg_gone(self, leg: Leg) -> None:
        self._legs.discard(leg)
        if not self._legs:
            self._no_legs.set()

    def on_call_bridged(self, call: Call) -> None:
        """A `CallObserver`'s: both sides are open."""
        assert call.stats.agent_connect_s is not None
        self.metrics.agent_connect_s.observe(call.stats.agent_connect_s)
        log.info("call bridged", call_sid=call.call_sid, agent_connect_s=round(call.stats.agent_connect_s, 4))

    def on_agent_replaced(self, call: Call, detail: str) -> None:
        """A `CallObserver`'s: an agent could not be had, and the next one is tried."""
        self.metrics.agents_replaced.inc()
        caller, agent = self._open_calls[call]
        if agent is not None:
            self._traffic.add(Traffic(dropped_to_agent=agent.wire.dropped_frames))
        self._open_calls[call] = (caller, None)
        # What its service says of this call from now on is of no account.
        self._calls.set_session(call.call_sid, {})
        log.warning("agent could not be had, the next one is tried", call_sid=call.call_sid, detail=detail)

    def on_twilio_asked(self, call: Call) -> None:
        """A `CallObserver`'s: the agent wants the phone call ended or transferred."""
        task = asyncio.get_running_loop().create_task(self._ask_twilio(call), name="ask Twilio")
        self._asking_twilio.add(task)
        task.add_done_callback(self._asking_twilio.discard)

    async def _ask_twilio(self, call: Call) -> None:
        try:
            if call.transfer_to:
                await self._twilio.transfer(call.call_sid, call.transfer_to)
            else:
                await self._twilio.hang_up(call.call_sid)
        finally:
            call.on_twilio_answered(self._clock())

    def on_call_closed(self, call: Call) -> None:
        """A `CallObserver`'s: both sides were told to close."""
        now = self._clock()
        caller, agent = self._open_calls.pop(call)
        assert call.why is not None
        record = ENDS[call.why].record
        # Before `start` only the socket's path tells whose call it is.
        call_sid = call.call_sid or self._calls.admitted_at(caller.media_id)
        traffic = _traffic_of(call, caller, agent)
        self._traffic.add(traffic)
        if call.call_sid:
            self._last_close_at = now
            self.metrics.calls_ended.labels(call.why.value).inc()
        if call_sid and record is not None:
            self._calls.finish(call_sid, record, now, call.transfer_to)
        if call.stats.first_agent_audio_s is not None:
            self.metrics.first_agent_audio_s.observe(call.stats.first_agent_audio_s)
        is_trouble = call.why is Why.REFUSED or record is Outcome.AGENT_LOST
        (log.warning if is_trouble else log.info)(
            "call ended",
            call_sid=call_sid or "",
            why=call.why.value,
            detail=call.detail,
            duration_s=round(now - call.opened_at, 3),
            from_caller=traffic.from_caller,
            to_agent=traffic.to_agent,
            from_agent=traffic.from_agent,
            to_caller=traffic.to_caller,
            dropped=traffic.dropped_to_agent + traffic.dropped_to_caller,
            interrupts=traffic.interrupts,
        )
        self._check_idle()

    # The clock

    def _on_tick(self) -> None:
        now = self._clock()
        self.metrics.loop_lag_s.observe(max(0.0, now - self._tick_due))
        # Armed first: whatever goes wrong below, the other deadlines of the process stay.
        self._tick_due = max(self._tick_due + ROUND_S / SLICES, now)
        self._ticking = asyncio.get_running_loop().call_later(self._tick_due - now, self._on_tick)
        if not self._round:
            self._round = [*self._open_calls, *self._legs]
            self._slice_size = -(-len(self._round) // SLICES)
        for _ in range(min(self._slice_size, len(self._round))):
            self._tick(self._round.pop(), now)
        unclaimed = self._calls.on_tick(now)
        if unclaimed:
            self.metrics.calls_refused.labels("not_claimed").inc(unclaimed)
        self._check_idle()

    def _tick(self, due: Call | Leg, now: float) -> None:
        try:
            due.on_tick(now)
        except Exception:
            call = due.call if isinstance(due, Leg) else due
            log.exception("fault on a tick", call_sid=call.call_sid)
            for leg in self._open_calls.get(call, ()):
                if leg is not None:
                    leg.abort()

    # Counters

    def _traffic_now(self) -> Traffic:
        total = Traffic()
        total.add(self._traffic)
        for call, (caller, agent) in self._open_calls.items():
            call.count_relayed()
            total.add(_traffic_of(call, caller, agent))
        return total


def _traffic_of(call: Call, caller: CallerLeg, agent: AgentLeg | None) -> Traffic:
    return Traffic(
        from_caller=call.stats.frames_from_caller,
        to_agent=agent.wire.audio_out_frames if agent else call.stats.frames_from_caller,
        from_agent=call.stats.frames_from_agent,
        to_caller=caller.wire.audio_out_frames,
        dropped_to_agent=agent.wire.dropped_frames if agent else 0,
        dropped_to_caller=caller.wire.dropped_frames,
        cleared_to_caller=caller.wire.cleared_frames,
        interrupts=call.stats.interrupts,
        dtmf=call.stats.dtmf,
    )
