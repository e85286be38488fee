"""The machine's state is written down whole, and taken up again."""

from call_script import Script

from bridge.call.flight_state import LEFT_OUT, PLAIN, StatefulCall
from bridge.call.limits import CallLimits
from bridge.call.sides import CallObserver
from bridge.call.talk import Talk

# Written by a name of their own, or of their parts.
BY_HAND = {"state", "why", "stats", "_caller", "_agent", "_chain", "_heard", "_playout", "_last_audio_at"}


class Stateful(Script):
    def _make_call(self, limits: CallLimits, observer: CallObserver, now: float) -> StatefulCall:
        return StatefulCall(limits, observer, now)


def test_each_attribute_of_the_machine_is_written_or_left_out_for_a_reason():
    call = Script().call
    assert {*vars(call), *Talk.__slots__} == {*PLAIN, *LEFT_OUT, *BY_HAND}


def test_state_is_the_same_after_it_is_taken_up():
    script = Stateful()
    script.agent.tracks_heard = True
    script.run([(0.0, "start"), (0.5, "agent_open"), (1.0, "turn", "one"), (1.0, "agent_audio")])
    script.caller.sent_bytes = 800
    script.run([(1.5, "tick"), (1.6, "mark", "g0-400"), (1.6, "caller_lost")])
    labelled = {"kept 1": script.kept[0], "agent 1": script.agent, "chain": script.chain}
    for label, side in labelled.items():
        side.label = label
    before = script.call.checkpoint()
    assert (before["caller"], before["agent"], before["chain"]) == tuple(labelled)
    assert before["heard"] == (0, [("one", 0, 400, True)])
    assert before["grace_until"] is not None
    call = StatefulCall(script.call._limits, script.call._observer, 0.0)
    call.restore(before, labelled.get)
    assert call.checkpoint() == before
    assert (call._caller, call._agent, call._chain) == tuple(labelled.values())


def test_call_before_its_start_is_taken_up_too():
    before = Stateful().call.checkpoint()
    call = StatefulCall(Script().call._limits, Script().call._observer, 9.0)
    call.restore({**before, "caller": None}, {}.get)
    assert call.checkpoint() == before
