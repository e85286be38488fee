"""Admits calls: one session per CallSid over all processes, and the TwiML that leads to its agent."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, replace

import structlog

from bridge.agents.agent import CallInfo
from bridge.agents.hand_over import SipAddress
from bridge.agents.sessions import Session, Sessions
from bridge.call.ends import Outcome
from bridge.call.record import masked
from bridge.metrics import Metrics
from bridge.server.answer import Answer
from bridge.server.answer_webhook import AnswerWebhook
from bridge.server.caller_id import caller_id
from bridge.server.callers import Callers
from bridge.server.hand_over import twiml_of
from bridge.server.registry import Admission, AdmittedElsewhereError, Entry, Phase, Registry
from bridge.server.store.agreement import Agreement, Record, Stage
from bridge.server.store.breaker import StoreUnavailableError
from bridge.settings import Settings
from bridge.twilio import twiml
from bridge.twilio.tokens import MediaToken, ResumeState, Tokens

log = structlog.get_logger()


class Admissions:
    """
    Opens sessions and answers with their TwiML.

    Args:
        clock: Seconds, monotonic.
        announce: Leads the media socket of this ID to the process of this name, where it can.
        answers: The user's own webhook, if there is one.
    """

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        registry: Registry,
        agreement: Agreement,
        tokens: Tokens,
        callers: Callers,
        metrics: Metrics,
        clock: Callable[[], float],
        announce: Callable[[str, str], Awaitable[None]],
        answers: AnswerWebhook | None = None,
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._registry = registry
        self._agreement = agreement
        self._tokens = tokens
        self._callers = callers
        self._metrics = metrics
        self._clock = clock
        self._announce = announce
        self._answers = answers
        # How the log shows numbers.
        self._shown = str if settings.bridge_log_numbers else masked

    async def known(self, call_sid: str, attempt: int = 0) -> Entry | None:
        """
        What this process or, by the store, another one knows of a call; None of a call without a session.

        Raises:
            StoreUnavailableError: This process knows nothing of the call, and the store is unavailable.
        """
        mine = self._registry.find(call_sid)
        if mine is not None and mine.phase is Phase.LIVE and mine.attempt >= attempt:
            return mine
        try:
            record = await self._agreement.find(call_sid)
        except StoreUnavailableError:
            mine = self._registry.find(call_sid)
            if mine is None:
                raise
            return mine
        # It may have changed meanwhile.
        mine = self._registry.find(call_sid)
        if record is None or (mine is not None and not self._is_newer(record, mine)):
            return mine
        return None if record.stage == Stage.OPENING else Entry.of(call_sid, record)

    async def known_here(self, call_sid: str) -> Entry | None:
        """What `known` finds, or None if the store is unavailable: one process goes on with what it knows."""
        try:
            return await self.known(call_sid)
        except StoreUnavailableError:
            return None

    def _is_newer(self, record: Record, mine: Entry) -> bool:
        if record.attempt != mine.attempt:
            return record.attempt > mine.attempt
        return record.owner != self._agreement.owner and record.stage in (Stage.LIVE, Stage.OVER)

    async def open_and_answer(
        self,
        info: CallInfo,
        chain: Sequence[str],
        attempt: int,
        reattached_at: Sequence[int] = (),
        webhook_at: float = 0.0,
    ) -> str:
        """Open a session, if no other process does, and answer with its TwiML; ``webhook_at`` as in `MediaToken`."""
        return self.answer_of(await self.open(info, chain, attempt), info, reattached_at, webhook_at)

    async def open(self, info: CallInfo, chain: Sequence[str], attempt: int) -> Entry:
        """
        Open a session, if no other process does.

        Raises:
            SessionError: No agent of the chain is available.
        """
        call_sid, media_id = info.call_sid, self._new_media_id("")
        began = self._clock()

        async def open_session() -> Admission:
            if (standing := await self._agreement.admit(call_sid, attempt)) is not None:
                raise AdmittedElsewhereError(Entry.of(call_sid, standing))
            try:
                admission = await self._open_as_answered(info, chain, attempt)
            except BaseException:
                self._agreement.release(call_sid)
                raise
            if not admission.answer:
                standing = await self._agreement.offer(call_sid, attempt, media_id, admission.session)
                if standing is not None:
                    raise AdmittedElsewhereError(Entry.of(call_sid, standing))
                log.info(
                    "call answered",
                    call_sid=call_sid,
                    route=info.route,
                    agent=admission.session.agents[0],
                    from_number=self._shown(info.from_number),
                    to_number=self._shown(info.to_number),
                    answered_s=round(self._clock() - began, 3),
                )
            return admission

        try:
            return await self._registry.admit(call_sid, media_id, open_session, self._clock, attempt)
        except AdmittedElsewhereError as error:
            return error.entry

    async def readmit(
        self,
        info: CallInfo,
        session: Session,
        attempt: int,
        reattached_at: Sequence[int],
        owner: str = "",
        kept_at: str = "",
    ) -> str | Entry:
        """
        Admit a new stream of a call that lost its media socket.

        Args:
            session: Without credentials: no session is opened here, because an agent may be kept.
            owner: The process that may keep the agent; empty for none.
            kept_at: The ID of the call's media socket there.

        Returns:
            Its TwiML, or what another process made of the call meanwhile.
        """
        call_sid, media_id = info.call_sid, self._new_media_id(kept_at)
        standing = await self._agreement.readmit(call_sid, attempt, media_id, session)
        if standing is not None:
            return Entry.of(call_sid, standing)
        entry = self._registry.readmit(call_sid, media_id, session, attempt, self._clock())
        if owner:
            await self._announce(media_id, owner)
        return self._stream(entry, info, reattached_at)

    def _new_media_id(self, kept_at: str) -> str:
        """An ID behind the name of the host that ``kept_at``, a former ID, was led to, else of this host."""
        node = kept_at.rpartition("-")[0] or self._settings.bridge_node
        return f"{node}-{secrets.token_hex(16)}" if node else secrets.token_hex(16)

    async def _open_as_answered(self, info: CallInfo, chain: Sequence[str], attempt: int) -> Admission:
        """Ask the answer webhook about a new call, and open its session; what comes later in a call has its values."""
        if self._answers is None or attempt > 0:
            return await self._open(info, chain, attempt)
        began = self._clock()
        answer = await self._answers.answer_for(info, chain)
        if text := self._twiml_of(answer, info):
            return Admission(Session((), {}, route=info.route), text)
        values = {f"value.{name}": value for name, value in answer.values.items()}
        info = replace(info, values={**info.values, **values})
        return await self._open(info, answer.agents or chain, attempt, self._clock() - began)

    def _twiml_of(self, answer: Answer, info: CallInfo) -> str:
        """The TwiML of an answer that needs no agent; empty if it needs one."""
        if answer.reject:
            said, text = "reject", twiml.reject(answer.reject)
        elif answer.say:
            said, text = "say", twiml.say(answer.say, answer.language)
        elif answer.dial.startswith("+"):
            said, text = "dial", twiml.dial(answer.dial, self._caller_id(info))
        elif answer.dial:
            # Nobody is left to try where the address does not answer.
            action = self._url(
                "dialled", ResumeState(info.call_sid, 0, int(time.time()), [], route=info.route)
            )
            ring_s = round(self._settings.bridge_dial_s)
            said, text = "dial", twiml.dial_sip(answer.dial, action, ring_s, self._caller_id(info))
        else:
            return ""
        log.info("call answered without an agent", call_sid=info.call_sid, route=info.route, answer=said)
        return text

    async def _open(
        self, info: CallInfo, chain: Sequence[str], attempt: int, spent_s: float = 0.0
    ) -> Admission:
        session = await self._sessions.open(info, chain, spent_s)
        how = self._sessions.hand_over(session, info)
        if how is None:
            return Admission(session)
        # Twilio reports the end of a call to a SIP address, and of the others not for sure.
        for holder in (self._sessions.slots, self._callers):
            holder.on_handed_over(info.call_sid, is_reported=isinstance(how, SipAddress))
        state = ResumeState(
            info.call_sid,
            attempt,
            int(time.time()),
            list(session.agents[1:]),
            list(session.agents),
            values=session.values,
            route=session.route,
        )
        action = self._url("dialled", state)
        log.info(
            "call handed over",
            call_sid=info.call_sid,
            route=session.route,
            agent=session.agents[0],
            by=type(how).__name__,
        )
        ring_s = round(self._settings.bridge_dial_s)
        return Admission(session, twiml_of(how, action, self._status_callback, ring_s, self._caller_id(info)))

    def answer_of(
        self, entry: Entry, info: CallInfo, reattached_at: Sequence[int] = (), webhook_at: float = 0.0
    ) -> str:
        """The TwiML of a call that has an entry."""
        if entry.phase is Phase.OVER:
            return self.over(entry, info)
        self._registry.renew(entry, self._clock())
        return self._stream(entry, info, reattached_at, webhook_at)

    def over(self, entry: Entry, info: CallInfo) -> str:
        """The TwiML of a finished call whose webhook comes again."""
        if entry.outcome is Outcome.DIALLED:
            return entry.answer
        if entry.outcome is Outcome.TRANSFERRED:
            return twiml.dial(entry.transfer_to, self._caller_id(info))
        return twiml.hangup()

    def _stream(
        self, entry: Entry, info: CallInfo, reattached_at: Sequence[int], webhook_at: float = 0.0
    ) -> str:
        settings = self._settings
        # A dialled agent is tried only after the media socket.
        dialled = list(self._sessions.from_dialled(entry.session.agents[1:]))
        state = ResumeState(
            entry.call_sid,
            entry.attempt,
            int(time.time()),
            dialled,
            list(entry.session.agents),
            entry.session.values,
            list(reattached_at),
            entry.session.route,
        )
        route = self._sessions.route(info)
        # Who has talked with an agent has heard it.
        announce = "" if entry.is_successor else route.announce or settings.bridge_announce
        language = route.language if route.announce else ""
        return twiml.stream(
            f"{settings.stream_base}/media/{entry.media_id}",
            self.media_parameters(entry, info, webhook_at),
            self._status_callback,
            self._url("resume", state),
            announce,
            language,
        )

    def media_parameters(self, entry: Entry, info: CallInfo, webhook_at: float = 0.0) -> dict[str, str]:
        """The parameters of an admitted call's stream, which carry its token; ``webhook_at`` as in `MediaToken`."""
        token = MediaToken(
            entry.call_sid,
            entry.media_id,
            asdict(entry.session),
            info.from_number,
            info.to_number,
            entry.attempt,
            entry.is_successor,
            webhook_at,
            time.time(),
        )
        return self._tokens.seal_media(token)

    @property
    def _status_callback(self) -> str:
        return f"{self._settings.public_url}/stream/status"

    def _url(self, path: str, state: ResumeState) -> str:
        """The URL of a further webhook; where its process is down, Twilio asks again."""
        settings, sealed = self._settings, self._tokens.seal_resume(state)
        return f"{settings.public_url}/voice/{path}?s={sealed}{settings.bridge_connection_overrides}"

    def _caller_id(self, info: CallInfo) -> str | None:
        return caller_id(info, self._settings.bridge_caller_id, self._sessions.route(info).caller_id)

    def apology(self, info: CallInfo) -> str:
        """The operator's fallback, for a call that has nothing better to come."""
        route = self._sessions.route(info)
        rule = route.fallback or self._settings.bridge_fallback
        language = route.language if route.fallback else ""
        return twiml.fallback(rule, self._caller_id(info), language or None)

    def refused(self, info: CallInfo) -> str:
        """The TwiML of a call that may not come, or not now."""
        rule = self._settings.bridge_refusal
        return twiml.reject("rejected") if rule == "reject" else twiml.fallback(rule, self._caller_id(info))

    def fallback(self, info: CallInfo, reason: str, detail: str = "") -> str:
        """The operator's fallback for a call that cannot be answered; ``reason`` is a metric label."""
        self._metrics.refused(reason)
        route = self._sessions.route(info).name
        log.warning(
            "call gets the fallback", call_sid=info.call_sid, route=route, reason=reason, detail=detail
        )
        return self.apology(info)
