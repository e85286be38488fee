"""The turns of a call, by scripted speech on a clock of the test's own."""

from __future__ import annotations

import base64
from collections import Counter

import pytest

from _codec.speech_meter import SpeechMeter
from bridge.call.record import MOST_KEPT
from bridge.call.turns import BYTES_PER_S, MOST_STRETCHES, Side, Turn, Turns

FRAME_S = 0.02
FRAME_BYTES = 160
SILENCE, SPEECH = b"\xff", b"\x80"
NOBODY: Counter[Side] = Counter()
EVER = float("inf")


def make_turns(caller_began: float = 0.0) -> Turns:
    turns = Turns()
    turns.on_caller_audio(0, caller_began)
    return turns


def at(seconds: float) -> int:
    return round(seconds * BYTES_PER_S)


def caller(turns: Turns, began: float, ended: float) -> None:
    turns.on_speech(Side.CALLER, at(began), at(ended))


def agent(turns: Turns, position_s: float, length_s: float, now: float) -> None:
    """Speech of the agent, all of which arrives now."""
    turns.on_agent_audio(at(position_s), now)
    turns.on_speech(Side.AGENT, at(position_s), at(position_s + length_s))


def settled(turns: Turns) -> list[Turn]:
    turns.settle(EVER)
    return turns.last


def test_wait_is_from_the_end_of_speech_to_the_first_sound():
    turns = make_turns()
    caller(turns, 1, 2)
    agent(turns, 0, 3, now=2.5)
    assert settled(turns) == [
        Turn(1, 2, 2.5, 5.5, wait_s=0.5, caller_talk_s=1, agent_talk_s=3),
    ]
    assert turns.wait_s(0.5) == turns.wait_s(0.95) == turns.waits.longest_s == 0.5


def test_time_of_the_caller_counts_from_his_first_audio():
    turns = make_turns(caller_began=10.0)
    caller(turns, 1, 2)
    agent(turns, 0, 1, now=12.25)
    assert settled(turns)[0].wait_s == 0.25


@pytest.mark.parametrize("lead_s", [0.04, 0.1, 0.34])
def test_agent_that_answers_after_700_ms_of_audio_time_shows_700(lead_s: float):
    """Both meters run over real frames, and a part of the wait is leading silence of the agent's audio."""
    turns, ear, mouth = make_turns(), SpeechMeter(), SpeechMeter()
    for audio in (SILENCE * at(1), SPEECH * at(1.5), SILENCE * at(4)):
        for start in range(0, len(audio), FRAME_BYTES):
            ear.add(base64.b64encode(audio[start : start + FRAME_BYTES]))
    answer = SILENCE * at(lead_s) + SPEECH * at(2) + SILENCE * at(0.5)
    for start in range(0, len(answer), FRAME_BYTES):
        # Twice as fast as it plays: most frames wait behind others.
        turns.on_agent_audio(start, 3.2 - lead_s + start / BYTES_PER_S / 2)
        mouth.add(base64.b64encode(answer[start : start + FRAME_BYTES]))
    for segment in ear.take():
        turns.on_speech(Side.CALLER, *segment)
    for segment in mouth.take():
        turns.on_speech(Side.AGENT, *segment)
    (turn,) = settled(turns)
    assert turn.wait_s == pytest.approx(0.7, abs=0.02)


def test_audio_behind_a_queue_is_heard_when_its_turn_comes():
    turns = make_turns()
    caller(turns, 0, 1)
    turns.on_agent_audio(0, 1.5)
    turns.on_agent_audio(at(2), 1.6)
    turns.on_speech(Side.AGENT, at(2), at(3))
    assert settled(turns)[0].wait_s == 2.5


def test_agent_who_speaks_first_makes_no_wait():
    turns = make_turns()
    agent(turns, 0, 1, now=0.5)
    caller(turns, 2, 3)
    assert settled(turns) == [
        Turn(agent_began=0.5, agent_ended=1.5, agent_talk_s=1),
        Turn(caller_began=2, caller_ended=3, caller_talk_s=1),
    ]
    assert turns.wait_s(0.5) is None


