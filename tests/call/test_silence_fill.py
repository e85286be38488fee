"""Silence in place of a caller's audio that pauses, and the speed of late audio, on a clock of the test's own."""

from __future__ import annotations

import random
from base64 import b64decode
from collections import deque
from itertools import pairwise
from typing import NamedTuple

import pytest

from bridge.call.silence_fill import (
    BYTES_PER_S,
    FRAME_BYTES,
    FRAME_S,
    LOOK_S,
    MOST_AHEAD_BYTES,
    MOST_SPEED,
    SILENCE,
    SilenceFill,
)

PAUSE_S = 0.1


class Sent(NamedTuple):
    at: float
    # The number of the caller's frame; None for silence.
    number: int | None


class Agent:
    """
    An agent's leg as the wire is: audio is held from `MOST_AHEAD_BYTES` on, in order.

    ``late`` gives how late each look comes.
    """

    def __init__(self, late=lambda: 0.0) -> None:
        self.sent: list[Sent] = []
        self.is_blocked = False
        self._late = late
        self._fill = SilenceFill(round(1000 * PAUSE_S), 0.0)
        self._next_at = 0.0
        self._held: deque[int] = deque()
        self._ahead_bytes = 0

    def hear(self, number: int, at: float) -> None:
        """A frame of the caller."""
        self.run(at)
        self._held.append(number)
        self._flush(at)

    def run(self, until: float) -> None:
        """Look until then."""
        while self._next_at <= until:
            now = self._next_at
            look = self._fill.look(
                now, FRAME_BYTES * len(self.sent), FRAME_BYTES * len(self._held), is_blocked=self.is_blocked
            )
            self._ahead_bytes = look.ahead_bytes
            self._flush(now)
            if look.is_silence_due:
                self._send(Sent(now, None))
            assert look.next_at > now
            self._next_at = look.next_at + self._late()

    def _flush(self, now: float) -> None:
        while self._held and self._ahead_bytes < MOST_AHEAD_BYTES and not self.is_blocked:
            self._send(Sent(now, self._held.popleft()))

    def _send(self, sent: Sent) -> None:
        self.sent.append(sent)
        self._ahead_bytes += FRAME_BYTES

    @property
    def silence(self) -> list[float]:
        return [sent.at for sent in self.sent if sent.number is None]

    @property
    def words(self) -> list[int]:
        return [sent.number for sent in self.sent if sent.number is not None]

    @property
    def longest_gap_s(self) -> float:
        return max(later.at - earlier.at for earlier, later in pairwise(self.sent))


def speak(agent: Agent, first: int, count: int, start: float) -> float:
    """Frames in real time; returns when the next one would come."""
    for n in range(count):
        agent.hear(first + n, start + n * FRAME_S)
    return start + count * FRAME_S


def is_within_speed(agent: Agent) -> bool:
    """Whether at no time more went out than twice real time, and what may go at once before and after a look."""
    at_once = 2 * MOST_AHEAD_BYTES + FRAME_BYTES
    for n, first in enumerate(agent.sent):
        for m in range(n, min(n + 300, len(agent.sent))):
            if (m - n + 1) * FRAME_BYTES > MOST_SPEED * BYTES_PER_S * (
                agent.sent[m].at - first.at
            ) + at_once + 1:
                return False
    return True


def test_one_frame_of_silence_is_20_ms():
    assert b64decode(SILENCE) == b"\xff" * 160


def test_audio_that_flows_goes_at_once_and_gets_no_silence():
    agent = Agent()
    speak(agent, 0, 500, 0.003)
    assert agent.silence == []
    assert [sent.at for sent in agent.sent] == pytest.approx([0.003 + n * FRAME_S for n in range(500)])


@pytest.mark.parametrize("jitter_s", [0.03, 0.055])
def test_pause_that_is_shorter_gets_no_silence(jitter_s):
    agent = Agent()
    start = 0.0
    for n in range(50):
        agent.hear(n, start)
        start += jitter_s
    assert agent.silence == []


@pytest.mark.parametrize("phase_ms", range(0, 40, 3))
def test_pause_of_two_seconds_leaves_no_gap(phase_ms):
    agent = Agent()
    end = speak(agent, 0, 25, phase_ms / 1000)
    speak(agent, 25, 25, end + 2.0)
    assert agent.words == list(range(50))
    assert agent.longest_gap_s <= PAUSE_S + 0.001
    # In real time: what is missing is the time until the pause is noticed.
    assert 2.0 - PAUSE_S - FRAME_S <= len(agent.silence) * FRAME_S <= 2.0
    assert agent.silence[0] - (end - FRAME_S) >= PAUSE_S - LOOK_S - 0.011


def test_silence_begins_anew_after_each_pause():
    agent = Agent()
    end = 0.0
    for n in range(5):
        end = speak(agent, 10 * n, 10, end + 0.5)
    agent.run(end + 1.0)
    assert agent.words == list(range(50))
    assert agent.longest_gap_s <= PAUSE_S + 0.001


def test_late_audio_is_all_there_in_order_at_most_at_twice_real_time():
    agent = Agent()
    end = speak(agent, 0, 10, 0.0)
    agent.run(end + 2.0)
    # All that the pause held back, at once, and then live audio behind it.
    for n in range(10, 110):
        agent.hear(n, end + 2.0)
    speak(agent, 110, 200, end + 2.0)
    agent.run(end + 10.0)
    assert agent.words == list(range(310))
    assert is_within_speed(agent)
    late = [sent.at for sent in agent.sent if sent.number in (10, 109)]
    assert late[1] - late[0] >= 100 * FRAME_S / MOST_SPEED - 2 * LOOK_S
    # It has caught up: the last frame goes as it comes.
    assert agent.sent[-1].number is None
    assert next(s.at for s in agent.sent if s.number == 309) == pytest.approx(end + 2.0 + 199 * FRAME_S)


def test_no_silence_goes_between_late_audio():
    agent = Agent()
    agent.run(1.0)
    before = len(agent.sent)
    for n in range(200):
        agent.hear(n, 1.0)
    agent.run(1.0 + 200 * FRAME_S / MOST_SPEED - 2 * LOOK_S)
    assert None not in {sent.number for sent in agent.sent[before:]}


def test_agent_that_does_not_read_gets_no_silence():
    agent = Agent()
    agent.is_blocked = True
    agent.run(3.0)
    assert agent.sent == []
    agent.is_blocked = False
    agent.run(3.1)
    assert agent.silence


@pytest.mark.parametrize("seed", range(10))
def test_process_that_stands_still_now_and_then_makes_up_for_nothing(seed):
    rng = random.Random(seed)
    agent = Agent(late=lambda: rng.choice((0.0, 0.0, 0.002, 0.015, 0.05, 0.4)))
    number, at = 0, 0.0
    for _ in range(60):
        for _ in range(rng.choice((1, 1, 1, 40))):
            agent.hear(number, at)
            number += 1
        at += rng.choice((0.02, 0.02, 0.04, 0.5))
    agent.run(at + 60.0)
    assert agent.words == list(range(number))
    assert is_within_speed(agent)
    # The last audio is long over: silence in real time, or less.
    for earlier, later in pairwise(agent.silence):
        assert later > earlier
    assert len(agent.silence) * FRAME_S <= at + 60.0
