"""Whether an agent's service works, by what became of the last attempts; a pure state machine of one agent."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

# One failure may be an accident; each further one is another caller who waits in vain.
FAILURES = 2
# A caller waits about this long for a greeting without a doubt.
UNANSWERED_S = 2.0
# How long the agent is left alone at first: a service that restarts is back by then.
OPEN_S = 10.0
# The same after a failure that ends by somebody's hand: a new key, a paid bill, another setting.
OPEN_FINAL_S = 30.0
# The time doubles with each attempt that fails, up to this: the most by which a good agent comes back late.
MOST_OPEN_S = 60.0
# A talk that has lasted this long shows that an agent works which has failed in its talks.
PROVEN_S = 10.0
# From a session to the media socket, which may come to another process.
TRIAL_S = 10.0
# Calls without another agent try a failing one too: a refusal costs them no time. While this many calls wait for longer
# than `UNANSWERED_S`, and none has been answered for a while, the agent hangs: the fallback at once is better then.
OVERDUE_CALLS = 4
ANSWERING_S = 5.0


class Stage(enum.IntEnum):
    """Where an agent fails. A success says that it works so far, and nothing of the later stages."""

    SESSION = 1
    SOCKET = 2
    TALK = 3


class Health(enum.Enum):
    """Which calls try the agent: all, none, or one."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Change:
    """What has become of a breaker: ``reason`` and ``open_s`` are set where it has opened."""

    health: Health
    reason: str = ""
    open_s: float = 0.0


@dataclass(slots=True)
class _Attempt:
    stage: Stage
    began: float
    # Whether it counts as failed, although it may still go on.
    is_counted: bool = False


