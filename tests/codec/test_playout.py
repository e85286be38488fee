"""The playout by looks, held equal to the playout by ticks."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from wire_on_pipe import FRAME_BYTES, Sides

from _codec import CallAudio, Playout

START = 1000.0


def settled(sides: Sides, playout: Playout, until: float = START + 1e6) -> Playout:
    sides.agent.settled_until = START
    playout.settle(until, CallAudio(), sides.caller, sides.agent)
    return playout


@pytest.mark.parametrize("seed", range(60))
def test_looks_count_what_ticks_count(seed):
    rng = random.Random(seed)
    sides = Sides(is_ready=rng.random() < 0.7)
    looked, ticked = settled(sides, Playout(START)), Playout(START)
    now = START
    seen_bytes = 0
    for _ in range(40):
        now += rng.choice((0.02, 0.5, 3.0))
        sides.send(sides.agent, rng.choice((0, 1, 25, 300)))
        event = rng.choice(("none", "none", "counts", "counts", "tick", "clear", "checkpoint", "other"))
        if event == "counts":
            looked.add_relayed(sides.relayed_bytes())
        elif event == "tick":
            looked.add_relayed(sides.relayed_bytes())
            looked.advance(sides.caller.held_bytes, now)
        elif event == "other":
            # A frame that the wire leaves to the call.
            looked.add(FRAME_BYTES)
            ticked.add(FRAME_BYTES)
        elif event == "checkpoint":
            state = looked.state()
            looked = settled(sides, Playout(0.0))
            looked.restore(*state)
            # As after each checkpoint, the event counts.
            looked.add_relayed(sides.relayed_bytes())
        elif event == "clear":
            looked.add_relayed(sides.relayed_bytes())
            sides.caller.clear_audio(None)
            looked.restart()
        if event == "clear":
            ticked.restart()
        else:
            ticked.add(sides.agent.audio_in_bytes - seen_bytes)
        seen_bytes = sides.agent.audio_in_bytes
        sides.send(sides.caller, 1)
        if event != "tick":
            assert looked.look(now)
        ticked.advance(sides.caller.held_bytes, now)
        assert looked.unplayed_s == pytest.approx(ticked.unplayed_s)


def silent_caller(sides: Sides) -> None:
    """Nothing comes of the caller."""


def other_agent(sides: Sides) -> None:
    sides.send(sides.caller, 1)
    sides.agent.join(None)


def other_caller(sides: Sides) -> None:
    sides.send(sides.caller, 1)
    sides.caller.join(None)


def closed(sides: Sides) -> None:
    sides.send(sides.caller, 1)
    sides.agent.send_close(1000)


def text_of_the_agent(sides: Sides) -> None:
    sides.send(sides.caller, 1)
    # Set by its leg.
    sides.agent.settled_until = 0


@pytest.mark.parametrize("trouble", [silent_caller, other_agent, other_caller, closed, text_of_the_agent])
def test_call_in_which_something_may_be_due_wants_a_tick(trouble):
    sides = Sides()
    playout = settled(sides, Playout(START))
    sides.send(sides.caller, 1)
    assert playout.look(START + 0.5)
    sides.send(sides.agent, 50)
    trouble(sides)
    before = playout.state()
    assert not playout.look(START + 1.0)
    # The tick counts all of it.
    assert playout.state() == before


def test_looks_end_at_their_time_and_when_told():
    sides = Sides()
    playout = Playout(START)
    sides.send(sides.caller, 1)
    assert not playout.look(START)
    settled(sides, playout, until=START + 1.0)
    sides.send(sides.caller, 1)
    assert not playout.look(START + 1.0)
    assert playout.look(START + 0.9)
    playout.unsettle()
    sides.send(sides.caller, 1)
    assert not playout.look(START + 0.9)


def test_speech_to_be_taken_wants_a_tick():
    sides, audio = Sides(), CallAudio()
    playout = Playout(START)
    playout.settle(START + 60, audio, sides.caller, sides.agent)
    sides.agent.settled_until = START
    sides.send(sides.caller, 1)
    audio.add_agent(base64.b64encode(b"\x10" * 8000), START)
    assert not playout.look(START + 0.5)
    audio.poll(START + 0.5)
    assert playout.look(START + 0.5)
    # The agent's speech ends with its audio, whoever asks.
    sides.send(sides.caller, 1)
    assert not playout.look(START + 10)


@pytest.mark.parametrize("wrong", [(None, 1, 2), (0, None, 2), (0, 1, None), (0, 1, object())])
def test_settle_takes_no_other_objects(wrong):
    sides = Sides()
    given: list[Any] = [CallAudio(), sides.caller, sides.agent]
    with pytest.raises(TypeError):
        Playout(START).settle(1.0, *(given[each] if isinstance(each, int) else each for each in wrong))
