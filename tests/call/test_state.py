"""The call's state machine, by scripts on a clock of their own. What each end does: the table `EXPECTED`."""

from dataclasses import replace
from typing import Any

import pytest
from call_script import AUDIO_1S_BYTES, AUDIO_20MS, LIMITS, RecordingAgent, RecordingChain, Script, bridged
from wire_on_pipe import Sides

from bridge.agents.succession import FailureKind
from bridge.agents.turns import HeardTurn
from bridge.call.ends import ENDS, Outcome, Why
from bridge.call.farewell import OVERTIME_S
from bridge.call.state import PLAYED_MARK, Call, State

TICK_S = 0.25
OTHER_20MS = b"/" * 216

# How each end comes about after a script's events, the codes that the caller's and the agent's leg get (None: that
# leg was never there), what is remembered, and whether the last words play first.
EXPECTED: dict[Why, tuple[list[tuple[Any, ...]], int, int | None, Outcome | None, bool]] = {
    Why.AGENT_ENDED: ([(1, "agent_ended")], 1000, 1000, Outcome.ENDED, True),
    Why.CALLER_STOPPED: ([(1, "stop")], 1000, 1000, Outcome.ENDED, False),
    Why.CALL_COMPLETED: ([(1, "end", Why.CALL_COMPLETED)], 1000, 1000, Outcome.ENDED, False),
    Why.AGENT_HUNG_UP: ([(1, "hang_up")], 1000, 1000, Outcome.ENDED, True),
    Why.AGENT_TRANSFERRED: ([(1, "transfer", "+14155550100")], 1000, 1000, Outcome.TRANSFERRED, True),
    Why.CALLER_LOST: (
        [(1, "caller_lost"), (1 + LIMITS.grace_s, "tick")],
        1001,
        1000,
        Outcome.CALLER_LOST,
        False,
    ),
    Why.AGENT_LOST: ([(1, "agent_lost")], 1011, 1011, Outcome.AGENT_LOST, False),
    Why.NO_START: ([(LIMITS.start_s, "tick")], 1008, None, None, False),
    Why.TIME_LIMIT: (
        [
            (LIMITS.duration_s - 1, "caller_audio"),
            (LIMITS.duration_s - 1, "tick"),
            (LIMITS.duration_s, "tick"),
        ],
        1000,
        1000,
        Outcome.ENDED,
        True,
    ),
    Why.SILENT_CALLER: ([(LIMITS.caller_silent_s, "tick")], 1000, 1000, Outcome.ENDED, False),
    Why.REFUSED: ([(1, "end", Why.REFUSED, "token")], 1008, None, None, False),
    Why.CALLER_VIOLATION: ([(1, "caller_lost", Why.CALLER_VIOLATION)], 1002, 1000, Outcome.ENDED, False),
    Why.AGENT_VIOLATION: ([(1, "agent_lost", Why.AGENT_VIOLATION)], 1011, 1002, Outcome.AGENT_LOST, False),
    Why.DRAINED: ([(1, "end", Why.DRAINED)], 1001, 1000, Outcome.HANDED_OVER, False),
    Why.FAULT: ([(1, "end", Why.FAULT)], 1011, 1011, Outcome.AGENT_LOST, False),
}
BEFORE_START = {Why.NO_START, Why.REFUSED}


def test_every_reason_has_a_row_and_a_test():
    assert set(ENDS) == set(Why) == set(EXPECTED)


@pytest.mark.parametrize("why", EXPECTED)
def test_end_closes_both_sides_with_the_codes_of_its_row(why: Why):
    events, caller_code, agent_code, record, plays = EXPECTED[why]
    script = Script() if why in BEFORE_START else bridged()
    script.run(events)
    assert script.call.why is why
    assert ENDS[why].outcome is record
    if plays:
        assert script.call.state is State.PLAYING_OUT
        script.mark(2, PLAYED_MARK)
    if ENDS[why].asks_twilio:
        assert script.call.state is State.PLAYING_OUT
        script.twilio_answered(3)
    assert script.call.state is State.CLOSED
    assert script.sent_to("caller")[-1] == ("close", caller_code)
    closes = [entry for entry in script.sent_to("agent") if entry[0] == "close"]
    assert closes == ([] if agent_code is None else [("close", agent_code)])
    assert script.log[-1] == ("observer", "closed")