class AgentBreaker:
    """
    Counts the failures of one agent, and lets calls pass it over.

    A call is known by its CallSid. After `admits` has let it try the agent, `begin` follows, and then one of
    `on_session`, `on_open`, `on_failure` and `on_left`. All times are seconds of one monotonic clock.

    Args:
        on_change: Gets each change.
    """

    def __init__(self, on_change: Callable[[Change], None]) -> None:
        self._on_change = on_change
        self.health = Health.CLOSED
        # Failures since the agent last worked, and the latest stage among them.
        self._failures = 0
        self._stage = Stage.SESSION
        # How long it was left alone the last time, 0 if it has worked since; and until when.
        self._open_s = 0.0
        self._open_until = 0.0
        # The call that tries a half-open agent, and until when a word of it is awaited.
        self._trial: str | None = None
        self._trial_until = 0.0
        # Calls that wait for an answer of the agent. Each leaves with the end of its attempt.
        self._attempts: dict[str, _Attempt] = {}
        # Calls that talk with the agent since it failed in a talk, and since when.
        self._unproven: dict[str, float] = {}
        # When the agent last answered a call, in time or late.
        self._answered_at = -math.inf

    def admits(self, call_sid: str, now: float, *, is_last_resort: bool = False) -> bool:
        """
        Whether a call may try the agent.

        Args:
            is_last_resort: No other agent is left for the call.
        """
        self.settle(now)
        if self.health is Health.CLOSED:
            return True
        if self.health is Health.OPEN and now >= self._open_until:
            self._set(Change(Health.HALF_OPEN))
        if self.health is Health.HALF_OPEN and self._trial is None:
            self._trial, self._trial_until = call_sid, now + TRIAL_S
        if call_sid == self._trial:
            return True
        return is_last_resort and not self._hangs(now)

    def begin(self, call_sid: str, stage: Stage, now: float) -> None:
        """The call waits for the agent."""
        self._attempts[call_sid] = _Attempt(stage, now)

    def on_session(self, call_sid: str, now: float) -> None:
        """The agent's service has given the call a session."""
        if self._has_answered(call_sid, now):
            if self._stage is Stage.SESSION:
                self._recover()
            elif call_sid == self._trial:
                self._trial_until = now + TRIAL_S

    def on_open(self, call_sid: str, now: float) -> None:
        """The agent talks with the call from now on."""
        if not self._has_answered(call_sid, now):
            return
        if self._stage is Stage.TALK:
            self._close()
            self._unproven[call_sid] = now
        else:
            self._recover()

    def on_failure(self, call_sid: str, reason: str, now: float, *, is_final: bool) -> None:
        """
        The attempt has failed, or the agent at work.

        Args:
            reason: For the log.
            is_final: Whether it goes on until somebody changes something.
        """
        self.settle(now)
        attempt = self._attempts.pop(call_sid, None)
        self._unproven.pop(call_sid, None)
        if attempt is None:
            self._count(call_sid, Stage.TALK, reason, now, is_final)
        elif not attempt.is_counted:
            self._count(call_sid, attempt.stage, reason, now, is_final)

    def on_setback(self, call_sid: str, reason: str, now: float) -> None:
        """The agent has refused the call, which asks again by itself."""
        attempt = self._attempts.get(call_sid)
        if attempt is not None and not attempt.is_counted:
            attempt.is_counted = True
            self._count(call_sid, attempt.stage, reason, now, is_final=False)

    def on_left(self, call_sid: str, now: float) -> None:
        """The call does not try the agent any more, for a reason of its own."""
        self.settle(now)
        self._attempts.pop(call_sid, None)
        self._unproven.pop(call_sid, None)
        if call_sid == self._trial:
            self._trial = None

    def settle(self, now: float) -> None:
        """Act on what the time has decided; each question does it too."""
        for call_sid, attempt in self._attempts.items():
            late_at = attempt.began + UNANSWERED_S
            if not attempt.is_counted and now >= late_at:
                attempt.is_counted = True
                self._count(call_sid, attempt.stage, f"no answer within {UNANSWERED_S:g} s", late_at, False)
        if any(now - opened_at >= PROVEN_S for opened_at in self._unproven.values()):
            self._recover()
        if self._trial is not None and self._trial not in self._attempts and now >= self._trial_until:
            # Its media socket has come to another process, or its caller has left: nothing speaks against the agent.
            self._close()

    def _hangs(self, now: float) -> bool:
        overdue = sum(now >= attempt.began + UNANSWERED_S for attempt in self._attempts.values())
        return overdue >= OVERDUE_CALLS and now - self._answered_at >= ANSWERING_S

    def _has_answered(self, call_sid: str, now: float) -> bool:
        """End an attempt; False if it has taken too long, or there is none."""
        self.settle(now)
        attempt = self._attempts.pop(call_sid, None)
        self._answered_at = now
        return attempt is not None and now < attempt.began + UNANSWERED_S

    def _count(self, call_sid: str, stage: Stage, reason: str, now: float, is_final: bool) -> None:
        is_trial = call_sid == self._trial
        if self.health is not Health.CLOSED and not is_trial:
            # It began before, or had no other agent.
            return
        self._failures += 1
        self._stage = max(self._stage, stage)
        if is_trial or self._failures >= FAILURES:
            least_s = OPEN_FINAL_S if is_final else OPEN_S
            self._open_s = min(MOST_OPEN_S, max(least_s, 2 * self._open_s))
            self._open_until = now + self._open_s
            self._trial = None
            self._unproven.clear()
            self._set(Change(Health.OPEN, reason, self._open_s))

    def _recover(self) -> None:
        """The agent works: forget its failures."""
        self._close()
        self._failures = 0
        self._stage = Stage.SESSION
        self._open_s = 0.0
        self._unproven.clear()

    def _close(self) -> None:
        """Let all calls try; until it is sure that the agent works, one failure opens the breaker again."""
        self._trial = None
        if self.health is not Health.CLOSED:
            self._failures = FAILURES - 1
            self._set(Change(Health.CLOSED))

    def _set(self, change: Change) -> None:
        self.health = change.health
        self._on_change(change)
