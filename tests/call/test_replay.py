"""A record that is replayed gives the same commands, whatever the order of its events; another one is told apart."""

import contextlib
import copy
from typing import Any

import pytest
from call_script import LIMITS, FlightScript, RecordingAgent, RecordingCaller
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.call import flight as flight_module
from bridge.call.ends import Why
from bridge.call.replay import BadFlightError, Difference, events_of, replay
from bridge.call.state import PLAYED_MARK, State

NAMES = st.sampled_from(["", "one", "two"])
EVENTS = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                "start",
                "caller_audio",
                "caller_relayed",
                "agent_relayed",
                "dtmf",
                "stop",
                "caller_lost",
                "caller_back",
                "agent_open",
                "agent_audio",
                "interrupt",
                "agent_ended",
                "agent_lost",
                "hang_up",
                "twilio_answered",
                "tick",
                "drop_audio",
                "fail_next",
                "open_within_next",
            ]
        )
    ),
    st.tuples(st.just("turn"), NAMES),
    st.tuples(st.just("agent_mark"), NAMES),
    st.tuples(
        st.just("mark"), st.sampled_from([PLAYED_MARK, "", "agent:one", "agent-1:two", "g0-900", "g1-9"])
    ),
    st.tuples(st.just("transfer"), st.just("+14155550100")),
    st.tuples(st.just("end"), st.sampled_from(Why)),
    st.tuples(st.just("hold"), st.integers(0, 9000), st.integers(0, 9000)),
    st.tuples(st.just("speak"), st.sampled_from([None, True, False])),
)


class Agent(RecordingAgent):
    """
    An agent that may fail at its next command, or open within it.

    ``acts``: what happens at the next command.
    """

    acts: str | None = None
    script: "Wild"

    def _act(self) -> None:
        act, self.acts = self.acts, None
        if act == "fail":
            raise ConnectionError
        if act == "open":
            self.script.call.on_agent_open(self.script.now)

    def connect(self) -> None:
        super().connect()
        self._act()

    def relay_to(self, other: object) -> None:
        super().relay_to(other)
        self._act()

    def close(self, code: int) -> None:
        super().close(code)
        self._act()


class Wild(FlightScript):
    """A call whose sides do as they like; faults of theirs are theirs."""

    def __init__(self, spares: int, tracks_heard: bool) -> None:
        super().__init__()
        agents = [Agent(self.log, f"agent {n}") for n in range(1 + spares)]
        for agent in agents:
            agent.script = self
            agent.tracks_heard = tracks_heard
        self.agent, *self.spares = self.agents = agents
        self.call._observer._observer.on_fault = lambda call, fault: None

    def run(self, events) -> None:
        for event in events:
            with contextlib.suppress(ConnectionError):
                super().run([event])

    def agent_mark(self, now: float, name: str) -> None:
        self.call.on_agent_mark(name)

    def drop_audio(self, now: float) -> None:
        self.call.drop_caller_audio()

    def hold(self, now: float, held_bytes: int, sent_bytes: int) -> None:
        self.caller.held_bytes, self.caller.sent_bytes = held_bytes, sent_bytes

    def speak(self, now: float, is_speaking: bool | None) -> None:
        for agent in self.agents:
            agent.is_speaking = is_speaking

    def fail_next(self, now: float) -> None:
        for agent in self.agents:
            agent.acts = "fail"

    def open_within_next(self, now: float) -> None:
        for agent in self.agents:
            agent.acts = "open"