# What the agent asks of Twilio


def test_twilio_is_asked_after_the_last_words_and_before_the_callers_leg_is_closed():
    script = bridged()
    script.run([(1, "agent_audio", AUDIO_20MS, AUDIO_1S_BYTES), (1, "transfer", "+14155550100")])
    assert script.log[-2:] == [("caller", "mark", PLAYED_MARK), ("agent", "close", 1000)]
    script.run([(1.9, "tick"), (2, "mark", PLAYED_MARK)])
    assert script.log[-1] == ("observer", "Twilio asked", "+14155550100")
    script.twilio_answered(2.2)
    assert script.log[-2:] == [("caller", "close", 1000), ("observer", "closed")]


def test_twilio_that_does_not_answer_is_asked_once_and_not_waited_for():
    script = bridged()
    script.run([(1, "hang_up"), (2, "mark", PLAYED_MARK), (2 + LIMITS.twilio_api_s, "tick")])
    assert script.sent_to("observer") == [("bridged",), ("Twilio asked", ""), ("closed",)]
    script.twilio_answered(20)
    assert script.log[-1] == ("observer", "closed")


def test_mark_that_comes_after_its_deadline_does_not_close_while_twilio_is_asked():
    script = bridged()
    script.run([(1, "transfer", "+14155550100"), (70, "tick"), (71, "mark", PLAYED_MARK)])
    assert script.log[-1] == ("observer", "Twilio asked", "+14155550100")


@pytest.mark.parametrize("event", [("stop",), ("caller_lost",)])
def test_caller_who_leaves_meanwhile_ends_the_call(event):
    script = bridged()
    script.run([(1, "hang_up"), (2, "mark", PLAYED_MARK), (3, *event)])
    assert script.call.state is State.CLOSED
    assert script.call.why is Why.AGENT_HUNG_UP


def test_agent_that_is_not_open_transfers_nothing():
    script = Script()
    script.run([(0, "start"), (1, "transfer", "+14155550100")])
    assert script.call.state is State.CONNECTING


# One agent after the other


def with_spare() -> Script:
    script = Script()
    script.spares = [RecordingAgent(script.log, "spare")]
    script.start(0)
    return script


def test_unavailable_agent_is_replaced_and_its_audio_taken_over():
    script = with_spare()
    script.run([(1, "caller_audio"), (2, "agent_lost", Why.AGENT_LOST, "refused"), (2, "caller_audio")])
    assert script.log == [
        ("agent", "connect"),
        ("agent", "audio", AUDIO_20MS),
        ("spare", "take over", script.agent),
        ("observer", "agent replaced", script.agent, script.spares[0], "refused"),
        ("spare", "connect"),
        ("spare", "audio", AUDIO_20MS),
    ]
    script.run([(3, "agent_open"), (4, "stop")])
    assert script.log[-4:] == [
        ("observer", "bridged"),
        ("spare", "close", 1000),
        ("caller", "close", 1000),
        ("observer", "closed"),
    ]
    assert script.chain.reports == ["lost: lost refused", "open", "over"]


def test_spare_is_relayed_though_the_first_said_something():
    script = with_spare()
    script.run([(1, "agent_audio"), (2, "agent_lost"), (3, "agent_open"), (4, "agent_audio")])
    assert script.agent.relays_to == [script.caller]
    assert script.spares[0].relays_to == [script.caller]
    assert script.caller.relays_to == [script.agent, script.spares[0]]


def test_audio_that_waits_for_an_agent_is_counted_once_when_it_is_replaced():
    script = with_spare()
    script.run([(1, "caller_relayed", 7), (2, "agent_lost"), (3, "caller_relayed", 2), (3, "agent_open")])
    script.call.count_relayed()
    assert script.call.stats.frames_from_caller == 9


