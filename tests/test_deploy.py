"""The delivered systemd units."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[1] / "deploy"
PROGRAM = "/opt/voice-bridge/bin/bridge"


def test_units_are_valid_for_systemd(tmp_path):
    if shutil.which("systemd-analyze") is None:
        assert not os.environ.get("CI"), "systemd-analyze is not installed, and CI must run this"
        pytest.skip("systemd-analyze is not installed")
    units = [tmp_path / unit.name for unit in sorted(DEPLOY.glob("voice-bridge.*"))]
    assert [unit.suffix for unit in units] == [".service", ".socket"]
    for unit in units:
        text = (DEPLOY / unit.name).read_text()
        # It must exist.
        unit.write_text(text.replace(PROGRAM, "/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", *units],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
    )
    # Only an unknown section or a command that is missing changes the exit code.
    assert (checked.returncode, checked.stderr) == (0, "")