@settings(deadline=None)
@given(
    # Most calls begin as calls do.
    st.sampled_from([[], [(0, ("start",))], *3 * [[(0, ("start",)), (1, ("agent_open",))]]]),
    st.lists(st.tuples(st.floats(0, 20), EVENTS), max_size=40),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([500, 2000, flight_module.SEGMENT_BYTES]),
)
@example([], [(0, ("start",)), (0, ("fail_next",)), (0, ("agent_open",)), (1, ("agent_lost",))], 1, True, 500)
def test_any_order_of_events_is_replayed_with_the_same_commands(
    begin, steps, spares, tracks_heard, segment_bytes
):
    """Also where the ring has dropped the oldest events; the state after all of them is the same too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flight_module, "SEGMENT_BYTES", segment_bytes)
        script = Wild(spares, tracks_heard)
        now = 0.0
        for wait_s, (event, *arguments) in [*begin, *steps]:
            now += wait_s
            script.run([(now, event, *arguments)])
            assert replay(script.flight()) is None
        for _ in range(3):
            now += LIMITS.duration_s
            script.run([(now, "tick")])
        assert script.call.state is State.CLOSED
        assert replay(script.flight()) is None


def recorded() -> dict[str, Any]:
    """The record of a call with two agents, which ends badly."""
    script = FlightScript()
    script.spares = [RecordingAgent(script.log, "spare")]
    script.run([(0.0, "start"), (0.5, "agent_open"), (0.6, "agent_audio"), (1.0, "agent_lost")])
    script.run([(1.5, "agent_open"), (2.0, "interrupt"), (3.0, "agent_lost")])
    [flight] = script.flights
    assert replay(flight) is None
    return flight


def test_first_difference_is_found_with_what_was_recorded_and_what_comes_of_it_now():
    flight = recorded()
    interrupt = flight["segments"][0]["events"][5]
    assert interrupt[1] == "on_interrupt"
    [n] = [n for n, step in enumerate(interrupt[5]) if step[1] == "send_clear"]
    changed = copy.deepcopy(flight)
    changed["segments"][0]["events"][5][5][n][1] = "mark_audio"
    assert replay(changed) == Difference(5, ["caller 1", "mark_audio"], ["caller 1", "send_clear"])
    missing = copy.deepcopy(flight)
    del missing["segments"][0]["events"][5][5][n:]
    assert replay(missing) == Difference(5, None, ["caller 1", "send_clear"])
    longer = copy.deepcopy(flight)
    longer["segments"][0]["events"][5][5].append(["caller 1", "close", [1000]])
    assert replay(longer) == Difference(5, ["caller 1", "close", [1000]], None)
    state = copy.deepcopy(flight)
    state["segments"][0]["events"][5][4] = "closed"
    difference = replay(state)
    assert (difference.event, difference.recorded[4], difference.replayed[4]) == (5, "closed", "bridged")


def test_state_in_which_the_record_goes_on_is_compared_too(monkeypatch):
    monkeypatch.setattr(flight_module, "SEGMENT_BYTES", 1500)
    script = FlightScript()
    script.run([(0.0, "start"), (0.5, "agent_open"), *((1.0, "dtmf") for _ in range(12))])
    flight = script.flight()
    assert len(flight["segments"]) == 2
    assert replay(flight) is None
    flight["segments"][1]["checkpoint"]["deadline"] += 1.0
    difference = replay(flight)
    assert difference.event == len(flight["segments"][0]["events"])
    assert difference.recorded == [{"deadline": 3601.0}]
    assert difference.replayed == [{"deadline": 3600.0}]


def nested(depth: int) -> list[Any]:
    """An event within an event, so many times."""
    event: list[Any] = [1.0, "on_stop", [1.0], [], "closed", []]
    for _ in range(depth):
        event = [1.0, "on_stop", [1.0], [], "closed", [["caller 1", "close", [], None, [event]]]]
    return event


@pytest.mark.parametrize(
    "damage",
    [
        lambda flight: flight.update(version=99),
        lambda flight: flight.pop("segments"),
        lambda flight: flight.pop("limits"),
        lambda flight: flight["limits"].update(unknown=1),
        lambda flight: flight["segments"][0].pop("checkpoint"),
        lambda flight: flight["segments"][0]["checkpoint"].update(state="asleep"),
        lambda flight: flight["segments"][0]["checkpoint"].pop("meters"),
        lambda flight: flight["segments"][0]["events"][0].__setitem__(1, "__init__"),
        lambda flight: flight["segments"][0]["events"][0].__setitem__(2, 5),
        lambda flight: flight["segments"][0]["events"][0].__setitem__(3, []),
        lambda flight: flight["segments"][0]["events"][0].__setitem__(5, ["x"]),
        lambda flight: flight["segments"][0]["events"][3][2].__setitem__(1, "no_reason"),
        lambda flight: flight["segments"][0]["events"].append([1.0]),
        lambda flight: flight["segments"].append("x"),
        lambda flight: flight.update(segments=5),
        lambda flight: flight["segments"][0]["events"].append(nested(2000)),
    ],
)
def test_damaged_record_is_reported_as_one(damage):
    flight = recorded()
    damage(flight)
    with pytest.raises(BadFlightError):
        replay(flight)


@pytest.mark.parametrize("value", [[], 5, None, {}, {"version": 1}, "text"])
def test_what_is_no_record_is_reported(value):
    with pytest.raises(BadFlightError):
        events_of(value)


def test_call_whose_caller_has_no_socket_is_taken_up_in_mid_call(monkeypatch):
    monkeypatch.setattr(flight_module, "SEGMENT_BYTES", 1000)
    script = FlightScript()
    script.run([(0.0, "start"), (0.5, "agent_open"), (0.6, "agent_audio"), (1.0, "caller_lost")])
    script.run([*((1.5, "dtmf") for _ in range(9)), (2.0, "caller_back"), (3.0, "stop")])
    flight = script.flight()
    assert flight["dropped_events"]
    assert flight["segments"][0]["checkpoint"]["caller"] == "kept 1"
    assert isinstance(script.callers[-1], RecordingCaller)
    assert replay(flight) is None


def test_what_moves_within_a_command_is_taken_up_too():
    script = FlightScript()
    script.agent.tracks_heard = True
    script.run([(0.0, "start"), (0.5, "agent_open"), (0.6, "turn", "one"), (0.6, "agent_audio")])
    script.caller.sent_bytes = 8000
    clear = script.caller.send_clear

    def mark_comes_at_once() -> None:
        clear()
        script.call.on_mark("g0-4000", 1.0)

    script.caller.send_clear = mark_comes_at_once
    script.run([(1.0, "interrupt")])
    assert [turn.heard_ms for turn in script.heard[-1]] == [500]
    assert replay(script.flight()) is None