def test_chain_without_an_agent_ends_the_call_as_agent_lost():
    script = Script()
    script.call.on_start(RecordingChain([]), 0)
    assert script.call.why is Why.AGENT_LOST
    assert script.sent_to("caller") == [("close", 1011)]


def test_unavailable_last_agent_ends_the_call():
    script = with_spare()
    script.run([(1, "agent_lost"), (2, "agent_lost")])
    assert script.call.why is Why.AGENT_LOST


def test_agent_that_was_open_is_replaced_on_the_same_stream():
    script = with_spare()
    script.run([(1, "agent_open"), (2, "agent_audio"), (3, "caller_audio")])
    before = len(script.log)
    script.run([(4, "agent_lost", Why.AGENT_LOST, "reset", FailureKind.SERVER), (4, "caller_audio")])
    assert script.chain.asked == [(FailureKind.SERVER, True)]
    assert script.chain.reports == ["open", "lost: server reset"]
    assert script.log[before:] == [
        ("spare", "take over", script.agent),
        ("observer", "agent replaced", script.agent, script.spares[0], "reset"),
        ("spare", "connect"),
        ("spare", "audio", AUDIO_20MS),
    ]
    script.run([(6, "agent_open"), (6, "agent_audio")])
    assert script.call.state is State.BRIDGED
    assert script.call.stats.agent_connect_s == 2
    assert script.caller.relays_to == [script.agent, script.spares[0]]
    assert script.spares[0].relays_to == [script.caller]


def test_one_that_takes_over_may_fail_too_until_the_chain_is_empty():
    script = with_spare()
    script.run([(1, "agent_open"), (2, "agent_audio", AUDIO_20MS, 10 * AUDIO_1S_BYTES)])
    script.run([(2, "agent_lost"), (3, "agent_lost")])
    assert script.chain.asked == [(FailureKind.LOST, True), (FailureKind.LOST, False)]
    # What the caller has been sent still plays.
    assert script.call.state is State.PLAYING_OUT
    assert script.call.why is Why.AGENT_LOST
    script.run([(4, "mark", PLAYED_MARK)])
    assert script.sent_to("caller")[-1] == ("close", 1011)


def test_marks_of_a_lost_agent_are_not_answered_to_the_next():
    script = with_spare()
    script.agent_open(1)
    script.call.on_agent_mark("x")
    script.run([(2, "agent_lost"), (3, "agent_open")])
    script.call.on_agent_mark("x")
    of_the_first, of_the_next = (name for command, name in script.sent_to("caller") if command == "mark")
    script.mark(4, of_the_first)
    assert ("played", "x") not in script.sent_to("spare")
    script.mark(4, of_the_next)
    assert ("played", "x") in script.sent_to("spare")


@pytest.mark.parametrize("first_is_tracked", [False, True])
def test_audio_of_a_lost_agent_is_not_heard_audio_of_the_next_ones_turn(first_is_tracked):
    script = Script()
    script.spares = [RecordingAgent(script.log, "spare")]
    script.agent.tracks_heard = first_is_tracked
    script.spares[0].tracks_heard = True
    script.run([(0, "start"), (0, "agent_open"), (0, "turn", "the first's")])
    script.caller.sent_bytes = 10 * AUDIO_1S_BYTES
    script.run([(1, "mark", "g0-8000"), (1, "agent_lost"), (2, "agent_open"), (2, "interrupt")])
    script.run([(2, "turn", "its own"), (2, "interrupt")])
    assert script.heard == [[], []]
    assert script.sent_to("caller").count(("mark audio",)) == 1


