"""``bridge check`` as a whole: a set-up that works, and what the command prints and returns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from check_setup import NUMBER, rest, start

from bridge.standins.twilio.webhook import sign

__all__ = ["rest", "start"]

ROOT = Path(__file__).parents[2]


async def test_set_up_that_works_has_no_fault(start):
    setup = await start()
    found = await setup.check(opens_agents=True)
    assert await setup.faults() == []
    assert [finding.subject for finding in found] == [
        "settings",
        "open files",
        "store",
        "clock",
        "account",
        f"number {NUMBER}",
        "PUBLIC_URL",
        "agent retell",
        "agent retell",
    ]
    assert found[-1].text == "opens a socket that gets ready"
    assert setup.live.agent.sessions


async def test_nothing_that_costs_is_asked_unless_it_is_wanted(start):
    setup = await start()
    await setup.check()
    assert setup.live.agent.sessions == {}


def bridge(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    environment = {"PYTHONPATH": str(ROOT), **kept, **variables}
    command = [sys.executable, "-m", "bridge", "check", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_wrong_settings_are_exit_code_2_as_lines_and_as_json(tmp_path):
    result = bridge(PUBLIC_URL="https://voice.example.com")
    assert result.returncode == 2
    lines = result.stdout.splitlines()
    assert any(line.startswith("problem  settings: TWILIO_AUTH_TOKEN: is missing") for line in lines)
    # As bridge serve says it, every colon in its place.
    assert (
        "problem  settings: BRIDGE_AGENT: is missing: who answers: openai, elevenlabs, deepgram, retell-sip, …, "
        "or echo to try"
    ) in lines
    result = bridge("--json", PUBLIC_URL="https://voice.example.com")
    assert result.returncode == 2
    assert {finding["level"] for finding in json.loads(result.stdout)["findings"]} == {"problem"}


def test_development_passes_with_warnings(tmp_path):
    result = bridge("--json", BRIDGE_VALIDATE_SIGNATURES="0", BRIDGE_STORE="memory")
    assert (result.returncode, result.stderr) == (0, "")
    levels = [finding["level"] for finding in json.loads(result.stdout)["findings"]]
    assert "warning" in levels
    assert "problem" not in levels


def test_signature_is_checked_alone():
    variables = {
        "PUBLIC_URL": "https://voice.acme-phones.com",
        "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
        "TWILIO_AUTH_TOKEN": "token",
        "BRIDGE_AGENT": "echo",
    }
    url = "https://voice.acme-phones.com/voice"
    header = sign("token", url, {"A": "b"})
    assert bridge("--signature", url, header, "A=b", **variables).returncode == 0
    result = bridge("--signature", url, header, "A=c", **variables)
    assert result.returncode == 1
    assert f"given: {header}" in result.stdout
    assert bridge("--signature", "voice", header, "A=c", **variables).returncode == 2
