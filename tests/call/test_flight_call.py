"""A call that keeps its last events: it is the machine still, and reports once, when its record is whole."""

import sys
import tracemalloc

import pytest
from call_script import LIMITS, FlightScript, Script

from bridge.call.ends import ENDS, Why
from bridge.call.replay import events_of, replay
from bridge.call.state import PLAYED_MARK, State

START, OPEN = (0.0, "start"), (0.5, "agent_open")
PLAYED, ANSWERED = (2.0, "mark", PLAYED_MARK), (3.0, "twilio_answered")
# How each end comes about.
WAYS = {
    Why.AGENT_ENDED: [START, OPEN, (1.0, "agent_ended"), PLAYED],
    Why.AGENT_HUNG_UP: [START, OPEN, (1.0, "hang_up"), PLAYED, ANSWERED],
    Why.AGENT_TRANSFERRED: [START, OPEN, (1.0, "transfer", "+14155550100"), PLAYED, ANSWERED],
    Why.CALLER_STOPPED: [START, OPEN, (1.0, "stop")],
    Why.CALL_COMPLETED: [START, OPEN, (1.0, "end", Why.CALL_COMPLETED)],
    Why.CALLER_LOST: [START, OPEN, (1.0, "caller_lost"), (1.0 + LIMITS.grace_s, "tick")],
    Why.AGENT_LOST: [START, OPEN, (1.0, "agent_lost")],
    Why.NO_START: [(LIMITS.start_s, "tick")],
    Why.TIME_LIMIT: [
        *(START, OPEN, (LIMITS.duration_s - 1, "caller_audio"), (LIMITS.duration_s - 1, "tick")),
        *((LIMITS.duration_s, "tick"), (LIMITS.duration_s, "mark", PLAYED_MARK)),
    ],
    Why.SILENT_CALLER: [START, OPEN, (LIMITS.caller_silent_s, "tick")],
    Why.REFUSED: [(1.0, "end", Why.REFUSED, "token")],
    Why.CALLER_VIOLATION: [START, OPEN, (1.0, "caller_lost", Why.CALLER_VIOLATION)],
    Why.AGENT_VIOLATION: [START, OPEN, (1.0, "agent_lost", Why.AGENT_VIOLATION)],
    Why.DRAINED: [START, OPEN, (1.0, "end", Why.DRAINED)],
    Why.FAULT: [START, OPEN, (1.0, "end", Why.FAULT)],
}


@pytest.mark.parametrize("why", ENDS)
def test_call_ends_as_without_its_record_and_the_record_is_replayed(why):
    scripts = Script(), FlightScript()
    for script in scripts:
        script.run(WAYS[why])
        assert (script.call.state, script.call.why) == (State.CLOSED, why)
    plain, with_record = scripts
    assert [entry[:2] for entry in with_record.log] == [entry[:2] for entry in plain.log]
    [flight] = with_record.flights
    assert flight["why"] == why.value
    assert replay(flight) is None


def test_record_is_whole_when_it_is_handed_on_and_that_happens_once():
    script = FlightScript()
    script.run(WAYS[Why.AGENT_ENDED])
    script.call.close_caller()
    [flight] = script.flights
    assert [event.name for event in events_of(flight)][-1] == "on_mark"


def test_sides_get_one_another_and_not_what_stands_before_them():
    script = FlightScript()
    script.run([START, OPEN, (0.6, "agent_audio"), (1.0, "caller_lost"), (2.0, "caller_back")])
    first, second = script.callers
    assert script.agent.relays_to == [first, script.kept[0], second]
    assert (first.relays_to, second.relays_to) == ([script.agent], [script.agent])
    assert script.call.has(script.agent)
    assert not script.call.has(first)


def test_audio_and_its_marks_and_quiet_ticks_are_no_events():
    script = FlightScript()
    script.agent.tracks_heard = True
    script.run([START, OPEN, (0.6, "agent_audio")])
    before = len(events_of(script.flight()))
    for n in range(100):
        now = 1.0 + n / 10
        script.run([(now, "agent_audio"), (now, "caller_audio"), (now, "mark", "g0-100"), (now, "tick")])
    assert len(events_of(script.flight())) == before
    script.run([(20.0, "interrupt")])
    last = events_of(script.flight())[-1]
    # The frames; the last audio of the caller; the playout, with the last frame of the agent; what is heard.
    assert last.meters == [100, 101, 10.9, 0.02, 0, 10.9, 100, 10.9]


def bytes_of_a_call(make: type[Script]) -> float:
    """What a call holds once both sides are open."""
    scripts = []
    tracemalloc.start()
    try:
        for _ in range(100):
            scripts.append(make())
            scripts[-1].run([START, OPEN, (0.6, "agent_audio")])
            scripts[-1].log.clear()
        return tracemalloc.get_traced_memory()[0] / len(scripts)
    finally:
        tracemalloc.stop()


def test_record_of_a_call_costs_few_kilobytes():
    assert bytes_of_a_call(FlightScript) - bytes_of_a_call(Script) < 5000


def test_attributes_of_a_call_share_one_set_of_names():
    scripts = [FlightScript() for _ in range(10)]
    assert all(sys.getsizeof(vars(script.call)) < 500 for script in scripts)


def test_time_of_an_event_without_one_is_the_clocks():
    script = FlightScript()
    script.run([START, OPEN, (1.25, "dtmf")])
    assert events_of(script.flight())[-1].at == 1.25


def test_record_says_when_the_call_began():
    script = FlightScript()
    script.run([(0.0, "start"), (2.5, "dtmf")])
    # The Unix time of the moment is 1.0e9.
    assert script.flight()["opened"] == "2001-09-09T01:46:37.500Z"
