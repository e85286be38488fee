"""The health of the agents in use: what counts as a failure, the metric, and the lines in the log."""

from __future__ import annotations

import pytest

from bridge.agents.agent_breaker import OPEN_S, PROVEN_S, Stage
from bridge.agents.health import AgentHealth
from bridge.agents.succession import FailureKind
from bridge.metrics import Metrics


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(metrics, clock) -> AgentHealth:
    health = AgentHealth(metrics, clock)
    health.use(["a", "b"])
    return health


def fail(health: AgentHealth, *kinds: FailureKind, talk_s: float = 0.0) -> None:
    """One call after the other that the agent a fails; all of them try it."""
    for n, kind in enumerate(kinds):
        health.begin("a", f"CA{n}", Stage.SOCKET)
        if talk_s:
            health.on_open("a", f"CA{n}")
        health.on_failure("a", f"CA{n}", "canary", kind, talk_s)


def is_passed_over(health: AgentHealth) -> bool:
    return not health.admits("a", "CA-next")


def value(metrics: Metrics, sample: str) -> float | None:
    lines = dict(line.rsplit(" ", 1) for line in metrics.text().decode().splitlines())
    return float(lines[sample]) if sample in lines else None


@pytest.mark.parametrize("kind", [kind for kind in FailureKind if kind is not FailureKind.SESSION_LIMIT])
def test_agent_that_does_not_open_is_passed_over_for_any_reason(health, kind):
    fail(health, kind, kind)
    assert is_passed_over(health)
    assert health.admits("b", "CA-next")


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        (FailureKind.QUOTA, True),
        (FailureKind.CREDENTIALS, True),
        (FailureKind.REFUSED, True),
        (FailureKind.SERVER, True),
        (FailureKind.LOST, False),
        (FailureKind.SESSION_LIMIT, False),
    ],
)
def test_end_of_a_talk_that_has_lasted_counts_if_it_repeats_itself(health, kind, counts):
    fail(health, kind, kind, talk_s=PROVEN_S)
    assert is_passed_over(health) == counts


def test_loss_right_after_the_first_words_counts(health):
    fail(health, FailureKind.LOST, FailureKind.LOST, talk_s=PROVEN_S - 0.01)
    assert is_passed_over(health)


def test_each_change_is_one_line_and_the_metric_follows(health, metrics, clock, logs):
    available = 'bridge_agent_available{agent="a"}'
    assert value(metrics, available) == 1
    fail(health, FailureKind.SERVER, FailureKind.SERVER)
    assert value(metrics, available) == 0
    assert value(metrics, 'bridge_agent_available{agent="b"}') == 1
    assert is_passed_over(health)
    health.on_passed_over(["a"])
    assert value(metrics, 'bridge_agents_passed_over_total{agent="a",why="failing"}') == 1
    clock.now += OPEN_S
    assert health.admits("a", "CA-trial")
    assert value(metrics, available) == 0
    health.begin("a", "CA-trial", Stage.SOCKET)
    health.on_open("a", "CA-trial")
    assert value(metrics, available) == 1
    opened, half_open, closed = logs.lines
    assert opened.startswith("WARNING")
    assert f"reason='canary' for_s={OPEN_S}" in opened
    assert "tries the failing agent again" in half_open
    assert "agent works" in closed
    assert all("agent='a'" in line for line in logs.lines)


def test_metric_shows_an_agent_that_hangs_although_no_further_call_comes(health, metrics, clock):
    for call_sid in ("CA1", "CA2"):
        health.begin("a", call_sid, Stage.SESSION)
    clock.now = 2.0
    assert value(metrics, 'bridge_agent_available{agent="a"}') == 0


def test_reload_keeps_the_state_of_agents_that_stay(health, metrics):
    fail(health, FailureKind.SERVER, FailureKind.SERVER)
    health.use(["a", "c"])
    assert is_passed_over(health)
    assert value(metrics, 'bridge_agent_available{agent="c"}') == 1
    assert value(metrics, 'bridge_agent_available{agent="b"}') is None


def test_agent_that_a_reload_has_removed_may_end_its_calls(health):
    health.use(["b"])
    fail(health, FailureKind.SERVER, FailureKind.SERVER)
    health.on_session("a", "CA1")
    health.on_setback("a", "CA1", "status 503")
    health.on_left("a", "CA1")
    assert not is_passed_over(health)
