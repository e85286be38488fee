"""Twilio's media sockets: from the upgrade to a verified ``start``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import picows

from _codec import Envelope, SpanFinder
from bridge.agents.agent import CallInfo
from bridge.agents.sessions import Session, Sessions
from bridge.agents.succession import Memory
from bridge.call.caller import CallerLeg
from bridge.call.ends import Outcome, Why
from bridge.call.flight_call import FlightCall
from bridge.call.leg import LegLimits, Process
from bridge.call.limits import AgentLimits, CallLimits, Limits
from bridge.call.record import CallRecord, masked
from bridge.call.state import Call, State
from bridge.http.messages import FORBIDDEN, Request, Response
from bridge.server.agent_chain import AgentChain
from bridge.server.caller_id import caller_id
from bridge.server.callers import Callers
from bridge.server.live import Live
from bridge.server.recorded_calls import RecordedCalls
from bridge.server.records.flights import FlightFiles
from bridge.server.refusals import Refusals
from bridge.server.registry import Registry
from bridge.server.store.agreement import Agreement
from bridge.settings import Settings
from bridge.twilio import media
from bridge.twilio.signature import Signatures
from bridge.twilio.tokens import BadToken, MediaToken, Tokens

# Messages that come while the store is asked: 300 ms of audio are 3 KB.
WAITING_BYTES_MAX = 1 << 18
# How a call ends whose agent ended it while the new stream was on its way.
GOODBYES = {Outcome.ENDED: Why.AGENT_ENDED, Outcome.TRANSFERRED: Why.AGENT_TRANSFERRED}
# BRIDGE_NODE of the process that admitted the call may stand before the ID.
MEDIA_PATH = re.compile(r"/media/((?:[A-Za-z0-9._-]{1,63}-)?[0-9a-f]{32})")


class MediaSockets:
    """
    Accepts media sockets.

    Args:
        process: What each leg is lent.
        live: The book in which calls and sides are entered.
        flights: Gets each call that is over.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        process: Process,
        live: Live,
        registry: Registry,
        agreement: Agreement,
        sessions: Sessions,
        tokens: Tokens,
        signatures: Signatures,
        refusals: Refusals,
        callers: Callers,
        flights: FlightFiles,
        recorded: RecordedCalls,
    ) -> None:
        self.settings = settings
        self.process = process
        self.live = live
        self.registry = registry
        self.agreement = agreement
        self.sessions = sessions
        self.tokens = tokens
        self.callers = callers
        self.refusals = refusals
        self.recorded = recorded
        self._signatures = signatures
        self._flights = flights
        # Whether the upgrade for a media ID is one of the page's telephone; set where there is a page.
        self.admits_page: Callable[[str, Request], bool] = lambda media_id, request: False
        self.successor_s = limits.successor_s
        # How the log shows numbers.
        self.shown = str if settings.bridge_log_numbers else masked
        self._call_limits = CallLimits(
            start_s=limits.start_s,
            duration_s=settings.bridge_call_max_s,
            caller_silent_s=settings.bridge_caller_no_audio_s,
            playout_max_s=settings.bridge_playout_max_s,
            playout_margin_s=limits.playout_margin_s,
            grace_s=limits.grace_s,
            twilio_api_s=limits.twilio_api_s,
        )
        self._caller_limits = LegLimits(
            max_message_bytes=settings.bridge_caller_message_max_bytes,
            hold_ms=settings.bridge_hold_to_caller_ms,
            silence_s=settings.bridge_caller_silence_s,
            ping_s=limits.caller_ping_s,
            control_per_s=settings.bridge_control_per_s,
            stall_s=settings.bridge_stall_s,
            close_s=limits.close_s,
            send_buffer_bytes=limits.send_buffer_bytes,
            write_high_bytes=limits.write_high_bytes,
        )
        self.agent_limits = replace(
            self._caller_limits,
            max_message_bytes=settings.bridge_agent_message_max_bytes,
            hold_ms=settings.bridge_hold_from_caller_ms,
            silence_s=settings.bridge_agent_silence_s,
            ping_s=limits.agent_ping_s,
        )
        self.agent_deadlines = AgentLimits(
            connect_s=settings.bridge_agent_connect_s, trouble_s=limits.trouble_s, notice_s=limits.notice_s
        )

    def upgrade(self, path: str, request: Request) -> picows.WSListener | Response:
        """Accept the media socket of Twilio or the page at ``path``; ``start`` says which call it is."""
        found = MEDIA_PATH.fullmatch(path)
        if found is None or request.query:
            return self.refusals.astray(request, path)
        limits = self._call_limits
        if self.admits_page(found[1], request):
            limits = replace(limits, grace_s=0.0)
        elif not self.settings.bridge_validate_signatures:
            # Another page in a developer's browser has no business here.
            if "origin" in request.headers:
                return FORBIDDEN
        elif not self._signatures.is_upgrade(path, request.header("x-twilio-signature")):
            return self.refusals.upgrade(request, path)
        call = FlightCall(
            limits,
            self.live,
            self.process.clock(),
            self.process.clock,
            agent_name=self._agent_name,
            on_over=self._flights.on_over,
        )
        call.conversation.keeps_texts = self.settings.bridge_transcripts
        leg = CallerLeg(TwilioStream(self, found[1]), call, self._caller_limits, self.process)
        self.live.open(call, found[1], leg)
        return leg.handshake()

    def _agent_name(self, call: Call) -> str:
        return self.live.book[call].record.agent.name


