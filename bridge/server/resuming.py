"""What follows the TwiML of a call while its caller is still there: a new stream, another agent, or the end."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from bridge.agents.agent import CallInfo, SessionError
from bridge.agents.sessions import Session, Sessions
from bridge.call.ends import Outcome, Why
from bridge.server.admissions import Admissions
from bridge.server.registry import Entry, Phase, Registry
from bridge.server.store.breaker import StoreUnavailableError
from bridge.twilio.tokens import ResumeState

log = structlog.get_logger()

# A call gets this many new streams in this time, so that a fault cannot loop.
MOST_STREAMS = 2
WITHIN_S = 600


class Resuming:
    """
    Answers Twilio's request after a media socket or a dialled agent.

    Args:
        owner: The name of this process in the store.
        clock: Seconds, monotonic.
        has_other: Whether another process is there for the calls of one that drains.
    """

    def __init__(
        self,
        admissions: Admissions,
        sessions: Sessions,
        registry: Registry,
        owner: str,
        clock: Callable[[], float],
        has_other: Callable[[], bool],
    ) -> None:
        self._admissions = admissions
        self._sessions = sessions
        self._registry = registry
        self._owner = owner
        self._clock = clock
        self._has_other = has_other

    async def after_socket(self, info: CallInfo, state: ResumeState | None) -> str:
        """The TwiML after the media socket; ``state`` is None if the URL has none of this call."""
        call_sid = info.call_sid
        if state is None:
            log.info("resume requested", call_sid=call_sid, outcome="unknown")
            return self._admissions.apology(info)
        try:
            # Twilio asks only when its end of the socket is gone, which a half-open socket does not show.
            self._registry.on_caller_lost(call_sid, state.attempt, self._clock())
            try:
                entry = await self._admissions.known(call_sid, state.attempt)
                is_unknown = entry is None
            except StoreUnavailableError:
                # A second hello harms less than the end of the call in mid-talk.
                entry, is_unknown = None, False
            outcome = entry.outcome or entry.phase if entry is not None else None
            log.info("resume requested", call_sid=call_sid, outcome=outcome.value if outcome else "unknown")
            return self._admissions.apology(info) if is_unknown else await self._answer(info, state, entry)
        except Exception:
            log.exception("fault while a call was answered", call_sid=call_sid)
            return self._admissions.fallback(info, "fault")

    async def _answer(self, info: CallInfo, state: ResumeState, entry: Entry | None) -> str:
        outcome = entry.outcome if entry is not None else None
        if entry is not None and outcome in (Outcome.ENDED, Outcome.TRANSFERRED):
            return self._admissions.over(entry, info)
        if entry is not None and entry.is_refused:
            return self._admissions.apology(info)
        if outcome in (Outcome.AGENT_LOST, Outcome.DIALLED):
            return await self.next_agent(info, state) if state.agents else self._admissions.apology(info)
        return await self._new_stream(info, state, entry)

    async def _new_stream(self, info: CallInfo, state: ResumeState, entry: Entry | None) -> str:
        """The TwiML of a new stream: the call has lost its media socket, or the process that had it."""
        call_sid = info.call_sid
        now = int(time.time())
        reattached_at = [at for at in state.reattached_at if at > now - WITHIN_S]
        if entry is None or entry.outcome is not Outcome.HANDED_OVER:
            if len(reattached_at) >= MOST_STREAMS:
                self._registry.end(call_sid, Why.CALLER_LOST, self._clock())
                return self._admissions.fallback(info, "too_many_streams")
            reattached_at.append(now)
        if not self.may_go_on():
            return self._admissions.fallback(info, "draining")
        if entry is not None and entry.attempt > state.attempt and entry.phase is not Phase.OVER:
            # Twilio asks again, and the new stream is already admitted.
            return self._admissions.answer_of(entry, info, reattached_at)
        chain = tuple(state.chain) or self._sessions.route(info).chain(call_sid)
        session = Session(chain, {}, state.values, state.route)
        attempt = max(state.attempt, entry.attempt if entry is not None else 0) + 1
        owner, kept_at = "", ""
        if entry is not None and entry.phase is Phase.LIVE:
            owner, kept_at = entry.owner or self._owner, entry.media_id
        answer = await self._admissions.readmit(info, session, attempt, reattached_at, owner, kept_at)
        return answer if isinstance(answer, str) else await self._answer(info, state, answer)

    def may_go_on(self) -> bool:
        """Whether any process takes the media socket of what is answered now."""
        return self._registry.admits or self._has_other()

    async def next_agent(self, info: CallInfo, state: ResumeState) -> str:
        """The TwiML of the agents that are left to try, or the fallback."""
        try:
            return await self._try_next(info, state)
        except SessionError as error:
            return self._admissions.fallback(info, "no_session", str(error))
        except Exception:
            log.exception("fault while a call was answered", call_sid=state.call_sid)
            return self._admissions.fallback(info, "fault")

    async def _try_next(self, info: CallInfo, state: ResumeState) -> str:
        entry = await self._admissions.known_here(state.call_sid)
        is_next = entry is None or (
            entry.outcome in (Outcome.DIALLED, Outcome.AGENT_LOST) and entry.attempt <= state.attempt
        )
        if entry is not None and not is_next:
            # Twilio asks again, and the next agent is already found.
            return self._admissions.answer_of(entry, info, state.reattached_at)
        if not self._registry.is_being_admitted(state.call_sid):
            if not self.may_go_on():
                return self._admissions.fallback(info, "draining")
            if self._registry.is_full:
                return self._admissions.fallback(info, "full")
        self._registry.drop(state.call_sid)
        return await self._admissions.open_and_answer(
            info, state.agents, state.attempt + 1, state.reattached_at
        )
