"""Admits calls: one session per CallSid over all processes, and the TwiML that leads to its agent."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import structlog

from bridge.agents.agent import CallInfo
from bridge.agents.sessions import Sessions
from bridge.call.ends import Outcome
from bridge.metrics import Metrics
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
    """

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        registry: Registry,
        agreement: Agreement,
        tokens: Tokens,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._registry = registry
        self._agreement = agreement
        self._tokens = tokens
        self._metrics = metrics
        self._clock = clock

    async def known(self, call_sid: str) -> Entry | None:
        """What this process or, by the store, another one knows of a call; None of a call without a session."""
        mine = self._registry.find(call_sid)
        if mine is not None and mine.phase is Phase.LIVE:
            return mine
        record: Record | None = None
        with contextlib.suppress(StoreUnavailableError):
            record = await self._agreement.find(call_sid)
        # It may have changed meanwhile.
        mine = self._registry.find(call_sid)
        if record is None or (mine is not None and not self._is_newer(record, mine)):
            return mine
        return None if record.stage == Stage.OPENING else Entry.of(call_sid, record)

    def _is_newer(self, record: Record, mine: Entry) -> bool:
        if record.attempt != mine.attempt:
            return record.attempt > mine.attempt
        return record.owner != self._agreement.owner and record.stage in (Stage.LIVE, Stage.OVER)

    async def open_and_answer(self, info: CallInfo, chain: Sequence[str], attempt: int) -> str:
        """Open a session, if no other process does, and answer with its TwiML."""
        call_sid, media_id = info.call_sid, self._new_media_id()

        async def open_session() -> Admission:
            if (standing := await self._agreement.admit(call_sid, attempt)) is not None:
                raise AdmittedElsewhereError(Entry.of(call_sid, standing))
            try:
                admission = await self._open(info, chain, attempt)
            except BaseException:
                self._agreement.release(call_sid)
                raise
            if not admission.answer:
                standing = await self._agreement.offer(call_sid, attempt, media_id, admission.session)
                if standing is not None:
                    raise AdmittedElsewhereError(Entry.of(call_sid, standing))
            return admission

        try:
            entry = await self._registry.admit(call_sid, media_id, open_session, self._clock, attempt)
        except AdmittedElsewhereError as error:
            entry = error.entry
        return self.answer_of(entry, info)

    def _new_media_id(self) -> str:
        node = self._settings.bridge_node
        return f"{node}-{secrets.token_hex(16)}" if node else secrets.token_hex(16)

    async def _open(self, info: CallInfo, chain: Sequence[str], attempt: int) -> Admission:
        session = await self._sessions.open(info, chain)
        sip_uri = self._sessions.sip_uri(session)
        if sip_uri is None:
            return Admission(session)
        state = ResumeState(info.call_sid, attempt, int(time.time()), list(session.agents[1:]))
        action = f"{self._settings.public_url}/voice/dialled?s={self._tokens.seal_resume(state)}"
        log.info("call dialled", call_sid=info.call_sid, agent=session.agents[0])
        return Admission(session, twiml.dial_sip(sip_uri, action, round(self._settings.bridge_dial_s)))

    def answer_of(self, entry: Entry, info: CallInfo) -> str:
        """The TwiML of a call that has an entry."""
        if entry.phase is Phase.OVER:
            return self.over(entry)
        self._registry.renew(entry, self._clock())
        return self._stream(entry, info)

    @staticmethod
    def over(entry: Entry) -> str:
        """The TwiML of a finished call whose webhook comes again."""
        if entry.outcome is Outcome.DIALLED:
            return entry.answer
        return twiml.dial(entry.transfer_to) if entry.outcome is Outcome.TRANSFERRED else twiml.hangup()

    def _stream(self, entry: Entry, info: CallInfo) -> str:
        settings = self._settings
        token = MediaToken(
            entry.call_sid,
            entry.media_id,
            asdict(entry.session),
            info.from_number,
            info.to_number,
            entry.attempt,
        )
        # A dialled agent is tried only after the media socket.
        dialled = list(self._sessions.from_dialled(entry.session.agents[1:]))
        state = ResumeState(entry.call_sid, entry.attempt, int(time.time()), dialled)
        return twiml.stream(
            f"{settings.stream_base}/media/{entry.media_id}",
            self._tokens.seal_media(token),
            f"{settings.public_url}/stream/status",
            f"{settings.public_url}/voice/resume?s={self._tokens.seal_resume(state)}",
        )

    @property
    def apology(self) -> str:
        """The operator's fallback, for a call that has nothing better to come."""
        return twiml.fallback(self._settings.bridge_fallback)

    def fallback(self, call_sid: str, reason: str, detail: str = "") -> str:
        """The operator's fallback for a call that cannot be answered; ``reason`` is a metric label."""
        self._metrics.refused(reason)
        log.warning("call gets the fallback", call_sid=call_sid, reason=reason, detail=detail)
        return self.apology
