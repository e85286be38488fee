"""The breaker of an agent on a clock of its own: who tries a failing agent, and when all do again."""

from __future__ import annotations

import pytest

from bridge.agents.agent_breaker import (
    ANSWERING_S,
    MOST_OPEN_S,
    OPEN_FINAL_S,
    OPEN_S,
    OVERDUE_CALLS,
    PROVEN_S,
    TRIAL_S,
    UNANSWERED_S,
    AgentBreaker,
    Change,
    Health,
    Stage,
)


class Agent:
    """A breaker with a clock, and calls that come to it."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.breaker = AgentBreaker(self.changes.append)
        self.now = 100.0
        self._calls = 0

    @property
    def health(self) -> Health:
        self.breaker.settle(self.now)
        return self.breaker.health

    @property
    def changed_to(self) -> list[Health]:
        return [change.health for change in self.changes]

    def call(self, stage: Stage = Stage.SOCKET, *, is_last_resort: bool = False) -> str | None:
        """A new call that tries the agent; None if it is passed over."""
        self._calls += 1
        call_sid = f"CA{self._calls}"
        if not self.breaker.admits(call_sid, self.now, is_last_resort=is_last_resort):
            return None
        self.breaker.begin(call_sid, stage, self.now)
        return call_sid

    def fail(self, call_sid: str, reason: str = "no", *, is_final: bool = False) -> None:
        self.breaker.on_failure(call_sid, reason, self.now, is_final=is_final)

    def refuse(self, stage: Stage = Stage.SOCKET, *, is_final: bool = False) -> None:
        call_sid = self.call(stage)
        assert call_sid is not None
        self.fail(call_sid, is_final=is_final)

    def talk(self) -> str:
        call_sid = self.call()
        assert call_sid is not None
        self.breaker.on_open(call_sid, self.now)
        return call_sid

    def break_down(self, *, is_final: bool = False) -> None:
        for _ in range(2):
            self.refuse(is_final=is_final)
        assert self.health is Health.OPEN


@pytest.fixture
def agent() -> Agent:
    return Agent()


def test_one_failure_changes_nothing(agent):
    agent.refuse()
    assert agent.health is Health.CLOSED
    assert agent.call()
    assert agent.changes == []


def test_second_failure_in_a_row_opens_for_a_while(agent):
    agent.refuse()
    agent.fail(agent.call(), "upgrade refused: 503")
    assert agent.changes == [Change(Health.OPEN, "upgrade refused: 503", OPEN_S)]
    agent.now += OPEN_S - 0.01
    assert agent.call() is None


def test_failures_with_a_success_between_them_do_not_open(agent):
    for _ in range(5):
        agent.refuse()
        agent.talk()
    assert agent.health is Health.CLOSED


def test_failure_that_somebody_has_to_end_opens_for_longer(agent):
    agent.break_down(is_final=True)
    assert agent.changes[-1].open_s == OPEN_FINAL_S


def test_one_call_tries_a_half_open_agent_and_its_success_closes(agent):
    agent.break_down()
    agent.now += OPEN_S
    trial = agent.call()
    assert trial
    assert agent.health is Health.HALF_OPEN
    assert agent.call() is None
    # The same call asks again at its media socket.
    assert agent.breaker.admits(trial, agent.now)
    agent.breaker.on_open(trial, agent.now)
    assert agent.changed_to == [Health.OPEN, Health.HALF_OPEN, Health.CLOSED]
    assert agent.call()
    # What was before is forgotten.
    agent.refuse()
    assert agent.health is Health.CLOSED


def test_each_trial_that_fails_doubles_the_time_up_to_a_bound(agent):
    agent.break_down()
    for _ in range(5):
        agent.now += agent.changes[-1].open_s
        agent.refuse()
    times = [change.open_s for change in agent.changes if change.health is Health.OPEN]
    assert times == [OPEN_S, 2 * OPEN_S, 4 * OPEN_S, MOST_OPEN_S, MOST_OPEN_S, MOST_OPEN_S]
    agent.now += MOST_OPEN_S
    agent.talk()
    agent.break_down()
    assert agent.changes[-1].open_s == OPEN_S


def test_trial_that_leaves_gives_way_to_the_next_call(agent):
    agent.break_down()
    agent.now += OPEN_S
    agent.breaker.on_left(agent.call(), agent.now)
    assert agent.call()
    assert agent.call() is None


def test_trial_of_which_nothing_is_heard_closes_but_one_failure_opens_again(agent):
    agent.break_down()
    agent.now += OPEN_S
    trial = agent.call(Stage.SESSION)
    agent.breaker.on_session(trial, agent.now)
    agent.now += TRIAL_S - 0.01
    assert agent.health is Health.HALF_OPEN
    agent.now += 0.01
    assert agent.health is Health.CLOSED
    agent.refuse()
    assert agent.changes[-1] == Change(Health.OPEN, "no", 2 * OPEN_S)


# What counts


def test_agent_that_does_not_answer_counts_while_the_attempts_go_on(agent):
    first = agent.call()
    agent.now += 0.5
    second = agent.call()
    agent.now += UNANSWERED_S - 0.01
    assert agent.health is Health.CLOSED
    agent.now += 0.01
    assert agent.health is Health.OPEN
    assert agent.changes[-1].reason == f"no answer within {UNANSWERED_S:g} s"
    # Their own ends count no more, and the time runs from when the second one was overdue.
    agent.now += 3
    for call_sid in (first, second):
        agent.fail(call_sid)
    assert agent.changed_to == [Health.OPEN]
    agent.now += OPEN_S - 3
    assert agent.call()
    assert agent.health is Health.HALF_OPEN


def test_answer_that_comes_too_late_does_not_close(agent):
    calls = [agent.call(), agent.call()]
    agent.now += UNANSWERED_S
    for call_sid in calls:
        agent.breaker.on_open(call_sid, agent.now)
    assert agent.health is Health.OPEN


def test_call_that_leaves_by_itself_does_not_count(agent):
    for _ in range(5):
        agent.breaker.on_left(agent.call(), agent.now)
    agent.now += UNANSWERED_S
    assert agent.health is Health.CLOSED


def test_call_that_leaves_an_agent_which_had_its_time_counts(agent):
    calls = [agent.call(), agent.call()]
    agent.now += UNANSWERED_S
    for call_sid in calls:
        agent.breaker.on_left(call_sid, agent.now)
    assert agent.health is Health.OPEN


def test_refusal_that_is_followed_by_another_request_counts_once(agent):
    first = agent.call(Stage.SESSION)
    for _ in range(3):
        agent.breaker.on_setback(first, "status 503", agent.now)
    agent.fail(first)
    assert agent.health is Health.CLOSED
    agent.breaker.on_setback(agent.call(Stage.SESSION), "status 503", agent.now)
    assert agent.changes == [Change(Health.OPEN, "status 503", OPEN_S)]


def test_session_after_a_refusal_is_a_success(agent):
    agent.refuse(Stage.SESSION)
    second = agent.call(Stage.SESSION)
    agent.breaker.on_setback(second, "status 503", agent.now)
    assert agent.health is Health.OPEN
    agent.breaker.on_session(second, agent.now)
    assert agent.health is Health.CLOSED


def test_session_says_nothing_of_a_socket_that_fails(agent):
    for _ in range(2):
        call_sid = agent.call(Stage.SESSION)
        agent.breaker.on_session(call_sid, agent.now)
        agent.breaker.begin(call_sid, Stage.SOCKET, agent.now)
        agent.fail(call_sid)
    assert agent.health is Health.OPEN
    agent.now += OPEN_S
    agent.breaker.on_session(agent.call(Stage.SESSION), agent.now)
    assert agent.health is Health.HALF_OPEN


def test_open_socket_says_nothing_of_talks_that_fail_until_one_lasts(agent):
    for _ in range(2):
        agent.fail(agent.talk(), "insufficient_quota", is_final=True)
    assert agent.changes == [Change(Health.OPEN, "insufficient_quota", OPEN_FINAL_S)]
    agent.now += OPEN_FINAL_S
    agent.fail(agent.talk(), "insufficient_quota", is_final=True)
    assert agent.changes[-1].open_s == 2 * OPEN_FINAL_S
    agent.now += 2 * OPEN_FINAL_S
    agent.talk()
    agent.now += PROVEN_S
    agent.fail(agent.talk(), "insufficient_quota", is_final=True)
    assert agent.health is Health.CLOSED


# Callers who have no other agent


def test_calls_without_another_agent_try_one_that_refuses(agent):
    agent.break_down()
    assert agent.call() is None
    for _ in range(20):
        agent.fail(agent.call(is_last_resort=True))
    assert agent.changed_to == [Health.OPEN]


def test_calls_without_another_agent_do_not_wait_for_one_that_hangs(agent):
    waiting = [agent.call() for _ in range(OVERDUE_CALLS)]
    assert agent.call(is_last_resort=True)
    agent.now += UNANSWERED_S
    assert agent.call(is_last_resort=True) is None
    agent.breaker.on_left(waiting[0], agent.now)
    agent.breaker.on_left(waiting[1], agent.now)
    assert agent.call(is_last_resort=True)


def test_last_resort_closes_the_breaker_where_the_agent_is_back(agent):
    agent.break_down()
    agent.breaker.on_open(agent.call(is_last_resort=True), agent.now)
    assert agent.health is Health.CLOSED


def test_calls_without_another_agent_wait_for_one_that_is_only_slow(agent):
    waiting = [agent.call() for _ in range(2 * OVERDUE_CALLS)]
    agent.now += UNANSWERED_S
    agent.breaker.on_open(waiting[0], agent.now)
    assert agent.health is Health.OPEN
    assert all(agent.call(is_last_resort=True) for _ in range(50))
    agent.now += ANSWERING_S
    assert agent.call(is_last_resort=True) is None


# A vendor that is down for a minute, two calls a second, with another agent behind it


@pytest.mark.parametrize(
    ("answer_s", "is_final", "most"),
    [(0.3, False, 4), (0.7, False, 5), (1.0, False, 5), (0.0, True, 3), (None, False, 7)],
)
def test_callers_who_meet_a_vendor_that_is_down(agent, answer_s, is_final, most):
    # None: it hangs, and each attempt takes the 4 s that a chain of two agents has for the first.
    began: dict[str, float] = {}
    met = 0
    start = agent.now
    for tick in range(600):
        agent.now = start + tick / 10
        for call_sid, at in list(began.items()):
            if agent.now - at >= (4.0 if answer_s is None else answer_s):
                del began[call_sid]
                agent.fail(call_sid, is_final=is_final)
        if tick % 5 == 0 and (call := agent.call()):
            began[call] = agent.now
            met += 1
    assert met == most