def test_pauses_of_one_side_are_one_turn():
    turns = make_turns()
    caller(turns, 0, 1)
    caller(turns, 1.5, 2)
    agent(turns, 0, 1, now=3)
    agent(turns, 1, 1, now=5)
    assert settled(turns) == [Turn(0, 2, 3, 6, wait_s=1, caller_talk_s=1.5, agent_talk_s=2)]


def test_clear_cuts_what_is_unplayed_and_the_caller_has_interrupted():
    turns = make_turns()
    agent(turns, 0, 10, now=1)
    caller(turns, 3, 3.25)
    turns.on_clear(3.5)
    agent(turns, 10, 2, now=4)
    first, second = settled(turns)
    assert (first.agent_began, first.agent_ended, first.interrupts) == (1, 3.5, NOBODY)
    assert second == Turn(
        3, 3.25, 4, 6, wait_s=0.75, caller_talk_s=0.25, agent_talk_s=2, overlap_s=0.25,
        interrupts=Counter({Side.CALLER: 1}),
    )  # fmt: skip


def test_clear_cuts_speech_whose_end_the_meter_finds_later():
    turns = make_turns()
    turns.on_agent_audio(0, 1)
    turns.on_clear(3)
    turns.on_agent_audio(at(10), 4)
    turns.on_speech(Side.AGENT, 0, at(11))
    assert [(turn.agent_began, turn.agent_ended, turn.agent_talk_s) for turn in settled(turns)] == [(1, 5, 3)]


def test_speech_that_nobody_hears_before_the_clear_is_none():
    turns = make_turns()
    agent(turns, 0, 1, now=1)
    agent(turns, 3, 1, now=1)
    turns.on_clear(1.5)
    assert [(turn.agent_ended, turn.agent_talk_s) for turn in settled(turns)] == [(1.5, 0.5)]


def test_clear_of_nothing_cuts_nothing():
    turns = make_turns()
    turns.on_clear(0.5)
    agent(turns, 0, 1, now=1)
    turns.on_clear(5)
    caller(turns, 1.5, 1.75)
    (turn,) = settled(turns)
    assert (turn.agent_ended, turn.vain_interrupts[Side.CALLER]) == (2, 1)


def test_caller_over_an_agent_that_speaks_on_interrupts_in_vain():
    turns = make_turns()
    caller(turns, 0, 1)
    agent(turns, 0, 5, now=2)
    caller(turns, 3, 3.5)
    assert settled(turns) == [
        Turn(
            0, 1, 2, 7, wait_s=1, caller_talk_s=1.5, agent_talk_s=5, overlap_s=0.5,
            vain_interrupts=Counter({Side.CALLER: 1}),
        )
    ]  # fmt: skip


def test_agent_who_begins_before_the_caller_has_finished_makes_no_wait():
    turns = make_turns()
    caller(turns, 0, 2)
    agent(turns, 0, 3, now=1.5)
    (turn,) = settled(turns)
    assert (turn.wait_s, turn.overlap_s, turn.interrupts[Side.AGENT]) == (None, 0.5, 1)


def test_answer_after_a_vain_interrupt_of_the_agent_is_the_wait():
    turns = make_turns()
    caller(turns, 0, 3)
    agent(turns, 0, 0.5, now=1)
    agent(turns, 0.5, 2, now=3.75)
    (turn,) = settled(turns)
    assert (turn.wait_s, turn.vain_interrupts[Side.AGENT], turn.agent_talk_s) == (0.75, 1, 2.5)


def test_late_message_is_no_pause():
    turns = make_turns()
    turns.on_agent_audio(0, 1)
    turns.on_agent_audio(at(1), 2.2)
    turns.on_speech(Side.AGENT, 0, at(3))
    caller(turns, 1.8, 2.3)
    (turn,) = settled(turns)
    assert (turn.agent_ended, turn.vain_interrupts[Side.CALLER]) == (4.2, 1)


