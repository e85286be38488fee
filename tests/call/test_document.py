"""A call as a JSON document, out of its facts."""

from __future__ import annotations

import orjson
import pytest
from call_schema import problems
from call_script import Script

from bridge.agents.succession import Said, Speaker
from bridge.call.document import document, summary, without_texts
from bridge.call.ends import Why
from bridge.call.record import MOST_KEPT, AgentRecord, CallRecord
from bridge.call.turns import Side
from bridge.metrics import Traffic

CALL_SID = "CA" + 32 * "1"
# The Unix time of the script's moment 0: 2026-01-02 03:04:05 UTC.
BEGAN = 1767323045.0


def made(script, record=None, now=20.0, **traffic):
    found = document(script.call, CALL_SID, record or CallRecord(), Traffic(**traffic), now, BEGAN + now)
    assert problems(found) == []
    return orjson.loads(orjson.dumps(found))


def test_steps_of_a_call_have_their_times():
    script = Script()
    assert made(script, now=0.5)["times"] == {
        "webhook": None,
        "answered": None,
        "socket": "2026-01-02T03:04:05.000Z",
        "start": None,
        "agent_open": None,
        "first_word": None,
        "ended": None,
    }
    script.run([(1.0, "start"), (1.25, "agent_open"), (2.5, "agent_audio"), (9.0, "stop")])
    record = CallRecord(webhook_at=BEGAN - 1.5, answered_at=BEGAN - 1)
    found = made(script, record, now=9.1254)
    assert found["times"] == {
        "webhook": "2026-01-02T03:04:03.500Z",
        "answered": "2026-01-02T03:04:04.000Z",
        "socket": "2026-01-02T03:04:05.000Z",
        "start": "2026-01-02T03:04:06.000Z",
        "agent_open": "2026-01-02T03:04:06.250Z",
        "first_word": "2026-01-02T03:04:07.500Z",
        "ended": "2026-01-02T03:04:14.125Z",
    }
    assert (found["duration_s"], found["agent_connect_s"], found["first_agent_audio_s"]) == (9.125, 0.25, 1.5)


@pytest.mark.parametrize(
    ("how", "by", "code", "reason"),
    [
        ("bridge 1000", "bridge", 1000, ""),
        ("peer 4001 go\naway", "peer", 4001, "go\naway"),
        ("silent for 15 s", None, None, "silent for 15 s"),
        ("bridge, without a close frame", None, None, "bridge, without a close frame"),
    ],
)
def test_end_has_the_codes_and_reasons_of_both_sides(how, by, code, reason):
    script = Script()
    script.run([(1.0, "start"), (2.0, "agent_open"), (3.0, "agent_ended"), (9.0, "stop")])
    record = CallRecord(caller_closed=how, agents=[AgentRecord("a", "s1", how, billed_s=2.5)])
    found = made(script, record)
    closed = {"by": by, "code": code, "reason": reason}
    assert found["end"]["caller_closed"] == closed
    assert found["agents"] == [
        {"name": "a", "session_id": "s1", "why_lost": "", "closed": closed, "billed_s": 2.5}
    ]
    assert (found["end"]["why"], found["end"]["outcome"]) == ("agent_ended", "ended")


def test_live_call_has_no_end():
    script = Script()
    script.run([(1.0, "start"), (2.0, "agent_open")])
    assert made(script)["end"] is None


def test_number_of_a_transfer_is_masked_like_the_others():
    script = Script()
    script.run([(1.0, "start"), (2.0, "agent_open"), (3.0, "transfer", "+14155550123"), (4.0, "stop")])
    assert made(script)["end"]["transferred_to"] == "+141…23"
    assert made(script, CallRecord(shown=str))["end"]["transferred_to"] == "+14155550123"


def test_what_was_said_is_there_until_texts_are_left_out():
    script = Script()
    script.run([(1.0, "start"), (2.0, "agent_open")])
    script.call.conversation.add(Said(Speaker.AGENT, "Hello?"), 3.5)
    found = made(script)
    assert found["transcript"] == [{"at_s": 2.5, "speaker": "agent", "text": "Hello?"}]
    assert without_texts(found) == {**found, "transcript": []}


