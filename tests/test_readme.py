"""The README's first call by hand, pasted as a block in a clean clone with an empty environment."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALL_AND_CALL_S = 540


def block(heading):
    section = (ROOT / "README.md").read_text().split(f"## {heading}\n")[1]
    return re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1]


@pytest.fixture
def clone(tmp_path):
    """A copy of what git tracks, without anything that was built."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("a clean clone needs git and a checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        target = tmp_path / "clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return tmp_path / "clone"


def registry_is_reachable():
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--retries", "0"]
        command += ["--disable-pip-version-check", "--dest", folder, "click"]
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def paste(text, clone):
    """Run a block of the README with an empty environment; returns what it printed."""
    if not registry_is_reachable():
        pytest.skip("pip cannot reach its registry")
    interpreter = str(Path(sys.base_prefix) / "bin")
    environment = {"PATH": f"{interpreter}:{os.defpath}", "HOME": str(clone.parent)}
    shell = subprocess.Popen(
        ["sh", "-e"],
        cwd=clone,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = shell.communicate(text, timeout=INSTALL_AND_CALL_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, printed
    return printed


@pytest.mark.timeout(INSTALL_AND_CALL_S + 60)
def test_the_demo_works_in_a_clean_clone(clone):
    demo, tests = block("Two commands").splitlines()
    # The second command is the one that runs this test.
    assert tests.startswith("make test ")
    printed = paste(demo, clone)
    assert "nothing was lost; see demo-out/" in printed
    assert (clone / "demo-out" / "call.png").stat().st_size > 10_000


@pytest.mark.timeout(INSTALL_AND_CALL_S + 60)
def test_the_first_call_works_in_a_clean_clone(clone):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 3000)) == 0:
            pytest.skip("port 3000, which the README names, is taken")
    printed = paste(block("A first call by hand"), clone)
    assert "heard: heard.wav" in printed
    assert (clone / "heard.wav").stat().st_size > 8000
