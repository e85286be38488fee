"""The call's state machine under events in any order."""

from call_script import LIMITS, Script
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


@given(st.lists(st.tuples(st.floats(0, 20), EVENTS), max_size=30))
@example([(0, ("start",)), (0, ("agent_ended",)), (1, ("caller_audio",)), (1, ("agent_audio",))])
def test_any_order_of_events_closes_each_side_once_and_says_nothing_after(steps):
    """Any order of events raises nothing, closes each side once at most, and nothing follows a side's close."""
    script = Script()
    now = 0.0
    for wait_s, (event, *arguments) in steps:
        now += wait_s
        script.run([(now, event, *arguments)])
    # Every state has a deadline: left alone, the call ends.
    for _ in range(3):
        now += LIMITS.duration_s
        script.tick(now)
    assert script.call.state is State.CLOSED
    commands = [entry[0] for entry in script.sent_to("agent")]
    if "connect" in commands:
        assert commands.count("close") == 1
        assert commands[-1] == "close"
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
    assert seen in ([("closed",)], [("bridged",), ("closed",)])
