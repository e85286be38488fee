"""Utterances out of fragments that do not tell where one ends."""

from __future__ import annotations

import pytest

from bridge.agents.succession import Said, Speaker
from bridge.agents.utterances import MOST_CHARS, PAUSE_MS, Utterances

AGENT, CALLER = Speaker.AGENT, Speaker.CALLER


@pytest.fixture
def utterances() -> Utterances:
    return Utterances()


def test_sentence_ends_an_utterance(utterances):
    assert utterances.add(AGENT, "We open", 0, 300) == []
    assert utterances.add(AGENT, " at nine. ", 300, 600) == [Said(AGENT, "We open at nine.")]
    assert utterances.add(AGENT, "Shall I", 700, 900) == []
    assert utterances.end() == [Said(AGENT, "Shall I")]
    assert utterances.end() == []


def test_caller_is_known_to_speak_before_the_words_are_there(utterances):
    assert utterances.add(CALLER, "When do", 0, 300) == [Said(CALLER, "")]
    assert utterances.add(CALLER, " you open?", 300, 600) == [Said(CALLER, "When do you open?")]


def test_pause_ends_an_utterance(utterances):
    utterances.add(AGENT, "Well", 0, 300)
    assert utterances.add(AGENT, " then", 299 + PAUSE_MS, 1500) == []
    assert utterances.add(AGENT, "Yes", 1500 + PAUSE_MS, 3000) == [Said(AGENT, "Well then")]


def test_other_speaker_ends_an_utterance(utterances):
    utterances.add(AGENT, "At nine, or", 0, 900)
    assert utterances.add(CALLER, "Nine", 900, 1000) == [Said(AGENT, "At nine, or"), Said(CALLER, "")]
    assert utterances.add(AGENT, "Good", 1000, 1100) == [Said(CALLER, "Nine")]


def test_speakers_who_talk_at_once_both_go_on(utterances):
    utterances.add(AGENT, "At nine,", 0, 900)
    assert utterances.add(CALLER, "Hm", 400, 600) == [Said(CALLER, "")]
    assert utterances.add(AGENT, " or at ten.", 900, 1400) == [
        Said(CALLER, "Hm"),
        Said(AGENT, "At nine, or at ten."),
    ]


def test_long_utterance_is_given_out_in_pieces(utterances):
    words = "word " * (MOST_CHARS // 5)
    assert utterances.add(AGENT, words, 0, 10) == [Said(AGENT, words.strip())]


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_fragment_without_words_begins_nothing(utterances, text):
    assert utterances.add(CALLER, text, 0, 0) == []
    assert utterances.end() == []
