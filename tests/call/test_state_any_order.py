"""The call's state machine under events in any order."""

import pytest
from call_script import LIMITS, FlightScript, RecordingAgent, Script
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.call.ends import Why
from bridge.call.state import PLAYED_MARK, State

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
                "turn",
                "hang_up",
                "twilio_answered",
                "tick",
            ]
        )
    ),
    st.tuples(st.just("mark"), st.sampled_from([PLAYED_MARK, "", "x"])),
    st.tuples(st.just("transfer"), st.just("+14155550100")),
    st.tuples(st.just("end"), st.sampled_from(Why)),
)


@pytest.mark.parametrize("make", [Script, FlightScript])
@given(st.lists(st.tuples(st.floats(0, 20), EVENTS), max_size=30), st.integers(0, 3))
@example([(0, ("start",)), (0, ("agent_ended",)), (1, ("caller_audio",)), (1, ("agent_audio",))], 0)
@example([(0, ("start",)), (0, ("agent_open",)), (1, ("agent_lost",)), (1, ("agent_open",))], 1)
def test_any_order_of_events_closes_each_side_once_and_says_nothing_after(make, steps, spares):
    """
    Any order of events raises nothing, closes each side once at most, and nothing follows a side's close.

    A lost agent gets nothing more, and each one of the chain is tried once.
    """
    script = make()
    agents = ["agent", *(f"spare {n}" for n in range(spares))]
    script.spares = [RecordingAgent(script.log, name) for name in agents[1:]]
    now = 0.0
    for wait_s, (event, *arguments) in steps:
        now += wait_s
        script.run([(now, event, *arguments)])
    # Every state has a deadline: left alone, the call ends.
    for _ in range(3):
        now += LIMITS.duration_s
        script.tick(now)
    assert script.call.state is State.CLOSED
    to_agents = [entry[:2] for entry in script.log if entry[0] in agents]
    tried = [name for name, command in to_agents if command == "connect"]
    assert tried == agents[: len(tried)]
    assert [entry for entry in to_agents if entry[1] == "close"] == [(name, "close") for name in tried[-1:]]
    order = [agents.index(name) for name, _ in to_agents]
    assert order == sorted(order)
    assert not to_agents or to_agents[-1][1] == "close"
    # All sockets of the caller, and what stood in for one until the next.
    for side in (*script.callers, *script.kept):
        commands = [entry[0] for entry in script.sent_to(side.name)]
        assert commands.count("close") == (not side.is_taken_over)
        assert "close" not in commands[:-1]
    assert len(script.kept) - sum(kept.is_taken_over for kept in script.kept) <= 1
    seen = script.sent_to("observer")
    asked = [entry for entry in seen if entry[0] == "Twilio asked"]
    assert len(asked) <= 1
    seen = [entry for entry in seen if entry not in asked and entry[0] != "kept"]
    told = [entry[0] for entry in seen]
    assert told.count("agent replaced") == max(0, len(tried) - 1)
    assert told.count("bridged") <= len(tried)
    assert told.count("closed") == 1
    assert told[-1] == "closed"
