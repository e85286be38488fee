"""What is personal in a record is hidden, and the rest is as it was."""

from bridge.call.flight import Event, Step
from bridge.call.flight_masking import Masking


def test_numbers_and_names_are_hidden_and_a_name_stays_itself():
    masking = Masking()
    within = Event(1.0, "on_agent_transfer", ["+14155550100", 1.0], [], "closed")
    mark = Event(
        1.0,
        "on_agent_mark",
        ["Mr. Smith"],
        [0],
        "bridged",
        [
            ["caller 1", "send_mark", ["agent:Mr. Smith"], None, [list(within)]],
            ["caller 1", "held_bytes", [], 5],
        ],
    )
    found = masking.event(mark)
    assert found.args == ["name 1"]
    send, read = (Step(*step) for step in found.steps)
    assert send.args == ["agent:name 1"]
    assert Event(*send.events[0]).args == ["+141…00", 1.0]
    assert read == Step("caller 1", "held_bytes", [], 5, [])
    heard = masking.event(
        Event(2.0, "on_interrupt", [2.0], [0], "bridged", [], [["Mr. Smith", 20, True], ["x", 0, False]])
    )
    assert heard.gives == [["name 1", 20, True], ["name 2", 0, False]]
    assert masking.step(Step("agent 2", "on_played", ["x"])).args == ["name 2"]


def test_the_bridges_own_names_and_reasons_are_shown():
    masking = Masking()
    for event in (
        Event(1.0, "on_mark", ["played-out", 1.0], [], "closed"),
        Event(1.0, "on_mark", ["agent-2:", 1.0], [], "closed"),
        Event(1.0, "end", ["fault", 1.0, ""], [], "closed"),
        Event(1.0, "on_agent_lost", [1.0, "agent_lost", "close 1011", "lost"], [], "closed"),
    ):
        assert masking.event(event) == event._replace(steps=[])
