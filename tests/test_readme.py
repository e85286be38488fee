"""The README's first call by hand, pasted as a block in a clean clone with an empty environment."""

import asyncio
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
from chromium import WITHIN_S, chromium, tab
from live import until

from bridge.standins.process import EXIT_S

ROOT = Path(__file__).parents[1]
INSTALL_AND_CALL_S = 540
FAKE_MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def block(heading, page="README.md"):
    section = (ROOT / page).read_text().split(f"## {heading}\n")[1]
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
    # Beside the same installation, the page's telephone takes one command and a click.
    installing, serving = block("The telephone", "docs/page.md").splitlines()
    assert installing == block("A first call by hand").splitlines()[0]
    with running(serving, clone), chromium(clone.parent / "chromium", *FAKE_MICROPHONE) as browser:
        sent, received = asyncio.run(speak(browser))
    assert received == sent[: len(received)]


@contextlib.contextmanager
def running(command, clone):
    """Run a command of the page in the clone, until the bridge is to stop."""
    process = subprocess.Popen(
        ["sh", "-c", f"exec env {command}"],
        cwd=clone,
        env={"PATH": os.defpath, "HOME": str(clone.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        process.terminate()
        assert process.wait(EXIT_S) == 0
    finally:
        process.kill()
        process.wait()


async def speak(browser):
    """Call the echo on the page and hang up; returns the frames that the page has sent, and those that came back."""
    async with tab(browser) as page:
        await page.open_soon("http://localhost:3000")
        await page.until("document.querySelector('#telephone-call')?.disabled === false")
        await page.click("#telephone-call")
        await until(lambda: len(page.payloads("received")) >= 50, WITHIN_S)
        await page.click("#telephone-hang-up")
        await page.until("document.querySelector('#telephone-state').textContent === 'You have hung up.'")
        assert page.console == []
        return page.payloads("sent"), page.payloads("received")
