"""One whole call through the real server, and the same with a fault that the demo has to see."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
import wave
from functools import partial

import pytest

from bridge.standins import demo
from bridge.standins.audio import SPEECH_DIR, SPOKEN
from bridge.standins.process import BridgeProcess

TIMEOUT_S = 90


def start_demo(out, *options):
    command = [sys.executable, "-m", "bridge", "demo", "--out", str(out), *options]
    # The user's own settings must not reach the demo.
    environment = os.environ | {"BRIDGE_AGENT": "nonsense", "TWILIO_AUTH_TOKEN": "x", "PORT": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    """Run a sound call and a spoilt one side by side; each is half a minute of real time."""
    folder = tmp_path_factory.mktemp("demo")
    started = {"sound": start_demo(folder / "sound"), "drop": start_demo(folder / "drop", "--inject", "drop")}
    try:
        ended = {}
        for name, process in started.items():
            out, err = process.communicate(timeout=TIMEOUT_S)
            ended[name] = (process.returncode, out, err, folder / name)
        return ended
    finally:
        for process in started.values():
            if process.poll() is None:
                process.kill()
                process.communicate()


def test_call_goes_through_with_nothing_lost(demos):
    code, out, err, folder = demos["sound"]
    assert code == 0, out + err
    result = json.loads((folder / "result.json").read_text())
    assert result["ok"] is True
    assert result["warnings"] == result["problems"] == []
    assert result["close_code"] == 1000
    for way in ("caller_to_agent", "agent_to_caller"):
        assert result[way]["byte_equal"] and result[way]["first_frame_equal"]
        assert result[way]["frames_lost"] == 0
        assert result[way]["frames_received"] == result[way]["frames_sent"] > 500
    assert 0 < result["interrupt_to_clear_ms"] < 100
    assert result["cleared_from_playout_ms"] > 500
    assert result["call_s"] < 40


def test_call_is_reported_in_order(demos):
    _, out, _, _ = demos["sound"]
    places = [
        out.index(text) for text in ("dials", *SPOKEN.values(), "ends the call", "hang up", "exit code 0")
    ]
    assert places == sorted(places)
    assert out.index("interrupt, discard") < out.index(SPOKEN["agent_continues"])


def test_recordings_and_picture_are_written(demos):
    folder = demos["sound"][3]
    result = json.loads((folder / "result.json").read_text())
    with wave.open(str(folder / "caller-heard.wav")) as file:
        assert file.getframerate() == 8000
        assert file.getnframes() / 8000 == pytest.approx(result["call_s"], abs=0.1)
    with wave.open(str(folder / "agent-heard.wav")) as file:
        assert file.getnframes() / 8000 > 10
    if importlib.util.find_spec("matplotlib"):
        assert (folder / "call.png").read_bytes().startswith(b"\x89PNG")


def test_lost_frames_fail_the_demo(demos):
    code, _, err, folder = demos["drop"]
    assert code == 1
    assert "caller to agent" in err
    result = json.loads((folder / "result.json").read_text())
    assert result["ok"] is False
    assert result["caller_to_agent"]["frames_lost"] > 0
    assert result["caller_to_agent"]["byte_equal"] is False
    assert result["agent_to_caller"]["byte_equal"] is False


def test_page_stays_open_on_the_call_until_a_signal(tmp_path):
    process = start_demo(tmp_path / "page", "--page")
    try:
        [shown] = [
            line for line in until_line(process, "the page stays open") if line.startswith("the page: ")
        ]
        url, sid, password = re.fullmatch(r"the page: (\S+)/#(\w+), password (\S+)\n", shown).groups()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        form = urllib.parse.urlencode({"password": password}).encode()
        login = urllib.request.Request(f"{url}/page/login", form, {"Origin": url})
        assert b"Live calls" in opener.open(login).read()
        found = json.loads(opener.open(f"{url}/page/calls/{sid}").read())
        assert (found["is_live"], found["records"][0]["interrupts"]["count"]) == (False, 1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, out + err
    assert "nothing was lost" in out
    assert password not in (tmp_path / "page" / "result.json").read_text()


def until_line(process, beginning):
    lines = [""]
    while not lines[-1].startswith(beginning):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    return lines


def test_server_that_does_not_start_is_reported_with_the_end_of_its_log(tmp_path, monkeypatch, capsys):
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\necho these settings are missing >&2\nexit 2\n")
    script.chmod(0o755)
    monkeypatch.setattr(demo, "BridgeProcess", partial(BridgeProcess, command=[str(script)]))
    assert demo.run(tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "exit code 2" in err and "| these settings are missing" in err


def test_missing_matplotlib_is_reported_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    demo._Demo(tmp_path, None).draw(None, None, None, None)
    out = capsys.readouterr().out
    assert "voice-bridge[demo]" in out and out.count("\n") == 1


def test_texts_are_those_of_the_recordings():
    made = (SPEECH_DIR / "README.md").read_text()
    for name, text in SPOKEN.items():
        assert f"speak {name} " in made and f'"{text}"' in made
        assert (SPEECH_DIR / f"{name}.wav").exists()