def test_speech_that_may_still_be_cut_waits():
    turns = make_turns()
    agent(turns, 0, 5, now=1)
    turns.settle(2)
    assert turns.last == []
    turns.on_clear(3)
    turns.settle(3)
    assert turns.last[0].agent_ended == 3


def test_oldest_turns_are_summed_up():
    turns = make_turns()
    for index in range(MOST_KEPT + 3):
        caller(turns, 10 * index, 10 * index + 1)
        agent(turns, 2 * index, 2, now=10 * index + 1.5)
        turns.settle(10 * index + 9)
    assert (turns.count, len(turns.last)) == (MOST_KEPT + 3, MOST_KEPT)
    assert (turns.sums.caller_talk_s, turns.sums.agent_talk_s) == (3, 6)
    assert turns.last[0].caller_began == 30
    assert turns.waits.count == MOST_KEPT + 3
    assert (turns.total().caller_talk_s, turns.total().agent_talk_s) == (MOST_KEPT + 3, 2 * MOST_KEPT + 6)


def test_share_of_the_waits_is_one_of_them():
    turns = make_turns()
    for index, wait_s in enumerate([0.5, 3, 0.25, 1]):
        caller(turns, 10 * index, 10 * index + 1)
        agent(turns, 2 * index, 2, now=10 * index + 1 + wait_s)
    turns.settle(EVER)
    assert [turns.wait_s(share) for share in (0.25, 0.5, 0.75, 0.95)] == [0.25, 0.5, 1, 3]


def test_gap_in_the_callers_media_moves_what_he_says_after_it():
    turns = make_turns()
    turns.on_caller_audio(at(2), 5)
    caller(turns, 1, 1.5)
    caller(turns, 3, 4)
    assert [(turn.caller_began, turn.caller_ended) for turn in settled(turns)] == [(1, 7)]
    assert [turns.time_of(Side.CALLER, at(position_s)) for position_s in (1, 2, 3)] == [1, 5, 6]


def test_better_knowledge_of_the_callers_time_replaces_the_first_one():
    turns = make_turns(caller_began=10.0)
    turns.on_caller_audio(0, 9.5)
    caller(turns, 1, 2)
    assert settled(turns)[0].caller_ended == 11.5


def test_corrections_displace_no_stretch():
    turns = make_turns()
    for _ in range(2 * MOST_STRETCHES):
        turns.on_caller_audio(at(2), 5)
    assert turns.time_of(Side.CALLER, at(1)) == 1


def test_answer_that_begins_as_the_caller_ends_interrupts_nobody():
    turns = make_turns()
    caller(turns, 1, 2)
    agent(turns, 0, 1, now=2.0)
    assert settled(turns) == [Turn(1, 2, 2, 3, wait_s=0.0, caller_talk_s=1, agent_talk_s=1)]


def test_second_clear_does_not_bring_back_what_the_first_has_cut():
    turns = make_turns()
    turns.on_agent_audio(0, 0.0)
    turns.on_clear(2.0)
    turns.on_clear(3.0)
    turns.on_speech(Side.AGENT, 0, at(5))
    assert settled(turns)[0].agent_ended == 2.0


def test_speech_right_after_a_cut_is_another_segment():
    turns = make_turns()
    agent(turns, 0, 5, now=0.0)
    caller(turns, 1.8, 2.0)
    turns.on_clear(2.0)
    agent(turns, 5, 1, now=2.2)
    assert [(turn.agent_began, turn.agent_ended) for turn in settled(turns)] == [(0.0, 2.0), (2.2, 3.2)]


def test_speech_before_the_oldest_stretch_is_placed_before_it():
    turns = make_turns()
    # Each second of audio is followed by a gap of one.
    for n in range(1, MOST_STRETCHES + 1):
        turns.on_caller_audio(at(n), 2.0 * n)
    caller(turns, 0, 0.5)
    assert [(turn.caller_began, turn.caller_ended) for turn in settled(turns)] == [(1.0, 1.5)]
