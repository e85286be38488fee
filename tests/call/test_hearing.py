"""What is heard in a call becomes turns, waits and gaps: by audio on a clock of the test's own."""

from __future__ import annotations

import base64
from dataclasses import astuple

import pytest
from call_script import RecordingAgent, Script, bridged
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.call.ends import Why
from bridge.call.hearing import MOST_WAITED_S, Hearing
from bridge.call.turns import Side

FRAME_S, FRAME_BYTES = 0.02, 160
SILENCE, LOUD = b"\xff", b"\x80"
# Words have pauses between them, which keep the meter's floor low.
WORD = LOUD * 1600 + SILENCE * 400


def silence(length_s: float) -> bytes:
    return SILENCE * round(length_s * 8000)


def speech(length_s: float) -> bytes:
    """Words, the last one up to the end."""
    size = round(length_s * 8000)
    return (WORD * (size // len(WORD) + 1))[: size - 400] + LOUD * 400


class Line:
    """A caller who sends a frame every 20 ms. While ``looks`` is set, the call is looked at every half a second."""

    def __init__(self, hearing: Hearing, now: float = 100.0) -> None:
        self.hearing = hearing
        self.began = self.now = now
        self._polled_at = now
        self.looks = True

    def say(self, length_s: float) -> None:
        self._send(speech(length_s))

    def listen(self, length_s: float) -> None:
        self._send(silence(length_s))

    def _send(self, audio: bytes) -> None:
        for start in range(0, len(audio), FRAME_BYTES):
            self.pass_time(FRAME_S)
            self.hearing.audio.add_caller(base64.b64encode(audio[start : start + FRAME_BYTES]), self.now)

    def pass_time(self, length_s: float) -> None:
        self.now += length_s
        if self.looks and self.now - self._polled_at >= 0.5:
            self._polled_at = self.now
            self.hearing.poll(self.now)

    def answer(self, length_s: float, lead_s: float = 0.0) -> None:
        """The agent's audio comes all at once."""
        self.hearing.audio.add_agent(base64.b64encode(silence(lead_s) + speech(length_s)), self.now)

    def trickle(self, length_s: float) -> None:
        """The agent speaks as fast as it is heard, each frame 1 ms late, while the caller listens."""
        audio = speech(length_s)
        for start in range(0, len(audio), FRAME_BYTES):
            self.pass_time(FRAME_S + 0.001)
            self.hearing.audio.add_agent(base64.b64encode(audio[start : start + FRAME_BYTES]), self.now)
            self.hearing.audio.add_caller(base64.b64encode(SILENCE * FRAME_BYTES), self.now)

    def spans(self) -> list[tuple[float | None, ...]]:
        return [
            tuple(
                round(at - self.began, 1) if at is not None else None
                for at in (turn.caller_began, turn.caller_ended, turn.agent_began, turn.agent_ended)
            )
            for turn in self.hearing.turns.last
        ]


def test_call_becomes_turns_with_their_waits():
    hearing, waits = Hearing(), []
    hearing.on_wait = waits.append
    line = Line(hearing)
    line.listen(1)
    line.say(1)
    line.listen(0.6)
    line.answer(2, lead_s=0.1)
    line.listen(3)
    assert waits == [pytest.approx(0.7, abs=0.02)]
    line.say(0.5)
    line.listen(1.2)
    line.answer(1)
    line.listen(2)
    assert line.spans() == [(1, 2, 2.7, 4.7), (5.6, 6.1, 7.3, 8.3)]
    assert waits == [pytest.approx(0.7, abs=0.02), pytest.approx(1.2, abs=0.02)]
    assert hearing.turns.waits.count == 2


def test_agent_is_interrupted_by_a_caller_who_is_cleared_for():
    hearing = Hearing()
    line = Line(hearing)
    line.listen(1)
    line.answer(9)
    line.listen(2)
    line.say(0.4)
    hearing.audio.cut(line.now)
    line.say(0.6)
    line.listen(0.5)
    line.answer(1)
    line.listen(2)
    assert line.spans() == [(None, None, 1, 3.4), (3, 4, 4.5, 5.5)]
    total = hearing.turns.total()
    assert (total.interrupts[Side.CALLER], total.vain_interrupts[Side.CALLER]) == (1, 0)


def test_turns_of_a_call_that_ends_in_mid_word_are_whole():
    hearing = Hearing()
    line = Line(hearing)
    line.listen(1)
    line.say(1)
    line.listen(0.5)
    line.answer(9)
    line.listen(1)
    line.say(0.5)
    hearing.end(line.now)
    assert line.spans() == [(1, 2, 2.5, 4), (3.5, 4, None, None)]
    assert hearing.turns.last[1].overlap_s == pytest.approx(0.5, abs=0.03)


def test_each_wait_of_one_look_is_reported():
    hearing = Hearing()
    waits: list[float] = []
    hearing.on_wait = waits.append
    line = Line(hearing)
    line.looks = False
    for wait_s in (0.5, 1.0):
        line.say(1)
        line.listen(wait_s)
        line.answer(1)
        line.listen(2)
    hearing.poll(line.now)
    assert waits == pytest.approx([0.5, 1.0], abs=0.03)


def test_agents_words_wait_for_the_callers_that_are_late():
    line = Line(Hearing())
    line.listen(1)
    line.answer(0.2)
    # The caller's audio of this time may still come.
    line.pass_time(0.6)
    assert line.hearing.turns.count == 0
    line.pass_time(0.6)
    assert line.hearing.turns.count == 1


def test_agents_words_within_the_callers_wait_for_their_end():
    line = Line(Hearing())
    line.listen(1)
    line.say(1)
    line.answer(0.2)
    line.say(2)
    assert line.hearing.turns.count == 0
    line.listen(1)
    assert line.spans() == [(1.0, 4.0, None, None)]


def test_time_of_the_callers_audio_is_corrected_after_a_look():
    hearing = Hearing()
    line = Line(hearing)
    hearing.audio.add_caller(base64.b64encode(SILENCE * FRAME_BYTES), line.now)
    hearing.poll(line.now)
    # What was held up: the first frame was spoken a second ago.
    for _ in range(50):
        hearing.audio.add_caller(base64.b64encode(SILENCE * FRAME_BYTES), line.now)
    line.say(1)
    line.listen(1)
    assert line.spans() == [(0.0, 1.0, None, None)]


def test_gaps_of_both_sides_are_counted():
    hearing = Hearing()
    line = Line(hearing)
    line.listen(1)
    line.answer(1)
    line.listen(1.4)
    line.answer(1)
    line.listen(1)
    line.pass_time(2.5)
    line.listen(1)
    found = {
        side: [(round(at - line.began, 1), round(length_s, 1)) for at, length_s in gaps.last]
        for side, gaps in hearing.gaps.items()
    }
    assert found == {Side.CALLER: [(3.4, 2.5)], Side.AGENT: [(2, 0.4)]}


def test_wait_after_a_gap_in_the_callers_media_is_right():
    hearing = Hearing()
    line = Line(hearing)
    line.listen(1)
    line.pass_time(3)
    line.listen(1)
    line.say(1)
    line.listen(0.8)
    line.answer(1)
    line.listen(2)
    assert hearing.turns.wait_s(0.5) == pytest.approx(0.8, abs=0.02)


def test_what_the_caller_says_is_settled_though_the_agent_never_stops():
    hearing = Hearing()
    line = Line(hearing)
    line.listen(1)
    line.say(1)
    line.listen(0.5)
    line.answer(2 * MOST_WAITED_S)
    line.listen(1)
    line.say(0.5)
    line.listen(MOST_WAITED_S + 5)
    assert hearing.turns.total().caller_talk_s == pytest.approx(1.5, abs=0.05)


class Plodding(Hearing):
    """Takes the long way at every look, and forgets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.turns.forget = lambda side, position: None  # type: ignore[method-assign]

    def poll(self, now: float) -> None:
        self._take(now)
        self._settle(self._known_until(now))


STEPS = st.lists(
    st.tuples(st.sampled_from(("say", "listen", "answer", "pass_time", "cut")), st.integers(1, 60)),
    max_size=30,
)


@given(STEPS)
# The time of the first stretch is corrected before the gap that ends it.
@example([("say", 4), ("pass_time", 1), ("say", 3), ("pass_time", 1), ("listen", 7)])
def test_look_without_news_changes_nothing(steps: list[tuple[str, int]]):
    lines = [Line(Hearing()), Line(Plodding())]
    for what, tenths in steps:
        for line in lines:
            if what == "cut":
                line.hearing.audio.cut(line.now)
            else:
                getattr(line, what)(tenths / 10)
        quick, plodding = (figures(line.hearing) for line in lines)
        assert quick == pytest.approx(plodding, abs=1e-6)


def figures(hearing: Hearing) -> list[float | None]:
    """All that is known of a call."""
    found: list[float | None] = [
        *(figure for gaps in hearing.gaps.values() for pair in gaps.last for figure in pair)
    ]
    for turn in (*hearing.turns.last, hearing.turns.total()):
        found += astuple(turn)[:-2]
        found += [counts[side] for counts in (turn.interrupts, turn.vain_interrupts) for side in Side]
    return found


# In a call


def hear(script: Script, now: float) -> None:
    """The caller speaks for a second until ``now``, and the agent answers after half a second."""
    script.call.audio.add_caller(base64.b64encode(silence(0.5) + speech(1) + silence(0.5)), now + 0.5)
    script.call.audio.add_agent(base64.b64encode(speech(1)), now + 0.5)
    script.call.audio.add_caller(base64.b64encode(silence(1.5)), now + 2)


def test_tick_takes_what_is_heard():
    script = bridged()
    hear(script, 10.0)
    script.tick(12.0)
    assert script.call.hearing.turns.wait_s(0.5) == pytest.approx(0.5, abs=0.02)


def test_end_of_a_call_cuts_what_is_unplayed():
    script = bridged()
    hear(script, 10.0)
    script.end(10.75, Why.CALLER_STOPPED)
    [turn] = script.call.hearing.turns.last
    assert (turn.agent_began, turn.agent_ended) == (10.5, 10.75)


def test_turns_go_on_with_the_next_agent_and_the_next_socket():
    script = Script()
    script.spares.append(RecordingAgent(script.log, "spare"))
    script.run([(0, "start"), (0, "agent_open")])
    hear(script, 10.0)
    script.run([(12, "agent_lost"), (12, "agent_open"), (12.5, "caller_lost"), (13, "caller_back")])
    hear(script, 20.0)
    script.tick(22.0)
    turns = script.call.hearing.turns
    assert [round(wait_s, 1) for _, wait_s in turns.waits.last] == [0.5, 0.5]
