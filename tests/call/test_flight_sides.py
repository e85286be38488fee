"""What stands before the sides notes what the machine commands and reads, and nothing that others ask."""

import orjson
import pytest
from call_script import LIMITS, RecordingAgent, RecordingCaller, Script

from bridge.call.flight import Event, Tape
from bridge.call.flight_sides import AgentTap, CallerTap, ChainTap, ObserverTap, agent_of, caller_of
from bridge.call.flight_state import StatefulCall


class Bench:
    """The sides of a call, each behind what notes it."""

    def __init__(self) -> None:
        self.script = script = Script()
        self.tape = Tape()
        self.call = StatefulCall(LIMITS, ObserverTap(script.call._observer, self.tape), 0.0)
        self.caller = CallerTap(script.caller, "caller 1", self.tape)
        self.agent = AgentTap(script.agent, "agent 1", self.tape)

    def steps(self, act) -> list[list[object]]:
        """The steps of an event that does this."""
        self.tape.event(self.call, "on_stop", 1.0, act, (), is_kept=True)
        return Event(*self.tape.segments()[-1]["events"][-1]).steps


@pytest.fixture
def bench(monkeypatch) -> Bench:
    monkeypatch.setattr(orjson, "Fragment", orjson.loads)
    return Bench()


def test_commands_and_reads_of_an_event_are_noted_in_order(bench):
    def act() -> None:
        assert bench.caller.held_bytes == 0
        bench.caller.relay_to(bench.agent)
        bench.agent.relay_to(bench.caller)
        bench.caller.send_audio(b"AAAA")
        bench.agent.send_dtmf("7")
        bench.caller.close(1000)

    assert bench.steps(act) == [
        ["caller 1", "held_bytes", [], 0],
        ["caller 1", "relay_to", ["agent 1"]],
        ["agent 1", "relay_to", ["caller 1"]],
        # Neither audio nor a digit is in a record.
        ["agent 1", "send_dtmf", [""]],
        ["caller 1", "close", [1000]],
    ]
    assert bench.script.caller.relays_to == [bench.script.agent]
    assert bench.script.agent.relays_to == [bench.script.caller]
    assert ("caller", "audio", b"AAAA") in bench.script.log


def test_what_others_ask_between_two_events_and_within_a_command_is_not_noted(bench):
    assert bench.caller.held_bytes == 0
    assert bench.agent.is_speaking is None
    bench.script.caller.close = lambda code: bench.agent.is_speaking
    assert bench.steps(lambda: bench.caller.close(1000)) == [["caller 1", "close", [1000]]]


def test_sides_that_a_side_or_the_chain_makes_are_noted_too(bench):
    made = []
    chain = ChainTap(bench.script.chain, bench.tape, made.append)
    bench.script.chain._sides = iter([RecordingAgent(bench.script.log, "next")])
    found = []

    def act() -> None:
        found.extend([bench.caller.keep(), chain.next_side(), chain.next_side()])

    assert bench.steps(act) == [
        ["caller 1", "keep", [], "kept 1"],
        ["chain", "next_side", [], "agent 1"],
        ["chain", "next_side"],
    ]
    kept, agent, nothing = found
    assert isinstance(caller_of(kept), RecordingCaller)
    assert isinstance(agent_of(agent), RecordingAgent)
    assert (nothing, made) == (None, ["agent 1"])


def test_fault_of_a_side_and_what_it_moves_are_noted(bench):
    def fails(code: int) -> None:
        bench.call.stats.frames_from_caller += 1
        raise ConnectionError("with a secret")

    bench.script.agent.close = fails
    with pytest.raises(ConnectionError):
        bench.steps(lambda: bench.agent.close(1000))
    [event] = bench.tape.segments()[-1]["events"]
    moved = [1, 0, 0.0, 0.0, 0, 0.0]
    assert Event(*event).fault == "ConnectionError"
    assert Event(*event).steps == [["agent 1", "close", [1000], None, [], moved, "ConnectionError"]]
