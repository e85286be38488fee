"""A call whose caller lost the socket: the agent is kept for a grace, and a new stream goes on with it."""

import base64
from dataclasses import replace

import pytest
from call_script import AUDIO_1S_BYTES, AUDIO_20MS, LIMITS, Script, bridged

from _codec import HeldBudget
from bridge.agents.turns import HeardTurn
from bridge.call.ends import Why
from bridge.call.heard import Heard
from bridge.call.kept import Kept
from bridge.call.sides import SideCounts
from bridge.call.state import State

GRACE_S = LIMITS.grace_s
SECOND = 8000


def audio(number: int) -> bytes:
    return base64.b64encode(number.to_bytes(4, "big") * 40)


def test_agent_is_kept_for_the_grace_and_closed_after_it():
    script = bridged()
    script.run([(1, "caller_lost"), (1 + GRACE_S - 0.1, "tick")])
    assert script.sent_to("caller") == [("close", 1001)]
    assert script.sent_to("agent") == [("connect",)]
    script.tick(1 + GRACE_S)
    assert script.sent_to("agent")[-1] == ("close", 1000)
    assert script.call.why is Why.CALLER_LOST


def test_loss_that_is_reported_again_starts_the_grace_anew():
    script = bridged()
    script.run([(1, "caller_lost"), (4, "caller_lost"), (4 + GRACE_S - 0.1, "tick")])
    assert script.call.state is State.BRIDGED
    assert len(script.kept) == 1
    script.tick(4 + GRACE_S)
    assert script.call.why is Why.CALLER_LOST


def test_new_stream_gets_what_the_agent_said_meanwhile_in_order():
    script = bridged()
    script.run([(1, "agent_audio", audio(0)), (1, "caller_lost")])
    script.run([(2, "agent_audio", audio(n)) for n in range(1, 4)])
    script.call.on_agent_mark("x")
    script.run([(3, "caller_back"), (3, "agent_audio", audio(4)), (99, "caller_audio"), (99, "tick")])
    assert script.sent_to("caller") == [("audio", audio(0)), ("close", 1001)]
    assert script.sent_to("caller 2") == [
        *(("audio", audio(n)) for n in range(1, 4)),
        ("mark", "agent:x"),
        ("audio", audio(4)),
    ]
    assert script.call.state is State.BRIDGED


def test_both_directions_are_relayed_anew():
    script = bridged()
    script.run([(1, "agent_audio"), (1, "caller_lost")])
    assert script.agent.relays_to == [script.callers[0], script.kept[0]]
    script.caller_back(2)
    assert script.agent.relays_to[-1] is script.caller
    assert script.caller.relays_to == [script.agent]


def test_agent_learns_nothing_and_the_call_is_bridged_once():
    script = bridged()
    script.run([(1, "caller_lost"), (2, "caller_back"), (3, "caller_lost"), (4, "caller_back")])
    assert script.sent_to("agent") == [("connect",)]
    assert [entry[0] for entry in script.sent_to("observer")] == ["bridged", "kept", "kept"]


def test_new_stream_of_a_call_whose_socket_seems_open_replaces_it():
    script = bridged()
    script.caller_back(1)
    assert script.sent_to("caller") == [("close", 1001)]
    script.agent_audio(2)
    assert script.sent_to("caller 2") == [("audio", AUDIO_20MS)]


def test_counts_go_on():
    script = bridged()
    script.run([(1, "caller_relayed", 3), (1, "agent_audio"), (1, "agent_relayed", 4), (2, "caller_lost")])
    script.run(
        [
            (3, "agent_audio"),
            (3, "agent_relayed", 2),
            (4, "caller_back"),
            (5, "caller_relayed", 5),
            (5, "tick"),
        ]
    )
    assert (script.call.stats.frames_from_caller, script.call.stats.frames_from_agent) == (8, 8)


def test_interrupt_meanwhile_discards_what_is_held():
    script = bridged()
    script.run([(1, "agent_audio"), (2, "caller_lost"), (2, "interrupt")])
    assert script.sent_to("kept 1")[-1] == ("clear",)


def test_agent_that_connects_meanwhile_is_bridged():
    script = Script()
    script.run([(0, "start"), (1, "caller_lost"), (2, "agent_open"), (3, "caller_back"), (4, "caller_audio")])
    assert script.call.state is State.BRIDGED
    assert script.sent_to("agent")[-1] == ("audio", AUDIO_20MS)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (("agent_ended",), Why.AGENT_ENDED),
        (("hang_up",), Why.AGENT_HUNG_UP),
        (("transfer", "+14155550100"), Why.AGENT_TRANSFERRED),
        (("agent_lost",), Why.AGENT_LOST),
        (("end", Why.CALL_COMPLETED), Why.CALL_COMPLETED),
    ],
)
def test_end_meanwhile_waits_for_no_playout(event, why):
    script = bridged()
    script.run([(1, "agent_audio", AUDIO_20MS, 10 * AUDIO_1S_BYTES), (1, "caller_lost"), (2, *event)])
    assert script.call.state is State.CLOSED
    assert script.call.why is why
    assert not any(entry[0] == "Twilio asked" for entry in script.sent_to("observer"))