def test_oldest_interrupts_beyond_the_bound_are_summed_up_and_noted():
    script = Script()
    script.run([(1.0, "start"), (2.0, "agent_open")])
    assert made(script)["interrupts"] == {"count": 0, "longest_ms": 0.0, "last": []}
    for n in range(MOST_KEPT + 3):
        script.call.stats.interrupted.add(3.0 + n, 0.5 if n == 0 else 0.001)
    found = made(script, interrupts=MOST_KEPT + 3)
    assert found["interrupts"]["count"] == MOST_KEPT + 3
    assert found["interrupts"]["longest_ms"] == 500.0
    assert found["interrupts"]["last"][0] == {"at_s": 5.0, "ms": 1.0}
    assert len(found["interrupts"]["last"]) == MOST_KEPT
    assert found["notes"] == ["the 3 oldest interrupts are only counted"]


def speak(script, caller_at, agent_at):
    """One second of each side, by the call's clock."""
    turns = script.call.hearing.turns
    for side, at in ((Side.CALLER, caller_at), (Side.AGENT, agent_at)):
        position = round(8000 * at)
        (turns.on_caller_audio if side is Side.CALLER else turns.on_agent_audio)(position, at)
        turns.on_speech(side, position, position + 8000)


def test_turns_have_their_times_waits_and_sums():
    script = Script()
    script.run([(1.0, "start"), (2.0, "agent_open")])
    nobody = {"caller": 0, "agent": 0}
    assert made(script)["turns"] == {
        "count": 0,
        "waits": {"count": 0, "p50_ms": None, "p95_ms": None, "longest_ms": 0.0},
        "caller_talk_s": 0.0,
        "agent_talk_s": 0.0,
        "overlap_s": 0.0,
        "interrupts": nobody,
        "vain_interrupts": nobody,
        "last": [],
    }
    speak(script, 3.0, 4.75)
    speak(script, 7.0, 7.5)
    script.call.hearing.end(20.0)
    found = made(script)
    assert summary(found)["wait_p50_ms"] == 750.0
    assert found["turns"]["waits"] == {"count": 1, "p50_ms": 750.0, "p95_ms": 750.0, "longest_ms": 750.0}
    assert [(turn["caller"], turn["agent"], turn["wait_ms"]) for turn in found["turns"]["last"]] == [
        ({"at_s": 2.0, "until_s": 3.0}, {"at_s": 3.75, "until_s": 4.75}, 750.0),
        ({"at_s": 6.0, "until_s": 7.0}, {"at_s": 6.5, "until_s": 7.5}, None),
    ]
    assert found["turns"]["overlap_s"] == 0.5
    assert found["turns"]["interrupts"] == {"caller": 0, "agent": 1}


def test_oldest_turns_and_gaps_beyond_the_bound_are_summed_up_and_noted():
    script = Script()
    script.run([(1.0, "start"), (2.0, "agent_open")])
    for n in range(MOST_KEPT + 2):
        speak(script, 10.0 * n, 10.0 * n + 1.5)
        script.call.hearing.gaps[Side.AGENT].add(10.0 * n, 0.25)
    script.call.hearing.end(1e6)
    found = made(script)
    assert (found["turns"]["count"], len(found["turns"]["last"])) == (MOST_KEPT + 2, MOST_KEPT)
    assert found["turns"]["caller_talk_s"] == MOST_KEPT + 2
    assert found["gaps"]["agent"]["count"] == MOST_KEPT + 2
    assert found["notes"] == [
        "the 2 oldest turns are only summed up",
        "the 2 oldest gaps of the agent are only counted",
    ]


def test_document_of_an_earlier_release_has_a_summary():
    found = made(Script())
    del found["turns"]
    assert summary(found)["wait_p50_ms"] is None


def test_every_way_to_end_is_in_the_schema():
    for why in Why:
        script = Script()
        script.call.end(why, 1.0)
        assert made(script)["end"]["why"] == why.value


def test_schema_refuses_what_it_does_not_describe():
    found = made(Script())
    assert problems({**found, "version": 2})
    assert problems({**found, "new": 1})
    assert problems({name: found[name] for name in found if name != "keys"})
    assert problems({**found, "times": {**found["times"], "start": "yesterday"}})


def test_record_of_an_endless_call_is_bounded():
    script = Script()
    script.run([(1.0, "start"), (2.0, "agent_open")])
    for n in range(5 * MOST_KEPT):
        speak(script, 10.0 * n, 10.0 * n + 1.5)
        script.call.stats.interrupted.add(10.0 * n, 0.0123)
        for side in Side:
            script.call.hearing.gaps[side].add(10.0 * n, 0.25)
    script.call.hearing.end(1e6)
    # An event's bound is 256 KiB.
    assert len(orjson.dumps(made(script))) < 128 * 1024