class TwilioStream:
    """
    Reads and writes the messages of one media socket: the `Carrier` of its leg.

    Args:
        sockets: What the process knows.
        media_id: The last part of the socket's path.
    """

    def __init__(self, sockets: MediaSockets, media_id: str) -> None:
        self._sockets = sockets
        self._media_id = media_id
        # Set by a verified `start`.
        self._stream_sid: str | None = None
        # Messages behind a `start` whose token the store is asked about; None at any other time.
        self._waiting: list[bytes] | None = None
        self._waiting_bytes = 0
        # Why the call was ended by its agent after Twilio was answered with this stream, and a transfer's number.
        self._ended: tuple[Why, str] | None = None

    def read(self, message: bytes, leg: CallerLeg) -> None:
        """Call the leg's method for what a message of Twilio means."""
        if self._waiting is not None:
            self._wait(message, leg)
            return
        try:
            found = media.parse(message, self._stream_sid)
        except media.BadMessage as error:
            leg.on_ignored(str(error))
            return
        match found:
            case media.Start():
                self._on_start(found, leg)
            case media.Connected():
                pass
            case _ if self._stream_sid is None:
                leg.on_ignored("before_start")
            case media.Media(payload):
                leg.on_media(payload)
            case media.Mark(name):
                leg.on_mark(name)
            case media.Dtmf(digit):
                leg.on_dtmf(digit)
            case media.Stop():
                leg.on_stop()

    def _on_start(self, start: media.Start, leg: CallerLeg) -> None:
        if self._stream_sid is not None:
            leg.on_ignored("second_start")
            return
        if refusal := self._verify(start, leg):
            self._sockets.registry.refuse(self._media_id)
            self._sockets.refusals.start(start, refusal)
            leg.on_refused(refusal)

    def _wait(self, message: bytes, leg: CallerLeg) -> None:
        assert self._waiting is not None
        if self._waiting_bytes + len(message) > WAITING_BYTES_MAX:
            leg.on_ignored("before_start")
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message)

    def _on_answer(
        self, start: media.Start, leg: CallerLeg, token: MediaToken, session: Session, refusal: str | None
    ) -> None:
        """The store has answered; a call that another process has left asks it once more, for what was said."""
        if refusal is not None or not token.is_successor:
            self._on_claimed(start, leg, token, session, refusal)
            return

        def then(memory: Memory | None) -> None:
            conversation = leg.call.conversation
            if memory is None:
                # Nobody knows what was said: a second hello harms less than silence.
                conversation.on_cut()
            else:
                conversation.restore(memory, self._sockets.process.clock())
            self._on_claimed(start, leg, token, session, None)

        self._sockets.agreement.transcripts.recall(token.call_sid, lambda memory: leg.guard(then, memory))

    def _on_claimed(
        self, start: media.Start, leg: CallerLeg, token: MediaToken, session: Session, refusal: str | None
    ) -> None:
        """The store has answered whether the token is used for the first time."""
        waiting, self._waiting = self._waiting or [], None
        sockets, call = self._sockets, leg.call
        former = sockets.registry.former(token.call_sid, token.attempt)
        if refusal is None and former is not None:
            if token.is_successor and former.may_go_on:
                sockets.registry.go_on(token.call_sid, token.media_id, token.attempt)
                if call.state is not State.CLOSED:
                    self._stream_sid = start.stream_sid
                    sockets.live.move(leg, former, start.stream_sid, token.attempt)
                    leg.on_return(former)
                    self._read_waiting(waiting, leg)
                return
            # The higher attempt has the CallSid now; what the former one writes of its end is dropped.
            former.end(Why.CALLER_LOST, sockets.process.clock(), "replaced by a new stream")
        if call.state is State.CLOSED:
            return
        if refusal is not None:
            # The call is another process's.
            sockets.registry.drop(call.call_sid)
            call.call_sid = ""
        elif not call.call_sid:
            # The former call has ended since it was looked at.
            refusal = self._enter(leg, token, session)
        if refusal is not None:
            sockets.refusals.start(start, refusal)
            leg.on_refused(refusal)
            return
        sockets.process.metrics.calls.labels(session.agents[0], session.route).inc()
        self._stream_sid = start.stream_sid
        info = CallInfo(token.call_sid, token.from_number, token.to_number, session.values, session.route)
        shown = sockets.shown
        numbers = shown(info.from_number), shown(info.to_number)
        record = CallRecord(*numbers, info.route, start.stream_sid, token.attempt, shown)
        record.webhook_at, record.answered_at = token.webhook_at, token.answered_at
        sockets.live.identify(call, record)
        waits = sockets.process.metrics.caller_wait_s
        call.hearing.on_wait = lambda wait_s: waits.labels(record.agent.name).observe(wait_s)
        started = _facts(info, start.stream_sid, token.attempt, session, is_successor=token.is_successor)
        call.run_each(*(partial(take, started) for take in sockets.live.on_started))
        sockets.callers.on_start(info)
        of_route = sockets.sessions.route(info).caller_id
        call.caller_id = caller_id(info, sockets.settings.bridge_caller_id, of_route)
        if self._ended is not None:
            leg.on_goodbye(*self._ended)
            return
        sockets.recorded.on_start(call, info, token.attempt, is_successor=token.is_successor)
        chain = AgentChain(
            sockets,
            call,
            info,
            start.account_sid,
            start.stream_sid,
            session,
            is_successor=token.is_successor,
        )
        leg.on_start(chain)
        self._read_waiting(waiting, leg)

    @staticmethod
    def _read_waiting(waiting: list[bytes], leg: CallerLeg) -> None:
        for message in waiting:
            leg.on_text(message)

    def _enter(self, leg: CallerLeg, token: MediaToken, session: Session) -> str | None:
        """Make the call live here, unless the registry refuses it."""
        before = self._sockets.registry.find(token.call_sid)
        if token.is_successor and before is not None and before.outcome in GOODBYES:
            self._ended = GOODBYES[before.outcome], before.transfer_to
        refusal = self._sockets.registry.claim(
            token.call_sid, token.media_id, session, leg.call, token.attempt
        )
        if refusal is None:
            leg.call.call_sid = token.call_sid
        return refusal

    def _verify(self, start: media.Start, leg: CallerLeg) -> str | None:
        """Check all claims of ``start``, the token last: only a valid one uses the token up."""
        sockets = self._sockets
        try:
            token = sockets.tokens.open_media(start.custom_parameters)
            session = Session.of(token.session)
        except (BadToken, TypeError):
            return "token"
        account_sid = sockets.settings.twilio_account_sid
        if token.call_sid != start.call_sid or token.media_id != self._media_id:
            return "token_of_another_call"
        if account_sid and start.account_sid != account_sid:
            return "account_sid"
        if not start.is_mulaw_8k:
            return "media_format"
        # Agents that a reload removed are passed over; a dialled agent has no use for this socket.
        agents = [agent for name in session.agents if (agent := sockets.sessions.agent(name)) is not None]
        if not agents or agents[0].hand_over is not None:
            return "agent"
        # A call whose agent is kept here stays what it is until the store has answered.
        former = sockets.registry.former(token.call_sid, token.attempt)
        if former is None and (refusal := self._enter(leg, token, session)):
            return refusal
        self._waiting = []
        sockets.agreement.claim(
            token.call_sid,
            token.attempt,
            token.media_id,
            lambda refusal: leg.guard(self._on_answer, start, leg, token, session, refusal),
        )
        return None

    @property
    def stream_sid(self) -> str:
        """Twilio's id of the stream; there from ``start`` on."""
        assert self._stream_sid is not None
        return self._stream_sid

    @property
    def finder(self) -> SpanFinder:
        return media.media_finder(self.stream_sid)

    @property
    def envelope(self) -> Envelope:
        return media.media_envelope(self.stream_sid)

    @property
    def mark_around_name(self) -> tuple[bytes, bytes]:
        return media.mark_around_name(self.stream_sid)

    def clear(self) -> bytes:
        return media.clear(self.stream_sid)

    def mark(self, name: str) -> bytes:
        return media.mark(self.stream_sid, name)


def _facts(
    info: CallInfo, stream_sid: str, attempt: int, session: Session, *, is_successor: bool
) -> dict[str, Any]:
    """What is known of a call that starts, as values that JSON has."""
    return {
        "call_sid": info.call_sid,
        "stream_sid": stream_sid,
        "attempt": attempt,
        "is_successor": is_successor,
        "from": info.from_number,
        "to": info.to_number,
        "route": info.route,
        "agents": list(session.agents),
    }
