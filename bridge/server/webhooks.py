"""
The HTTP side of a call: what Twilio and the agent service ask, and the TwiML that they get.

Twilio never speaks an error status: what fails after the signature is answered with 200 and fallback TwiML.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import parse_qsl

import orjson
import structlog
from multidict import MultiDict

from bridge.agents.agent import CallInfo, SessionError
from bridge.agents.sessions import Sessions
from bridge.agents.vendors.retell import is_webhook_of_retell
from bridge.call.state import Outcome, Why
from bridge.http.messages import Request, Response
from bridge.metrics import Metrics
from bridge.server.registry import Entry, Phase, Registry, Session
from bridge.settings import Settings
from bridge.twilio import twiml
from bridge.twilio.signature import Signatures
from bridge.twilio.tokens import BadToken, MediaToken, ResumeState, Tokens

log = structlog.get_logger()

CALL_SID = re.compile(r"CA[0-9a-f]{32}")
OVER_STATUSES = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})
FORM_FIELDS_MAX = 500
REPLAYS_REMEMBERED = 10_000
RETELL_EVENTS = frozenset({"call_started", "call_ended", "call_analyzed"})

NO_CONTENT = Response(204)
FORBIDDEN = Response(403, b"403 Forbidden\n")
BAD_REQUEST = Response(400, b"400 Bad Request\n")
NOT_A_FORM = Response(415, b"415 Unsupported Media Type: application/x-www-form-urlencoded is wanted\n")


class Webhooks:
    """
    Answers the webhooks.

    Args:
        is_draining: Whether new calls are to be kept away.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        calls: Registry,
        tokens: Tokens,
        signatures: Signatures,
        metrics: Metrics,
        *,
        is_draining: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._calls = calls
        self._tokens = tokens
        self._signatures = signatures
        self._metrics = metrics
        self._is_draining = is_draining
        self._clock = clock
        self._retell_seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def voice(self, request: Request) -> Response:
        """The call's first request: one session per CallSid, then the TwiML that opens the media socket."""
        began = self._clock()
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        try:
            answer = await self._admit(form)
        except Exception:
            # The front's catch-all would answer an error status, which the caller never hears.
            log.exception("fault while a call was answered", call_sid=form["CallSid"])
            answer = self._fallback(form["CallSid"], "fault")
        self._metrics.webhook_s.observe(self._clock() - began)
        return _twiml(answer)

    async def _admit(self, form: MultiDict[str]) -> str:
        call_sid = form["CallSid"]
        asked = CallInfo(call_sid, form.get("From", ""), form.get("To", ""))
        known = self._calls.find(call_sid)
        if known is not None:
            return self._answer_of(known, asked)
        if not self._calls.is_being_admitted(call_sid):
            if self._is_draining():
                return self._fallback(call_sid, "draining")
            if self._calls.is_full:
                self._metrics.refused("full")
                log.warning("call refused", call_sid=call_sid, reason="full")
                return twiml.busy()
        chain = self._sessions.chain(asked)

        async def open_session() -> Session:
            return await self._open(asked, chain)

        try:
            known = await self._calls.admit(call_sid, secrets.token_hex(16), open_session, self._clock)
        except SessionError as error:
            return self._fallback(call_sid, "no_session", str(error))
        return self._answer_of(known, asked)

    async def _open(self, asked: CallInfo, chain: Sequence[str]) -> Session:
        opened = await self._sessions.open(asked, chain)
        sip_uri = self._sessions.sip_uri(opened)
        if sip_uri is None:
            return opened
        state = ResumeState(asked.call_sid, 0, int(time.time()), list(opened.agents[1:]))
        action = f"{self._settings.public_url}/voice/dialled?s={self._tokens.seal_resume(state)}"
        log.info("call dialled", call_sid=asked.call_sid, agent=opened.agents[0])
        return replace(opened, answer=twiml.dial_sip(sip_uri, action, round(self._settings.bridge_dial_s)))

    def _answer_of(self, known: Entry, asked: CallInfo) -> str:
        """The TwiML of a call that is known."""
        if known.phase is Phase.OVER:
            return self._over(known)
        self._calls.renew(known, self._clock())
        return self._stream(known, asked)

    @staticmethod
    def _over(known: Entry) -> str:
        """What a call that is over, or went elsewhere, gets if it is asked about again."""
        if known.record is Outcome.DIALLED:
            return known.answer
        return twiml.dial(known.transfer_to) if known.record is Outcome.TRANSFERRED else twiml.hangup()

    async def dialled(self, request: Request) -> Response:
        """What Twilio asks when a SIP address was dialled: the call is over, or the address could not be had."""
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        call_sid = form["CallSid"]
        status = form.get("DialCallStatus", "")
        state = self._resume_state(request, call_sid)
        log.info("dialled agent is gone", call_sid=call_sid, status=status[:40])
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
        asked = CallInfo(state.call_sid, form.get("From", ""), form.get("To", ""))
        known = self._calls.find(state.call_sid)
        is_next = known is None or (
            known.record in (Outcome.DIALLED, Outcome.AGENT_LOST)
            and list(known.agents[1:])[-len(state.agents) :] == state.agents
        )
        if known is not None and not is_next:
            # Twilio asks again, and the next one was already found.
            return self._answer_of(known, asked)
        if not self._calls.is_being_admitted(state.call_sid):
            if self._is_draining():
                return self._fallback(state.call_sid, "draining")
            if self._calls.is_full:
                return self._fallback(state.call_sid, "full")
        self._calls.forget_over(state.call_sid)

        async def open_session() -> Session:
            return await self._open(asked, state.agents)

        known = await self._calls.admit(state.call_sid, secrets.token_hex(16), open_session, self._clock)
        return self._answer_of(known, asked)

    def _stream(self, known: Entry, asked: CallInfo) -> str:
        settings = self._settings
        token = MediaToken(
            known.call_sid,
            known.media_id,
            list(known.agents),
            known.session,
            asked.from_number,
            asked.to_number,
        )
        # An agent that is dialled cannot be tried while the media socket is up, but after it.
        dialled = list(self._sessions.from_dialled(known.agents[1:]))
        state = ResumeState(known.call_sid, 0, int(time.time()), dialled)
        return twiml.stream(
            f"{settings.stream_base}/media/{known.media_id}",
            self._tokens.seal_media(token),
            f"{settings.public_url}/stream/status",
            f"{settings.public_url}/voice/resume?s={self._tokens.seal_resume(state)}",
        )

    def _fallback(self, call_sid: str, reason: str, detail: str = "") -> str:
        self._metrics.refused(reason)
        log.warning("call gets the fallback", call_sid=call_sid, reason=reason, detail=detail)
        return twiml.fallback(self._settings.bridge_fallback)

    async def resume(self, request: Request) -> Response:
        """What Twilio asks when the media socket is gone and the caller is still there."""
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        call_sid = form["CallSid"]
        state = self._resume_state(request, call_sid)
        if state is not None:
            # Twilio asks only when its end of the socket is gone, which a half-open one does not tell.
            self._calls.end(call_sid, Why.CALLER_LOST, self._clock())
        known = self._calls.find(call_sid) if state is not None else None
        record = known.record if known is not None else None
        log.info("resume asked", call_sid=call_sid, record=record.value if record else "unknown")
        if known is not None and record in (Outcome.ENDED, Outcome.TRANSFERRED):
            return _twiml(self._over(known))
        if state is not None and state.agents and record in (Outcome.AGENT_LOST, Outcome.DIALLED):
            return _twiml(await self._next_or_fallback(form, state))
        return _twiml(twiml.fallback(self._settings.bridge_fallback))

    def _resume_state(self, request: Request, call_sid: str) -> ResumeState | None:
        """The state in a request's URL, if it is this call's."""
        texts = [value for name, value in parse_qsl(request.query) if name == "s"]
        try:
            state = self._tokens.open_resume(texts[0] if len(texts) == 1 else "")
        except BadToken:
            # Sealed before a restart, or with an auth token that is gone: Twilio's request all the same.
            return None
        return state if state.call_sid == call_sid else None

    async def voice_status(self, request: Request) -> Response:
        """The call's status callback: a call that is over is torn down, whatever its sockets say."""
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        if form.get("CallStatus") in OVER_STATUSES:
            self._calls.end(form["CallSid"], Why.CALL_COMPLETED, self._clock())
        return NO_CONTENT

    async def stream_status(self, request: Request) -> Response:
        """The stream's status callback: the only place where a failed handshake shows."""
        form = self._checked_form(request)
        if isinstance(form, Response):
            return form
        if form.get("StreamEvent") == "stream-error":
            log.warning("stream error", call_sid=form["CallSid"], error=form.get("StreamError", "")[:200])
        return NO_CONTENT

    async def retell(self, request: Request) -> Response:
        """Retell's webhook: ``call_ended`` of a live call counts as the socket's."""
        settings = self._settings
        key = settings.retell_api_key.get_secret_value()
        signature = request.header("x-retell-signature")
        if not key or not is_webhook_of_retell(request.body, signature, key, int(time.time() * 1000)):
            return FORBIDDEN
        try:
            fields = orjson.loads(request.body)
            event, call_id = fields["event"], fields["call"]["call_id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return BAD_REQUEST
        if not isinstance(event, str) or event not in RETELL_EVENTS or not isinstance(call_id, str):
            return NO_CONTENT
        if (event, call_id) in self._retell_seen:
            return NO_CONTENT
        self._retell_seen[event, call_id] = None
        if len(self._retell_seen) > REPLAYS_REMEMBERED:
            self._retell_seen.popitem(last=False)
        if event == "call_ended":
            for known in self._calls.live_calls():
                if known.session.get("call_id") == call_id:
                    self._calls.end(known.call_sid, Why.AGENT_ENDED, self._clock())
        return NO_CONTENT

    def _checked_form(self, request: Request) -> MultiDict[str] | Response:
        """The form of a request that is Twilio's and names one call of ours, or the refusal."""
        signature = request.header("x-twilio-signature")
        if self._settings.bridge_validate_signatures and not signature:
            return self._refuse("signature")
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
            return self._refuse("signature")
        # The signed text joins names and values without a separator, so a form split elsewhere has the same
        # signature: the SIDs are believed only in their exact shape and once.
        call_sids = form.getall("CallSid", [])
        if len(call_sids) != 1 or not CALL_SID.fullmatch(call_sids[0]):
            return self._refuse("call_sid")
        account_sid = self._settings.twilio_account_sid
        if account_sid and form.getall("AccountSid", []) != [account_sid]:
            return self._refuse("account_sid")
        return form

    def _refuse(self, reason: str) -> Response:
        self._metrics.refused(reason)
        log.warning("request refused", reason=reason)
        return FORBIDDEN


def _twiml(text: str) -> Response:
    return Response(200, text.encode(), "text/xml; charset=utf-8")
