"""
Twilio's webhooks and their TwiML.

On an HTTP error Twilio plays its own error message. Failures after the signature check therefore return 200 with
fallback TwiML.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from urllib.parse import parse_qsl

import structlog
from multidict import MultiDict

from bridge.agents.agent import CallInfo, SessionError
from bridge.agents.sessions import Sessions
from bridge.call.ends import Outcome, Why
from bridge.http.messages import BAD_REQUEST, NO_CONTENT, Request, Response
from bridge.metrics import Metrics
from bridge.server.refusals import CALL_SID, Refusals
from bridge.server.registry import Admission, AdmittedElsewhereError, Entry, Phase, Registry
from bridge.server.store.agreement import Agreement, Record, Stage
from bridge.server.store.breaker import StoreUnavailableError
from bridge.settings import Settings
from bridge.twilio import twiml
from bridge.twilio.signature import Signatures
from bridge.twilio.tokens import BadToken, MediaToken, ResumeState, Tokens

log = structlog.get_logger()

OVER_STATUSES = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
FORM_FIELDS_MAX = 500

NOT_A_FORM = Response(415, b"415 Unsupported Media Type: application/x-www-form-urlencoded is wanted\n")


class Webhooks:
    """
    Answers the webhooks.

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
        signatures: Signatures,
        refusals: Refusals,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._registry = registry
        self._agreement = agreement
        self._tokens = tokens
        self._signatures = signatures
        self._refusals = refusals
        self._metrics = metrics
        self._clock = clock

    async def voice(self, request: Request) -> Response:
        """The call's first request: one session per CallSid, then the TwiML that opens the media socket."""
        began = self._clock()
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        try:
            answer = await self._admit(form)
        except Exception:
            # The front's catch-all would answer an error status, on which Twilio plays its own message.
            log.exception("fault while a call was answered", call_sid=form["CallSid"])
            answer = self._fallback(form["CallSid"], "fault")
        self._metrics.webhook_s.observe(self._clock() - began)
        return _twiml(answer)

    async def _admit(self, form: MultiDict[str]) -> str:
        call_sid = form["CallSid"]
        info = CallInfo(call_sid, form.get("From", ""), form.get("To", ""))
        is_new = not self._registry.is_being_admitted(call_sid)
        entry = await self._known(call_sid) if is_new else None
        if entry is not None:
            return self._answer_of(entry, info)
        if not self._registry.is_being_admitted(call_sid):
            if self._registry.is_draining:
                return self._fallback(call_sid, "draining")
            if self._registry.is_full:
                self._metrics.refused("full")
                log.warning("call refused", call_sid=call_sid, reason="full")
                return twiml.busy()
        try:
            return await self._open_and_answer(info, self._sessions.chain(info), 0)
        except SessionError as error:
            return self._fallback(call_sid, "no_session", str(error))

    async def _known(self, call_sid: str) -> Entry | None:
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

    async def _open_and_answer(self, info: CallInfo, chain: Sequence[str], attempt: int) -> str:
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
        return self._answer_of(entry, info)

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

    def _answer_of(self, entry: Entry, info: CallInfo) -> str:
        """The TwiML of a call that has an entry."""
        if entry.phase is Phase.OVER:
            return self._over(entry)
        self._registry.renew(entry, self._clock())
        return self._stream(entry, info)

    @staticmethod
    def _over(entry: Entry) -> str:
        """The TwiML of a finished call whose webhook comes again."""
        if entry.outcome is Outcome.DIALLED:
            return entry.answer
        return twiml.dial(entry.transfer_to) if entry.outcome is Outcome.TRANSFERRED else twiml.hangup()

    async def dialled(self, request: Request) -> Response:
        """The request after a dialled SIP address: the call is over, or the address did not answer."""
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        call_sid = form["CallSid"]
        status = form.get("DialCallStatus", "")
        state = self._resume_state(request, call_sid)
        log.info("dialled agent ended", call_sid=call_sid, status=status[:40])
        # A caller who hung up while it rang is not there for another agent.
        if status in ("completed", "answered") or form.get("CallStatus") in OVER_STATUSES:
            return _twiml(twiml.hangup())
        if state is None or not state.agents:
            return _twiml(self._fallback(call_sid, "not_answered", status[:40]))
        return _twiml(await self._next_or_fallback(form, state))

    async def _next_or_fallback(self, form: MultiDict[str], state: ResumeState) -> str:
        try:
            return await self._try_next(form, state)
        except SessionError as error:
            return self._fallback(state.call_sid, "no_session", str(error))
        except Exception:
            log.exception("fault while a call was answered", call_sid=state.call_sid)
            return self._fallback(state.call_sid, "fault")

    async def _try_next(self, form: MultiDict[str], state: ResumeState) -> str:
        info = CallInfo(state.call_sid, form.get("From", ""), form.get("To", ""))
        entry = await self._known(state.call_sid)
        is_next = entry is None or (
            entry.outcome in (Outcome.DIALLED, Outcome.AGENT_LOST) and entry.attempt <= state.attempt
        )
        if entry is not None and not is_next:
            # Twilio asks again, and the next agent is already found.
            return self._answer_of(entry, info)
        if not self._registry.is_being_admitted(state.call_sid):
            if self._registry.is_draining:
                return self._fallback(state.call_sid, "draining")
            if self._registry.is_full:
                return self._fallback(state.call_sid, "full")
        self._registry.drop(state.call_sid)
        return await self._open_and_answer(info, state.agents, state.attempt + 1)

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

    def _fallback(self, call_sid: str, reason: str, detail: str = "") -> str:
        self._metrics.refused(reason)
        log.warning("call gets the fallback", call_sid=call_sid, reason=reason, detail=detail)
        return twiml.fallback(self._settings.bridge_fallback)

    async def resume(self, request: Request) -> Response:
        """The request that follows the media socket while the caller is still there."""
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        call_sid = form["CallSid"]
        state = self._resume_state(request, call_sid)
        if state is not None:
            # Twilio asks only when its end of the socket is gone, which a half-open socket does not show.
            self._registry.end(call_sid, Why.CALLER_LOST, self._clock())
        entry = await self._known(call_sid) if state is not None else None
        outcome = entry.outcome if entry is not None else None
        log.info("resume requested", call_sid=call_sid, outcome=outcome.value if outcome else "unknown")
        if entry is not None and outcome in (Outcome.ENDED, Outcome.TRANSFERRED):
            return _twiml(self._over(entry))
        if state is not None and state.agents and outcome in (Outcome.AGENT_LOST, Outcome.DIALLED):
            return _twiml(await self._next_or_fallback(form, state))
        return _twiml(twiml.fallback(self._settings.bridge_fallback))

    def _resume_state(self, request: Request, call_sid: str) -> ResumeState | None:
        """The state in a request's URL, if it is this call's."""
        texts = [value for name, value in parse_qsl(request.query) if name == "s"]
        try:
            state = self._tokens.open_resume(texts[0] if len(texts) == 1 else "")
        except BadToken:
            # Sealed before a restart, or with a former auth token; the request is Twilio's all the same.
            return None
        return state if state.call_sid == call_sid else None

    async def voice_status(self, request: Request) -> Response:
        """The call's status callback: a finished call is torn down, whatever its sockets say."""
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        if form.get("CallStatus") in OVER_STATUSES:
            self._registry.end(form["CallSid"], Why.CALL_COMPLETED, self._clock())
        return NO_CONTENT

    async def stream_status(self, request: Request) -> Response:
        """The stream's status callback, the only place where a failed handshake shows."""
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        if form.get("StreamEvent") == "stream-error":
            log.warning("stream error", call_sid=form["CallSid"], error=form.get("StreamError", "")[:200])
        return NO_CONTENT

    def _checked_form(self, request: Request) -> MultiDict[str] | Response:
        """The form of a request that Twilio signed and that names one call of this account, or the refusal."""
        signature = request.header("x-twilio-signature")
        if self._settings.bridge_validate_signatures and not signature:
            return self._refusals.webhook(request, "signature")
        content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if content_type != "application/x-www-form-urlencoded":
            return NOT_A_FORM
        try:
            pairs = parse_qsl(
                request.body.decode("ascii"),
                keep_blank_values=True,
                max_num_fields=FORM_FIELDS_MAX,
                errors="strict",
            )
        except ValueError:
            return BAD_REQUEST
        form = MultiDict(pairs)
        if self._settings.bridge_validate_signatures and not self._signatures.is_webhook(
            request.path, request.query, form, signature
        ):
            return self._refusals.webhook(request, "signature", form)
        # The signed text joins names and values without a separator, so a form split elsewhere has the same
        # signature. The SIDs count only in their exact shape and once.
        call_sids = form.getall("CallSid", [])
        if len(call_sids) != 1 or not CALL_SID.fullmatch(call_sids[0]):
            return self._refusals.webhook(request, "call_sid", form)
        account_sid = self._settings.twilio_account_sid
        if account_sid and form.getall("AccountSid", []) != [account_sid]:
            return self._refusals.webhook(request, "account_sid", form)
        return form


def _twiml(text: str) -> Response:
    return Response(200, text.encode(), "text/xml; charset=utf-8")
