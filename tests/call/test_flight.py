"""The ring of a call's last events: what it holds, how much, and from where on."""

import tracemalloc

import pytest
from call_script import AUDIO_20MS, FlightScript

from bridge.agents.turns import HeardTurn
from bridge.call import flight
from bridge.call.ends import Why
from bridge.call.flight import MOST_CHARS, SEGMENT_BYTES, Event, Fault, Step, Tape, coded, row
from bridge.call.replay import events_of


def names(script: FlightScript) -> list[str]:
    return [event.name for event in events_of(script.flight())]


def test_defaults_at_the_end_of_a_row_are_left_out():
    assert row(Step("agent 1", "connect")) == ["agent 1", "connect"]
    assert row(Step("caller 1", "held_bytes", (), 0)) == ["caller 1", "held_bytes", (), 0]
    assert row(Event(1.0, "on_stop", [1.0], [], "closed")) == [1.0, "on_stop", [1.0], [], "closed"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (Why.FAULT, "fault"),
        ("x" * 600, "x" * MOST_CHARS),
        ("a\ud800", "a?"),
        ([HeardTurn("one", 20, True)], [["one", 20, True]]),
        (ValueError("secret"), "ValueError"),
        (Fault("ValueError"), "ValueError"),
        ({"a": (1, None)}, {"a": [1, None]}),
    ],
)
def test_values_are_those_that_json_has(value, found):
    assert coded(value) == found


def test_record_holds_events_with_commands_and_what_was_read_and_no_audio():
    script = FlightScript()
    script.run([(0.0, "start"), (0.5, "agent_open"), (0.6, "caller_audio"), (0.7, "agent_audio")])
    script.run([(1.0, "tick"), (1.5, "interrupt"), (2.0, "dtmf", "7"), (3.0, "stop")])
    flight = script.flight()
    assert names(script) == [
        "on_start",
        "on_agent_open",
        "on_first_audio",
        "on_interrupt",
        "on_dtmf",
        "on_stop",
    ]
    start, *_, interrupt, dtmf, stop = events_of(flight)
    assert [step[:3] for step in start.steps if step[1] != "tracks_heard"] == [
        ["chain", "next_side", [], "agent 1"][:3],
        ["caller 1", "relay_to", ["agent 1"]],
        ["agent 1", "connect"],
    ]
    assert (interrupt.at, interrupt.meters[:2], interrupt.state) == (1.5, [1, 1], "bridged")
    assert ["caller 1", "send_clear"] in interrupt.steps
    assert (dtmf.args, dtmf.steps) == ([""], [["agent 1", "send_dtmf", [""]]])
    assert stop.state == "closed"
    assert AUDIO_20MS.decode() not in str(flight)
    assert flight["agents"] == {"agent 1": "an agent"}


def test_event_within_a_command_lies_within_its_step():
    script = FlightScript()
    script.run([(0.0, "start"), (3.0, "stop")])
    stop = events_of(script.flight())[-1]
    [closed] = [Step(*step) for step in stop.steps if step[1] == "on_call_closed"]
    assert [event[1] for event in closed.events] == ["close_caller"]


def test_ring_is_bounded_and_goes_on_from_the_state_of_its_oldest_event():
    script = FlightScript()
    script.run([(0.0, "start"), (0.5, "agent_open")])
    script.run([(1.0 + n, "dtmf") for n in range(2000)])
    flight = script.flight()
    first, second = flight["segments"]
    assert flight["dropped_events"] == 2002 - len(first["events"]) - len(second["events"])
    assert first["checkpoint"]["state"] == "bridged"
    assert first["events"][0][0] == flight["dropped_events"] - 1.0
    full, growing = (segment.size_bytes for segment in script.call._tape._segments)
    assert SEGMENT_BYTES <= full < SEGMENT_BYTES + 200
    assert growing < SEGMENT_BYTES + 200


def test_full_ring_takes_less_than_its_text():
    script = FlightScript()
    tracemalloc.start()
    try:
        script.run([(0.0, "start"), (0.5, "agent_open"), *((1.0 + n, "dtmf") for n in range(2000))])
        found = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, flight.__file__)])
    finally:
        tracemalloc.stop()
    assert sum(trace.size for trace in found.traces) < SEGMENT_BYTES / 2
    assert sum(segment.size_bytes for segment in script.call._tape._segments) > SEGMENT_BYTES


def test_what_others_ask_of_a_side_between_two_events_is_not_noted():
    tape = Tape()
    script = FlightScript()
    assert tape.read(script.call._caller, "held_bytes", 5) == 5
    script.run([(0.0, "start")])
    script.call.count_relayed()
    script.call.is_mid_utterance()
    assert names(script) == ["on_start"]