def test_duration_goes_on_and_the_silence_deadline_does_not():
    script = bridged(replace(LIMITS, caller_silent_s=3, duration_s=20))
    script.run([(2.9, "caller_lost"), (4, "tick"), (6, "caller_back"), (8.9, "tick")])
    assert script.call.state is State.BRIDGED
    script.run(
        [
            (10, "caller_audio"),
            (12.9, "tick"),
            (14, "caller_audio"),
            (16.9, "tick"),
            (17, "caller_lost"),
            (20, "tick"),
        ]
    )
    assert script.call.why is Why.TIME_LIMIT


def test_unplayed_audio_of_the_lost_stream_is_counted_by_the_estimate():
    script = bridged()
    script.run([(1, "agent_audio", AUDIO_20MS, 3 * AUDIO_1S_BYTES), (1, "tick"), (2, "caller_lost")])
    assert script.sent_to("observer")[-1] == ("kept", pytest.approx(2))


def test_before_a_start_and_while_last_words_play_nothing_is_kept():
    script = Script()
    script.caller_lost(1)
    assert script.call.state is State.CLOSED
    script = bridged()
    script.run([(1, "agent_ended"), (2, "caller_lost")])
    assert script.call.state is State.CLOSED
    assert script.kept == []


# What was heard


def test_heard_part_of_a_turn_counts_over_both_streams():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_mark(f"g0-{SECOND}", 1.0)
    assert heard.on_lost(3 * SECOND, 1.1) == 2 * SECOND
    heard.on_next_stream(4.0)
    heard.on_mark("g0-1600", 4.2)
    assert heard.on_clear(SECOND, 0, 4.2) == [HeardTurn("a", 1000 + 100 + 200, is_all=False)]


def test_turn_that_was_cut_is_never_heard_whole():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_lost(3 * SECOND, 0.1)
    assert heard.on_clear(0, 0, 2.0) == [HeardTurn("a", 100, is_all=False)]
    heard.on_next_stream(2.0)
    heard.on_turn("b", 0, 3.0)
    assert heard.on_clear(SECOND, 0, 3.1) == [HeardTurn("b", 100, is_all=False)]


def test_turns_that_were_lost_together_are_heard_up_to_their_own_shares():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_turn("b", SECOND, 0.0)
    heard.on_turn("c", 3 * SECOND, 0.0)
    heard.on_mark(f"g0-{SECOND // 2}", 0.5)
    # Two seconds were sent, and the end of the second turn and the third one are held.
    heard.on_lost(2 * SECOND, 0.5)
    heard.on_next_stream(2.0)
    heard.on_mark("g0-1600", 2.2)
    assert heard.on_clear(2 * SECOND, 0, 2.2) == [
        HeardTurn("a", 500, is_all=False),
        HeardTurn("b", 200, is_all=False),
        HeardTurn("c", 0, is_all=False),
    ]


def test_turn_that_begins_in_held_audio_begins_there():
    heard = Heard(0.0)
    # A second was sent and a second is held before the turn.
    heard.on_turn("a", 2 * SECOND, 0.0)
    heard.on_lost(SECOND, 0.1)
    heard.on_next_stream(2.0)
    heard.on_mark(f"g0-{SECOND + 1600}", 3.2)
    assert heard.on_clear(2 * SECOND, 0, 3.2) == [HeardTurn("a", 200, is_all=False)]


def test_marks_of_the_next_stream_begin_with_generation_0():
    heard = Heard(0.0)
    heard.on_turn("a", 0, 0.0)
    heard.on_clear(SECOND, 0, 0.5)
    heard.on_lost(SECOND, 1.0)
    heard.on_next_stream(2.0)
    heard.on_turn("b", 0, 2.0)
    heard.on_mark("g0-1600", 2.2)
    assert heard.on_clear(SECOND, 0, 2.2) == [HeardTurn("b", 200, is_all=False)]


def test_kept_audio_that_nobody_takes_is_counted():
    kept = Kept(1000, HeldBudget(1 << 20))
    for n in range(3):
        kept.send_audio(audio(n))
    kept.send_clear()
    kept.send_audio(audio(3))
    kept.close(1000)
    assert kept.counts() == SideCounts(sent_frames=0, dropped_frames=1, cleared_frames=3, overflowed_frames=0)
    assert kept.held_bytes == 0
