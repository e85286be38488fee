"""What follows the TwiML of a call while its caller is still there: another agent, or the end."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from multidict import MultiDict

from bridge.agents.agent import CallInfo, SessionError
from bridge.call.ends import Outcome, Why
from bridge.server.admissions import Admissions
from bridge.server.registry import Registry
from bridge.twilio.tokens import ResumeState

log = structlog.get_logger()


class Resuming:
    """
    Answers Twilio's request after a media socket or a dialled agent.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, admissions: Admissions, registry: Registry, clock: Callable[[], float]) -> None:
        self._admissions = admissions
        self._registry = registry
        self._clock = clock

    async def after_socket(self, form: MultiDict[str], state: ResumeState | None) -> str:
        """The TwiML after the media socket; ``state`` is None if the URL has none of this call."""
        call_sid = form["CallSid"]
        if state is not None:
            # Twilio asks only when its end of the socket is gone, which a half-open socket does not show.
            self._registry.end(call_sid, Why.CALLER_LOST, self._clock())
        entry = await self._admissions.known(call_sid) if state is not None else None
        outcome = entry.outcome if entry is not None else None
        log.info("resume requested", call_sid=call_sid, outcome=outcome.value if outcome else "unknown")
        if entry is not None and outcome in (Outcome.ENDED, Outcome.TRANSFERRED):
            return self._admissions.over(entry)
        if state is not None and state.agents and outcome in (Outcome.AGENT_LOST, Outcome.DIALLED):
            return await self.next_agent(form, state)
        return self._admissions.apology

    async def next_agent(self, form: MultiDict[str], state: ResumeState) -> str:
        """The TwiML of the agents that are left to try, or the fallback."""
        try:
            return await self._try_next(form, state)
        except SessionError as error:
            return self._admissions.fallback(state.call_sid, "no_session", str(error))
        except Exception:
            log.exception("fault while a call was answered", call_sid=state.call_sid)
            return self._admissions.fallback(state.call_sid, "fault")

    async def _try_next(self, form: MultiDict[str], state: ResumeState) -> str:
        info = CallInfo(state.call_sid, form.get("From", ""), form.get("To", ""))
        entry = await self._admissions.known(state.call_sid)
        is_next = entry is None or (
            entry.outcome in (Outcome.DIALLED, Outcome.AGENT_LOST) and entry.attempt <= state.attempt
        )
        if entry is not None and not is_next:
            # Twilio asks again, and the next agent is already found.
            return self._admissions.answer_of(entry, info)
        if not self._registry.is_being_admitted(state.call_sid):
            if self._registry.is_draining:
                return self._admissions.fallback(state.call_sid, "draining")
            if self._registry.is_full:
                return self._admissions.fallback(state.call_sid, "full")
        self._registry.drop(state.call_sid)
        return await self._admissions.open_and_answer(info, state.agents, state.attempt + 1)
