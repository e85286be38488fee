"""The health of the agents in use: a breaker for each, with its metric and its lines in the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from bridge.agents.agent_breaker import PROVEN_S, AgentBreaker, Change, Health, Stage
from bridge.agents.error_codes import ErrorCodes
from bridge.agents.failure_hints import hint_of
from bridge.agents.succession import FailureKind
from bridge.metric_labels import PASSED_OVER
from bridge.metrics import Metrics

log = structlog.get_logger()


class AgentHealth:
    """
    Knows which agents a call passes over, because the attempts of others have failed lately.

    Each process learns by its own calls. An agent that a reload removes is forgotten, and what its calls report
    changes nothing.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._breakers: dict[str, AgentBreaker] = {}
        self._codes = ErrorCodes()
        # What kind the last failure of each agent was.
        self._kinds: dict[str, FailureKind] = {}

    def use(self, names: Iterable[str]) -> None:
        """Follow these agents; those that were followed before keep their state."""
        names = set(names)
        for name in self._breakers.keys() - names:
            del self._breakers[name]
            self._kinds.pop(name, None)
            self._metrics.agent_available.remove(name)
        for name in names - self._breakers.keys():
            self._breakers[name] = breaker = AgentBreaker(partial(self._log, name))
            # So that a rule finds them before the first failure.
            self._metrics.agents_replaced.labels(name)
            self._metrics.calls_without_agent_audio.labels(name)
            for why in PASSED_OVER:
                self._metrics.agents_passed_over.labels(name, why)
            self._metrics.agent_available.labels(name).set_function(partial(self._available, breaker))

    def admits(self, name: str, call_sid: str, *, is_last_resort: bool = False) -> bool:
        """
        Whether a call may try an agent.

        Args:
            is_last_resort: No other agent is left for the call.
        """
        breaker = self._breakers.get(name)
        return breaker is None or breaker.admits(call_sid, self._clock(), is_last_resort=is_last_resort)

    def on_passed_over(self, names: Iterable[str]) -> None:
        """A call has not tried these agents, because they fail."""
        for name in names:
            self._metrics.agents_passed_over.labels(name, "failing").inc()

    def begin(self, name: str, call_sid: str, stage: Stage) -> None:
        """The call waits for the agent."""
        if breaker := self._breakers.get(name):
            breaker.begin(call_sid, stage, self._clock())

    def on_session(self, name: str, call_sid: str) -> None:
        """The agent's service has given the call a session."""
        if breaker := self._breakers.get(name):
            breaker.on_session(call_sid, self._clock())

    def on_open(self, name: str, call_sid: str) -> None:
        """The agent talks with the call from now on."""
        if breaker := self._breakers.get(name):
            breaker.on_open(call_sid, self._clock())

    def on_setback(self, name: str, call_sid: str, reason: str) -> None:
        """The agent has refused the call, which asks again by itself."""
        if breaker := self._breakers.get(name):
            breaker.on_setback(call_sid, reason, self._clock())

    def on_failure(
        self, name: str, call_sid: str, reason: str, kind: FailureKind, talk_s: float = 0.0
    ) -> None:
        """
        The agent has failed the call.

        A talk that has lasted ends by a reset or by its age, and the next one may be fine.

        Args:
            talk_s: How long it talked with the call.
        """
        self._metrics.agent_errors.labels(name, self._codes.code_of(name, reason)).inc()
        if breaker := self._breakers.get(name):
            if kind is FailureKind.SESSION_LIMIT or (kind is FailureKind.LOST and talk_s >= PROVEN_S):
                breaker.on_left(call_sid, self._clock())
            else:
                self._kinds[name] = kind
                breaker.on_failure(call_sid, reason, self._clock(), is_final=kind.is_final)

    def on_handed_over(
        self, name: str, call_sid: str, status: str, *, has_talked: bool, is_caller_gone: bool
    ) -> None:
        """An agent without a media socket has talked with the call, or has not."""
        breaker = self._breakers.get(name)
        if breaker is None or (is_caller_gone and not has_talked):
            return
        now = self._clock()
        breaker.begin(call_sid, Stage.SOCKET, now)
        if has_talked:
            breaker.on_open(call_sid, now)
        else:
            breaker.on_failure(call_sid, f"not answered: {status}", now, is_final=False)

    def on_full(self, name: str, call_sid: str) -> None:
        """The call passes over an agent that has all the calls that it may have."""
        self._metrics.agents_passed_over.labels(name, "full").inc()
        self.on_left(name, call_sid)

    def on_left(self, name: str, call_sid: str) -> None:
        """The call does not try the agent any more, for a reason of its own."""
        if breaker := self._breakers.get(name):
            breaker.on_left(call_sid, self._clock())

    def _available(self, breaker: AgentBreaker) -> float:
        breaker.settle(self._clock())
        return float(breaker.health is Health.CLOSED)

    def _log(self, name: str, change: Change) -> None:
        match change.health:
            case Health.OPEN:
                log.warning(
                    "agent fails, calls pass it over",
                    agent=name,
                    reason=change.reason,
                    for_s=change.open_s,
                    hint=hint_of(self._kinds.get(name, FailureKind.LOST)),
                )
            case Health.HALF_OPEN:
                log.info("one call tries the failing agent again", agent=name)
            case Health.CLOSED:
                log.info("agent works, calls try it again", agent=name)
