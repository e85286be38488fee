"""What a call keeps of what was said."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.succession import Memory, Said, Speaker
from bridge.call.conversation import MOST_CHARS, MOST_S, MOST_UTTERANCES, UTTERANCE_CHARS, Conversation

HELLO = Said(Speaker.AGENT, "Hello?")
QUESTION = Said(Speaker.CALLER, "When do you open?")
ANSWER = Said(Speaker.AGENT, "At nine.")
# The caller spoke, and the words may follow.
SPOKE = Said(Speaker.CALLER, "")


def conversation(*said: Said) -> Conversation:
    made = Conversation()
    for each in said:
        made.add(each, 0)
    return made


def test_caller_who_spoke_last_waits_for_an_answer():
    assert conversation().memory(0) == Memory((), False)
    assert conversation(HELLO, QUESTION).memory(0) == Memory((HELLO, QUESTION), True)
    assert conversation(HELLO, QUESTION, ANSWER).memory(0) == Memory((HELLO, QUESTION, ANSWER), False)
    assert conversation(HELLO, SPOKE).memory(0) == Memory((HELLO,), True)


def test_words_that_come_after_the_answer_are_told_before_it():
    assert conversation(HELLO, SPOKE, ANSWER, QUESTION).memory(0) == Memory((HELLO, QUESTION, ANSWER), False)


def test_words_that_never_come_do_not_take_the_place_of_later_ones():
    later = conversation(SPOKE, HELLO, SPOKE, ANSWER, QUESTION)
    assert later.memory(0) == Memory((HELLO, QUESTION, ANSWER), False)


def test_agent_that_is_cut_is_awaited_until_the_next_one_has_spoken():
    cut = conversation(QUESTION, ANSWER)
    assert cut.memory(0, is_cut=True).is_awaited
    assert not cut.memory(0).is_awaited
    cut.on_cut()
    assert cut.memory(0).is_awaited
    cut.add(ANSWER, 0)
    assert not cut.memory(0).is_awaited


def test_interrupted_utterance_is_told_as_far_as_it_was_heard():
    interrupted = conversation(HELLO, Said(Speaker.AGENT, "At nine, but on Sundays"), QUESTION)
    interrupted.correct("At nine, but...")
    assert interrupted.memory(0).said == (HELLO, Said(Speaker.AGENT, "At nine, but..."), QUESTION)
    interrupted.correct("")
    assert interrupted.memory(0).said == (HELLO, QUESTION)


def test_what_is_old_is_forgotten():
    kept = conversation(HELLO)
    kept.add(QUESTION, MOST_S)
    assert kept.memory(MOST_S).said == (HELLO, QUESTION)
    assert kept.memory(MOST_S + 1).said == (QUESTION,)
    assert kept.memory(3 * MOST_S) == Memory((), True)


def test_without_texts_only_the_last_speaker_is_known():
    kept = Conversation()
    kept.keeps_texts = False
    kept.add(HELLO, 0)
    kept.add(QUESTION, 0)
    assert kept.memory(0) == Memory((), True)
    kept.add(ANSWER, 0)
    assert kept.memory(0) == Memory((), False)


def test_another_process_goes_on_with_what_was_kept():
    kept = Conversation()
    kept.restore(Memory((HELLO, QUESTION, ANSWER), True), 0)
    assert kept.memory(0) == Memory((HELLO, QUESTION, ANSWER), True)


TEXTS = st.one_of(st.just(""), st.just("Yes."), st.integers(1, 3 * UTTERANCE_CHARS).map("x".__mul__))
STEPS = st.one_of(st.builds(Said, st.sampled_from(Speaker), TEXTS), TEXTS)


@given(st.lists(STEPS, max_size=200))
def test_bounds_hold_whatever_is_said_and_corrected(steps):
    kept = Conversation()
    for now, step in enumerate(steps):
        if isinstance(step, Said):
            kept.add(step, now)
        else:
            kept.correct(step)
        said = kept.memory(now).said
        assert len(said) <= MOST_UTTERANCES
        assert sum(len(each.text) for each in said) == kept._chars
        # A correction is at most as long as an utterance, and counts with the next one.
        assert kept._chars <= MOST_CHARS + UTTERANCE_CHARS
        assert all(each.text for each in said)
