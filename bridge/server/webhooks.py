"""
Twilio's webhooks and their TwiML.

On an HTTP error Twilio plays its own error message. Failures after the signature check therefore return 200 with
fallback TwiML.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import parse_qsl

import structlog
from multidict import MultiDict

from bridge.agents.agent import CallInfo, SessionError
from bridge.agents.max_calls import key_of_agent
from bridge.agents.sessions import Sessions
from bridge.call.ends import Why
from bridge.http.messages import NO_CONTENT, Request, Response
from bridge.metrics import Metrics
from bridge.server.admissions import Admissions
from bridge.server.answer_webhook import AnswerWebhook
from bridge.server.callers import Callers
from bridge.server.forms import Forms, call_info
from bridge.server.hand_over import was_answered
from bridge.server.refusals import Refusals
from bridge.server.registry import Registry
from bridge.server.resuming import Resuming
from bridge.server.store.agreement import Agreement
from bridge.settings import Settings
from bridge.twilio import twiml
from bridge.twilio.signature import Signatures
from bridge.twilio.tokens import BadToken, ResumeState, Tokens

log = structlog.get_logger()

OVER_STATUSES = frozenset({"completed", "busy", "failed", "no-answer", "canceled"})


async def nobody_to_tell(media_id: str, owner: str) -> None:
    """This process has no workers."""


class Webhooks:
    """
    Answers the webhooks.

    Args:
        clock: Seconds, monotonic.
        announce: Leads the media socket of this ID to the process of this name, where it can.
        has_other: Whether another process is there for the calls of one that drains.
        answers: The user's own webhook, if there is one.
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
        callers: Callers,
        metrics: Metrics,
        clock: Callable[[], float],
        announce: Callable[[str, str], Awaitable[None]] = nobody_to_tell,
        has_other: Callable[[], bool] = lambda: False,
        answers: AnswerWebhook | None = None,
    ) -> None:
        self._sessions = sessions
        self._registry = registry
        self._tokens = tokens
        self._callers = callers
        self._metrics = metrics
        self._clock = clock
        self._forms = Forms(settings, signatures, refusals)
        self._admissions = Admissions(
            settings, sessions, registry, agreement, tokens, callers, metrics, clock, announce, answers
        )
        self._resuming = Resuming(self._admissions, sessions, registry, agreement.owner, clock, has_other)

    async def voice(self, request: Request) -> Response:
        """The call's first request: one session per CallSid, then the TwiML that opens the media socket."""
        began, webhook_at = self._clock(), time.time()
        form = self._forms.read(request)
        if isinstance(form, Response):
            return form
        info = call_info(form, request.query)
        try:
            answer = await self._admit(info, webhook_at)
        except Exception:
            # The front's catch-all would answer an error status, on which Twilio plays its own message.
            log.exception("fault while a call was answered", call_sid=info.call_sid)
            answer = self._admissions.fallback(info, "fault")
        self._metrics.webhook_s.observe(self._clock() - began)
        return _twiml(answer)

    async def _admit(self, info: CallInfo, webhook_at: float) -> str:
        call_sid = info.call_sid
        is_new = not self._registry.is_being_admitted(call_sid)
        entry = await self._admissions.known_here(call_sid) if is_new else None
        if entry is not None:
            return self._admissions.answer_of(entry, info, webhook_at=webhook_at)
        route = self._sessions.route(info)
        info = replace(info, route=route.name)
        if not self._registry.is_being_admitted(call_sid):
            if not self._resuming.may_go_on():
                return self._admissions.fallback(info, "draining")
            if await self._callers.refusal(info):
                return self._admissions.refused(info)
            if self._registry.is_full:
                self._metrics.refused("full")
                log.warning("call refused", call_sid=call_sid, reason="full", setting="BRIDGE_MAX_CALLS")
                return twiml.reject("busy")
        try:
            chain = route.chain(call_sid)
            return await self._admissions.open_and_answer(info, chain, 0, webhook_at=webhook_at)
        except SessionError as error:
            return self._admissions.fallback(info, "no_session", str(error))

    async def dialled(self, request: Request) -> Response:
        """The request after a hand-over: the conversation is over, or the agent did not answer."""
        form = self._forms.read(request)
        if isinstance(form, Response):
            return form
        status = form.get("DialCallStatus", "")
        state = self._resume_state(request, form["CallSid"])
        info = _call_of(form, state)
        log.info("dialled agent ended", call_sid=info.call_sid, status=status[:40])
        since_s = time.time() - state.first_at if state is not None else 0.0
        has_talked = was_answered(status, since_s)
        # A caller who hung up while it rang is not there for another agent.
        is_over = form.get("CallStatus") in OVER_STATUSES
        agent = state.chain[0] if state is not None and state.chain else ""
        self._sessions.slots.leave(info.call_sid, key_of_agent(agent) if agent else "")
        self._sessions.health.on_handed_over(
            agent, info.call_sid, status[:40], has_talked=has_talked, is_caller_gone=is_over
        )
        self._callers.on_over(info, since_s if has_talked else 0.0)
        if has_talked or is_over:
            return _twiml(twiml.hangup())
        if state is None or not state.agents:
            return _twiml(self._admissions.fallback(info, "not_answered", status[:40]))
        return _twiml(await self._resuming.next_agent(info, state))

    async def resume(self, request: Request) -> Response:
        """The request that follows the media socket while the caller is still there."""
        form = self._forms.read(request)
        if isinstance(form, Response):
            return form
        state = self._resume_state(request, form["CallSid"])
        return _twiml(await self._resuming.after_socket(_call_of(form, state), state))

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
        form = self._forms.read(request)
        if isinstance(form, Response):
            return form
        if form.get("CallStatus") in OVER_STATUSES:
            self._registry.end(form["CallSid"], Why.CALL_COMPLETED, self._clock())
            self._sessions.slots.leave(form["CallSid"])
            self._callers.on_over(call_info(form))
        return NO_CONTENT

    async def stream_status(self, request: Request) -> Response:
        """The stream's status callback, the only place where a failed handshake shows."""
        form = self._forms.read(request)
        if isinstance(form, Response):
            return form
        if form.get("StreamEvent") == "stream-error":
            log.warning(
                "stream error",
                call_sid=form["CallSid"],
                error=form.get("StreamError", "")[:200],
                hint="Twilio could not open the media socket or lost it: look for a line about it shortly before, and "
                "let bridge check try wss to PUBLIC_URL",
            )
        return NO_CONTENT


def _call_of(form: MultiDict[str], state: ResumeState | None) -> CallInfo:
    """The call of a later request, with the values and the route of its first one."""
    return call_info(form) if state is None else call_info(form, kept=state.values, route=state.route)


def _twiml(text: str) -> Response:
    return Response(200, text.encode(), "text/xml; charset=utf-8")
