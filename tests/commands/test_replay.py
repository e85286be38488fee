"""`bridge replay`: what it shows of a record, what it hides, and how it exits."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from call_script import FlightScript, RecordingAgent
from click.testing import CliRunner, Result

from bridge.call.flight import PURPOSE
from bridge.cli import main
from bridge.seal import Seal

SID = "CA" + "1" * 32
TOKEN = "canary-auth-token"


@pytest.fixture
def flight() -> dict[str, Any]:
    """The record of a call whose first agent is lost, and whose second one transfers the caller."""
    script = FlightScript()
    script.call.call_sid = SID
    script.agent.tracks_heard = True
    script.spares = [RecordingAgent(script.log, "spare")]
    script.run([(0.0, "start"), (0.5, "agent_open"), (0.6, "turn", "Mr. Smith"), (0.6, "agent_audio")])
    script.caller.sent_bytes = 8000
    script.run([(1.0, "interrupt"), (1.5, "agent_lost")])
    script.call.on_agent_mark("Mr. Jones")
    script.run([(2.0, "agent_open"), (2.5, "mark", "agent-1:Mr. Jones"), (3.0, "transfer", "+14155550100")])
    script.run([(3.5, "mark", "played-out"), (4.0, "twilio_answered")])
    return script.flight()


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Replays a record, as JSON or sealed, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWILIO_AUTH_TOKEN", raising=False)

    def run(content: Any, *options: str, **env: str) -> Result:
        if isinstance(content, dict):
            content = json.dumps(content)
        Path("x.flight").write_bytes(content.encode() if isinstance(content, str) else content)
        return CliRunner().invoke(main, ["replay", "x.flight", *options], env=env)

    return run


def sealed(flight: dict[str, Any], token: str = TOKEN) -> str:
    return Seal([token]).seal(PURPOSE, flight)


def test_events_are_shown_with_times_states_and_commands(invoke, flight):
    found = invoke(flight)
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    assert lines[0] == (
        f"call {SID}, opened 2001-09-09T01:46:36.000Z; agent 1 is an agent, agent 2 is an agent"
    )
    shown = [" ".join(line.split()) for line in lines]
    assert "0.000 stream verified connecting 0, 0" in shown
    assert "0.600 agent's first audio bridged 0, 1" in shown
    assert "caller 1: send clear" in shown
    assert "heard: name 1 200 ms, cut" in shown
    assert "chain: successor: lost, True -> agent 2" in shown
    assert "4.000 twilio answered closed 0, 1" in shown
    assert lines[-1] == "the replay gives the same 12 events with the same commands"
    # What the machine reads is no command.
    assert "held bytes" not in found.output


def test_seconds_are_shown_to_the_millisecond(invoke):
    script = FlightScript()
    script.caller.sent_bytes = 8000
    # 8013 bytes of audio are 1.001625 s.
    script.run([(0.0, "start"), (0.0, "agent_open"), (0.5, "agent_audio", b"", 8013), (0.5, "caller_lost")])
    shown = [" ".join(line.split()) for line in invoke(script.flight()).output.splitlines()]
    [kept] = [line for line in shown if line.startswith("observer: caller kept")]
    assert re.search(r"\d\.\d+", kept)[0] == "1.002"


def test_numbers_and_names_are_hidden_unless_they_are_asked_for(invoke, flight):
    for options in ((), ("--json",)):
        output = invoke(flight, *options).output
        assert "Smith" not in output
        assert "Jones" not in output
        assert "4155550100" not in output
        assert "agent-1:name 2" in output
        assert "+141…00" in json.dumps(output, ensure_ascii=False)
        output = invoke(flight, "--reveal", *options).output
        assert "agent-1:Mr. Jones" in output
        assert "+14155550100" in output


def test_json_has_the_same(invoke, flight):
    found = json.loads(invoke(flight, "--json").output)
    assert (found["call_sid"], found["is_same"], found["difference"]) == (SID, True, None)
    assert found["agents"] == {"agent 1": "an agent", "agent 2": "an agent"}
    start = found["events"][0]
    assert (start["event"], start["at_s"], start["state"]) == ("on_start", 0.0, "connecting")
    assert start["commands"][0] == {
        "to": "chain",
        "command": "next_side",
        "args": [],
        "returns": "agent 1",
        "fault": None,
        "events": [],
    }
    last = found["events"][-1]["commands"][-1]
    assert last["command"] == "on_call_closed"
    assert [event["event"] for event in last["events"]] == ["close_caller"]


def test_first_difference_is_shown_and_the_exit_code_is_1(invoke, flight):
    changed = copy.deepcopy(flight)
    [interrupt] = [event for event in changed["segments"][0]["events"] if event[1] == "on_interrupt"]
    [clear] = [step for step in interrupt[5] if step[1] == "send_clear"]
    clear[1] = "mark_audio"
    found = invoke(changed)
    assert found.exit_code == 1
    assert found.output.splitlines()[-3:] == [
        "the replay differs at event 5 of 12: interrupt, at 1.000 s",
        "  recorded: caller 1: mark audio",
        "  replayed: caller 1: send clear",
    ]
    found = invoke(changed, "--json")
    assert found.exit_code == 1
    assert json.loads(found.output)["difference"] == {
        "event": 4,
        "recorded": "caller 1: mark audio",
        "replayed": "caller 1: send clear",
    }


def test_result_that_differs_is_shown_without_its_names(invoke, flight):
    [interrupt] = [event for event in flight["segments"][0]["events"] if event[1] == "on_interrupt"]
    interrupt[6] = [["Mr. Smith", 1, False]]
    found = invoke(flight)
    assert found.exit_code == 1
    assert found.output.splitlines()[-2:] == [
        "  recorded: interrupt: state bridged, returns [['name 1', 1, False]]",
        "  replayed: interrupt: state bridged, returns [['name 1', 200, False]]",
    ]


@pytest.mark.parametrize("way", ["environment", "file"])
def test_sealed_record_is_opened_with_the_auth_token(invoke, flight, way):
    env = {"TWILIO_AUTH_TOKEN": f"new,{TOKEN}"} if way == "environment" else {}
    if way == "file":
        Path(".env").write_text(f"TWILIO_AUTH_TOKEN={TOKEN}\n")
    assert invoke(sealed(flight), **env).exit_code == 0


def test_record_comes_from_standard_input_too(flight):
    found = CliRunner().invoke(main, ["replay", "-"], input=json.dumps(flight))
    assert found.exit_code == 0, found.output


def test_events_that_the_ring_has_dropped_are_counted(invoke, flight):
    flight["dropped_events"] = 812
    assert "the first 812 events are no longer in the ring" in invoke(flight).output


@pytest.mark.parametrize(
    ("content", "env", "words"),
    [
        (sealed({}), {}, "set TWILIO_AUTH_TOKEN"),
        (
            sealed({}, "another"),
            {"TWILIO_AUTH_TOKEN": TOKEN},
            "TWILIO_AUTH_TOKEN is not the one that sealed it",
        ),
        (sealed({})[:-9], {"TWILIO_AUTH_TOKEN": TOKEN}, "cannot be opened: it is damaged"),
        (Seal([TOKEN]).seal("token", {}), {"TWILIO_AUTH_TOKEN": TOKEN}, "cannot be opened"),
        ("gAAAAABr", {"TWILIO_AUTH_TOKEN": TOKEN}, "cannot be opened"),
        (b"\xff\x00", {"TWILIO_AUTH_TOKEN": TOKEN}, "is no flight record: it begins with '�\\x00'"),
        ("", {}, "is empty"),
        ("\n", {"TWILIO_AUTH_TOKEN": TOKEN}, "is empty"),
        # What the API answers without its token, as a pipe from curl brings it.
        ("401 Unauthorized\n", {}, "is no flight record: it begins with '401 Unauthorized'"),
        (b"RIFF" + bytes(99), {}, "is no flight record: it begins with 'RIFF"),
        (sealed({}), {"TWILIO_AUTH_TOKEN": TOKEN}, "is no flight record"),
        ('{"version": 1, "segm', {}, "is no JSON, or is cut off"),
        ('{"version": 2}', {}, "use the bridge that wrote it"),
        ('{"call_sid": "CA", "records": []}', {}, "is no flight record"),
    ],
)
def test_file_that_is_no_record_is_reported_and_the_exit_code_is_2(invoke, content, env, words):
    found = invoke(content, **env)
    assert found.exit_code == 2
    assert found.output.startswith("x.flight: ")
    assert words in found.output
    assert len(found.output.splitlines()) == 1


@pytest.mark.parametrize("field", ["agents", "opened", "dropped_events", "call_sid"])
def test_field_that_is_missing_is_reported(invoke, flight, field):
    del flight[field]
    found = invoke(flight)
    assert found.exit_code == 2
    assert "is no flight record, or is damaged" in found.output


def test_text_of_a_peer_cannot_command_the_terminal(invoke):
    script = FlightScript()
    script.run([(0.0, "start")])
    script.call.on_agent_mark("\x1b[2Jx")
    flight = {**script.flight(), "call_sid": "\x1b[1mCA"}
    output = invoke(flight, "--reveal").output
    assert "?[2Jx" in output
    assert output.startswith("call ?[1mCA, ")