@pytest.mark.parametrize("step", ["take_over", "connect"])
def test_fault_of_the_side_that_takes_over_ends_the_call(step, monkeypatch):
    script = with_spare()
    script.agent_open(1)

    def fail(*arguments: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(script.spares[0], step, fail)
    with pytest.raises(RuntimeError):
        script.agent_lost(2)
    assert script.call.why is Why.FAULT
    assert script.sent_to("caller")[-1] == ("close", 1011)


@pytest.mark.parametrize(
    ("is_speaking", "audio_s", "is_awaited"),
    [(True, 0, True), (False, 10, False), (None, 10, True), (None, 0, False)],
)
def test_caller_awaits_an_answer_if_the_agent_is_lost_in_the_middle_of_an_utterance(
    is_speaking, audio_s, is_awaited
):
    script = with_spare()
    script.agent.is_speaking = is_speaking
    script.run([(1, "agent_open"), (2, "agent_audio", AUDIO_20MS, audio_s * AUDIO_1S_BYTES)])
    assert script.call.memory(2).is_awaited == bool(is_speaking)
    script.tick(2)
    assert script.call.memory(2).is_awaited == is_awaited
    script.agent_lost(2)
    assert script.call.memory(9).is_awaited == is_awaited


def test_only_the_present_agent_is_the_calls():
    script = with_spare()
    script.run([(1, "agent_open"), (2, "agent_lost")])
    assert not script.call.has(script.agent)
    assert script.call.has(script.spares[0])


# Keys, marks and what was heard


def test_keys_go_to_the_agent_from_the_start_and_are_counted():
    script = Script()
    script.run([(0, "start"), (1, "dtmf", "1"), (2, "agent_open"), (3, "dtmf", "#"), (4, "agent_ended")])
    script.dtmf(5, "2")
    assert script.sent_to("agent") == [("connect",), ("dtmf", "1"), ("dtmf", "#"), ("close", 1000)]
    assert script.call.stats.dtmf == 3


@pytest.mark.parametrize("why", [Why.AGENT_LOST, Why.AGENT_VIOLATION])
def test_audio_of_a_lost_agent_plays_before_the_caller_is_closed(why):
    script = bridged()
    script.run([(1, "agent_audio", AUDIO_20MS, AUDIO_1S_BYTES), (1, "agent_lost", why)])
    assert script.log[-2:] == [("caller", "mark", PLAYED_MARK), ("agent", "close", ENDS[why].agent_code)]
    script.mark(2, PLAYED_MARK)
    assert script.log[-2:] == [("caller", "close", 1011), ("observer", "closed")]


def test_lost_agent_whose_audio_has_played_closes_at_once():
    script = bridged()
    script.run([(1, "agent_audio", AUDIO_20MS, AUDIO_1S_BYTES), (1.5, "tick"), (3, "agent_lost")])
    assert script.call.state is State.CLOSED


def test_audio_that_is_held_while_twilio_does_not_read_has_not_played():
    script = bridged()
    script.run([(1, "agent_audio", AUDIO_20MS, 10 * AUDIO_1S_BYTES)])
    script.caller.held_bytes = 9 * AUDIO_1S_BYTES
    script.run([(1.5, "tick"), (20, "tick"), (20, "agent_lost")])
    assert script.call.state is State.PLAYING_OUT
    assert script.caller.unplayed_s == pytest.approx(9)


def test_caller_side_learns_how_much_is_unplayed():
    script = bridged()
    script.run([(1, "agent_audio", AUDIO_20MS, 10 * AUDIO_1S_BYTES), (1.25, "tick")])
    assert script.caller.unplayed_s == pytest.approx(10)
    script.tick(5.25)
    assert script.caller.unplayed_s == pytest.approx(6)


def test_marks_of_the_agent_come_back_to_it():
    script = bridged()
    script.call.on_agent_mark("its own")
    script.call.on_agent_mark(PLAYED_MARK)
    assert script.sent_to("caller") == [("mark", "agent:its own"), ("mark", f"agent:{PLAYED_MARK}")]
    script.mark(1, "agent:its own")
    script.mark(1, f"agent:{PLAYED_MARK}")
    script.mark(1, "nobody's")
    assert script.sent_to("agent")[-2:] == [("played", "its own"), ("played", PLAYED_MARK)]


def test_interrupt_reports_the_heard_part_of_the_turn():
    script = Script()
    script.agent.tracks_heard = True
    script.run([(0, "start"), (0, "agent_open")])
    assert ("caller", "mark audio") in script.log
    script.caller.sent_bytes, script.caller.held_bytes = 3000, 1000
    script.turn(1, "a")
    script.caller.sent_bytes, script.caller.held_bytes = 20_000, 0
    script.run([(2, "mark", "g0-4800"), (2.05, "interrupt"), (2.1, "mark", "g0-20000"), (2.2, "interrupt")])
    assert script.heard == [[HeardTurn("a", (4800 + 400 - 4000) // 8, is_all=False)], []]
    assert ("agent", "played", "g0-4800") not in script.log


def test_agent_that_does_not_ask_receives_no_heard_part():
    script = bridged()
    script.run([(1, "agent_audio"), (1, "interrupt")])
    assert script.heard == [[]]
    assert ("caller", "mark audio") not in script.log


# Opening


def test_states_of_a_call():
    script = Script()
    states = [script.call.state]
    for event in ((0, "start"), (1, "agent_open"), (2, "agent_ended"), (3, "mark", PLAYED_MARK)):
        script.run([event])
        states.append(script.call.state)
    assert states == list(State)


def test_agent_is_not_connected_before_start():
    script = Script()
    script.run([(0, "caller_audio"), (1, "agent_open"), (2, "tick"), (9.9, "tick")])
    assert script.log == []
    script.start(9.95)
    assert script.log == [("agent", "connect")]


def test_second_start_changes_nothing():
    script = bridged()
    before = list(script.log)
    script.start(5)
    assert script.log == before
    assert script.call.started_at == 0


def test_start_after_the_end_opens_nothing():
    script = Script()
    script.run([(10, "tick"), (11, "start"), (12, "agent_open")])
    assert script.sent_to("agent") == []
    assert script.call.why is Why.NO_START


def test_start_lifts_the_start_deadline():
    script = Script()
    script.run([(9, "start"), (10.5, "tick"), (20, "tick")])
    assert script.call.state is State.CONNECTING


def test_bridged_is_reported_once_with_the_time_it_took():
    script = Script()
    script.run([(2, "start"), (2.5, "agent_open"), (3, "agent_open")])
    assert script.sent_to("observer") == [("bridged",)]
    assert script.call.stats.agent_connect_s == 0.5


def test_agent_that_opens_after_the_end_is_not_bridged():
    script = Script()
    script.run([(0, "start"), (1, "stop"), (1.1, "agent_open")])
    assert script.call.state is State.CLOSED
    assert script.sent_to("observer") == [("closed",)]


# Audio


def test_caller_audio_before_the_agent_is_open_goes_to_its_side_which_holds_it():
    script = Script()
    script.run(
        [(0, "start"), (0.02, "caller_audio"), (0.04, "caller_audio", OTHER_20MS), (0.5, "agent_open")]
    )
    assert script.sent_to("agent") == [("connect",), ("audio", AUDIO_20MS), ("audio", OTHER_20MS)]


def test_agent_audio_before_start_goes_to_the_callers_side_which_holds_it():
    script = Script()
    script.run([(0, "agent_audio"), (1, "start"), (1.5, "agent_audio", OTHER_20MS)])
    assert script.sent_to("caller") == [("audio", AUDIO_20MS), ("audio", OTHER_20MS)]
    assert script.call.stats.frames_from_agent == 2
    assert script.call.stats.first_agent_audio_s == 0.5


def test_agent_audio_is_relayed_as_it_comes():
    script = bridged()
    payloads = [b"AAAA", AUDIO_20MS, b"", OTHER_20MS]
    script.run([(1, "agent_audio", payload, 3) for payload in payloads])
    assert script.sent_to("caller") == [("audio", payload) for payload in payloads]


def test_clock_is_read_for_the_first_agent_frame_only():
    call = bridged().call
    reads = []
    for now in (1.0, 2.0, 3.0):
        call.on_agent_audio(AUDIO_20MS, 160, lambda now=now: reads.append(now) or now)
    assert reads == [1.0]


def test_dtmf_is_counted():
    script = bridged()
    script.run([(1, "dtmf"), (2, "dtmf")])
    assert script.call.stats.dtmf == 2
    assert script.call.state is State.BRIDGED


# Audio that goes past the call


def test_caller_audio_goes_past_the_call_once_the_agent_is_open_and_agent_audio_after_its_first_frame():
    script = bridged()
    assert (script.caller.relays_to, script.agent.relays_to) == ([script.agent], [])
    script.run([(1, "agent_audio"), (2, "agent_audio")])
    assert (script.caller.relays_to, script.agent.relays_to) == ([script.agent], [script.caller])


def test_audio_that_went_past_the_call_is_counted_once():
    script = bridged()
    script.run([(1, "caller_relayed", 50), (1, "agent_relayed", 30), (1, "tick"), (1, "caller_relayed", 2)])
    script.run([(1.1, "tick"), (1.2, "agent_relayed", 3), (1.2, "stop")])
    assert (script.call.stats.frames_from_caller, script.call.stats.frames_from_agent) == (52, 33)


def test_audio_that_went_past_the_call_counts_for_the_deadlines():
    script = bridged()
    script.run([(59, "caller_relayed"), (59, "tick"), (60, "agent_relayed", 500), (60, "agent_ended")])
    assert script.call._playout.unplayed_s == pytest.approx(10)
    script.run([(60 + 10 + LIMITS.playout_margin_s - 0.1, "tick")])
    assert script.call.state is State.PLAYING_OUT


def test_callers_audio_is_counted_and_dropped_once_the_agent_takes_no_more():
    script = bridged()
    script.run([(1, "agent_relayed", 500), (1, "caller_relayed", 5), (1, "agent_ended")])
    script.call.drop_caller_audio()
    assert script.caller.relays_to[-1] is None
    script.run([(1.1, "caller_audio"), (1.2, "stop")])
    assert script.call.stats.frames_from_caller == 6
    assert ("audio", AUDIO_20MS) not in script.sent_to("agent")


def test_interrupt_forgets_audio_that_went_past_the_call_before_it():
    script = bridged()
    script.run([(1, "agent_relayed", 500), (1, "interrupt"), (1.1, "agent_relayed", 50), (1.1, "tick")])
    assert script.call._playout.unplayed_s == pytest.approx(1)
    assert script.call.stats.frames_from_agent == 550


# Interrupts


def test_interrupt_sends_clear_at_once_and_keeps_caller_audio():
    script = bridged()
    script.run([(1, "agent_audio"), (1.01, "caller_audio"), (1.02, "interrupt"), (1.03, "caller_audio")])
    assert script.sent_to("caller") == [("audio", AUDIO_20MS), ("clear",)]
    assert script.sent_to("agent") == [("connect",), ("audio", AUDIO_20MS), ("audio", AUDIO_20MS)]
    assert script.call.stats.interrupts == 1


def test_interrupt_resets_the_playout():
    script = bridged()
    script.run([(0, "agent_audio", AUDIO_20MS, 30 * AUDIO_1S_BYTES), (TICK_S, "tick")])
    assert script.call._playout.unplayed_s == pytest.approx(30)
    script.run([(0.5, "agent_audio", AUDIO_20MS, AUDIO_1S_BYTES), (0.6, "interrupt"), (0.7, "agent_ended")])
    assert script.call._playout.unplayed_s == 0
    script.tick(0.7 + LIMITS.playout_margin_s)
    assert script.call.state is State.CLOSED


def test_interrupt_before_any_audio_and_often_sends_each_clear():
    script = bridged()
    script.run([(1, "interrupt")] * 100)
    assert script.sent_to("caller") == [("clear",)] * 100


# Last words


def test_agents_end_sends_a_mark_after_the_audio_and_closes_the_agent():
    script = bridged()
    script.run([(1, "agent_audio"), (1, "agent_ended")])
    assert script.sent_to("caller") == [("audio", AUDIO_20MS), ("mark", PLAYED_MARK)]
    assert script.sent_to("agent")[-1] == ("close", 1000)
    assert ("observer", "closed") not in script.log


def test_echo_of_the_mark_closes_the_caller():
    script = bridged()
    script.run([(1, "agent_ended"), (1.2, "mark", "another"), (1.3, "mark", PLAYED_MARK)])
    assert script.sent_to("caller") == [("mark", PLAYED_MARK), ("close", 1000)]


def test_mark_before_the_agents_end_closes_nothing():
    script = bridged()
    script.run([(1, "mark", PLAYED_MARK), (1, "mark", "")])
    assert script.call.state is State.BRIDGED


@pytest.mark.parametrize(
    ("sent_s", "ended_at", "due_s"),
    [
        (0, 10, 0),
        (4, 1, 3),
        (4, 10, 0),
        (50, 1, 49),
        (500, 1, LIMITS.playout_max_s - LIMITS.playout_margin_s),
    ],
)
def test_without_an_echo_the_last_words_have_their_length_and_a_margin(sent_s, ended_at, due_s):
    script = bridged(replace(LIMITS, caller_silent_s=3600))
    script.agent_audio(0, AUDIO_20MS, sent_s * AUDIO_1S_BYTES)
    script.run([(n * TICK_S, "tick") for n in range(1, int(ended_at / TICK_S))])
    script.agent_ended(ended_at)
    deadline = ended_at + due_s + LIMITS.playout_margin_s
    script.tick(deadline - 0.01)
    assert script.call.state is State.PLAYING_OUT
    script.tick(deadline + TICK_S)
    assert script.call.state is State.CLOSED
    assert script.call.why is Why.AGENT_ENDED


def test_agent_audio_after_the_agents_end_is_dropped():
    script = bridged()
    script.run([(1, "agent_ended"), (1.1, "agent_audio"), (1.2, "mark", PLAYED_MARK), (1.3, "agent_audio")])
    assert ("audio", AUDIO_20MS) not in script.sent_to("caller")
    assert script.call.stats.frames_from_agent == 0


def test_caller_audio_after_the_agents_end_is_counted_but_not_sent():
    script = bridged()
    script.run([(1, "agent_ended"), (1.1, "caller_audio")])
    assert script.sent_to("agent") == [("connect",), ("close", 1000)]
    assert script.call.stats.frames_from_caller == 1


def test_second_end_of_the_agent_sends_no_second_mark():
    script = bridged()
    script.run([(1, "agent_ended"), (2, "agent_ended"), (3, "end", Why.AGENT_ENDED)])
    assert script.sent_to("caller") == [("mark", PLAYED_MARK)]
    assert script.call.state is State.PLAYING_OUT


def test_agent_lost_after_its_end_does_not_cut_the_last_words():
    script = bridged()
    script.run([(1, "agent_ended"), (1.1, "agent_lost"), (1.2, "agent_lost", Why.AGENT_VIOLATION)])
    assert script.call.state is State.PLAYING_OUT
    assert script.chain.reports == ["open"]


@pytest.mark.parametrize(
    "event",
    [
        (2, "stop"),
        (2, "caller_lost"),
        (2, "caller_lost", Why.CALLER_VIOLATION),
        (2, "end", Why.CALL_COMPLETED),
        (2, "end", Why.DRAINED),
    ],
)
def test_another_end_cuts_the_last_words_and_the_first_reason_stands(event):
    script = bridged()
    script.run([(1, "agent_ended"), event])
    assert script.call.state is State.CLOSED
    assert script.call.why is Why.AGENT_ENDED
    assert script.sent_to("caller")[-1] == ("close", 1000)


def test_agent_that_ends_before_its_socket_is_open_ends_the_call():
    script = Script()
    script.run([(0, "start"), (1, "agent_ended"), (1.1, "mark", PLAYED_MARK)])
    assert script.call.state is State.CLOSED


# Ends


@pytest.mark.parametrize("why", Why)
def test_second_end_changes_nothing(why: Why):
    script = bridged()
    script.stop(1)
    before = list(script.log)
    script.run(
        [(2, "end", why, "later"), (3, "stop"), (4, "caller_lost"), (5, "agent_lost"), (99999, "tick")]
    )
    assert script.log == before
    assert (script.call.why, script.call.detail) == (Why.CALLER_STOPPED, "")


def test_detail_of_the_end_is_kept():
    script = bridged()
    script.agent_lost(1, Why.AGENT_LOST, "close 1011")
    assert script.call.detail == "close 1011"


def test_agent_lost_while_it_connects_ends_the_call():
    script = Script()
    script.run([(0, "start"), (5, "agent_lost")])
    assert script.sent_to("caller") == [("close", 1011)]


def test_duration_counts_from_start():
    script = Script(replace(LIMITS, duration_s=30))
    script.run([(5, "start"), (5, "agent_open"), (34.9, "tick")])
    assert script.call.state is State.BRIDGED
    script.tick(35)
    assert script.call.why is Why.TIME_LIMIT


@pytest.mark.parametrize(("stops_at", "ends_at"), [(33, 33), (99, 30 + OVERTIME_S)])
def test_utterance_at_the_limit_is_said_to_its_end_within_a_bound(stops_at, ends_at):
    script = bridged(replace(LIMITS, duration_s=30))
    script.agent.is_speaking = True
    for second in range(30, 60):
        script.agent.is_speaking = second < stops_at
        script.tick(second)
        assert (script.call.why is Why.TIME_LIMIT) == (second >= ends_at)


def test_callers_audio_keeps_the_silence_deadline_away():
    script = bridged()
    for second in range(200):
        script.run([(second, "caller_audio"), (second + 0.5, "tick")])
    assert script.call.state is State.BRIDGED
    script.tick(199.5 + LIMITS.caller_silent_s - 0.1)
    assert script.call.state is State.BRIDGED
    script.tick(199.5 + LIMITS.caller_silent_s)
    assert script.call.why is Why.SILENT_CALLER


def test_agents_audio_does_not_count_as_the_callers():
    script = bridged()
    script.run([(59, "agent_audio"), (60, "tick")])
    assert script.call.why is Why.SILENT_CALLER


def test_call_without_a_side_ends_quietly():
    call = Call(LIMITS, _NoObserver(), 0)
    call.on_agent_audio(AUDIO_20MS, 160, lambda: 0.0)
    call.on_interrupt(0)
    call.on_agent_ended(1)
    assert call.state is State.CLOSED


class _NoObserver:
    def on_call_bridged(self, call: Call) -> None: ...
    def on_agent_replaced(self, call: Call, detail: str) -> None: ...
    def on_caller_kept(self, call: Call, kept: object, lost_s: float, detail: str) -> None: ...
    def on_twilio_asked(self, call: Call) -> None: ...
    def on_fault(self, call: Call, fault: Exception) -> None:
        raise fault

    def on_call_closed(self, call: Call) -> None:
        call.close_caller()


def test_each_step_is_taken_though_one_before_it_fails():
    script = bridged()
    taken: list[int] = []
    script.call._observer.on_fault = lambda call, fault: taken.append(-1)
    assert not script.call.run_each(lambda: taken.append(1), lambda: 1 // 0, lambda: taken.append(2))
    assert taken == [1, -1, 2]
    assert script.call.run_each(lambda: taken.append(3))


@pytest.mark.parametrize(
    "event", [(3.0, "tick"), (3.0, "agent_lost"), (3.0, "caller_lost"), (3.0, "hang_up")]
)
def test_call_is_settled_until_something_happens(event):
    script = bridged()
    # The caller must be heard, and an agent's first audio is what relays it.
    script.run([(1.0, "agent_audio"), (1.0, "caller_audio")])
    sides = Sides()
    sides.agent.settled_until = 1.0
    script.call.settle(60.0, sides.caller, sides.agent)
    sides.send(sides.caller, 1)
    assert script.call.is_settled(2.0)
    script.run([event])
    sides.send(sides.caller, 1)
    assert not script.call.is_settled(3.5)


def test_call_is_not_settled_before_both_sides_relay():
    script = bridged()
    sides = Sides()
    sides.agent.settled_until = 1.0
    script.call.settle(60.0, sides.caller, sides.agent)
    sides.send(sides.caller, 1)
    assert not script.call.is_settled(2.0)
