"""The example of an agent in a distribution of its own: installed with pip, and a call with it on real sockets."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from live import Live, until

from bridge.agents.agent import CallInfo, Control, Reply, Resources, StreamInfo
from bridge.agents.directory import DirectoryError, open_directory
from bridge.standins.numbered import make_numbered

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "acme_agent"
KEY = "canary-acme-key-2b91"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed in it."""
    folder = tmp_path_factory.mktemp("example")
    # A build writes beside its sources.
    source = shutil.copytree(EXAMPLE, folder / "source")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    done = subprocess.run([*command, "--target", folder / "site", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    yield
    sys.modules.pop("acme_agent", None)


@pytest.mark.usefixtures("installed")
def test_example_is_an_agent_that_wants_its_key():
    assert distribution("acme-agent").read_text("entry_points.txt") is not None
    with pytest.raises(DirectoryError) as caught:
        open_directory(["acme"], "", "", {})
    assert caught.value.problems == [("acme_key", "ACME_KEY: is missing: get it from Acme's console")]


def test_agent_of_the_documentation_works_as_it_stands_there():
    [source] = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "agents" / "own.md").read_text(), re.DOTALL
    )
    imports = (
        "from bridge import *",
        "from collections.abc import Iterable, Mapping",
        "from pydantic import Field, SecretStr",
        "from typing import Any",
    )
    module: dict[str, Any] = {"__name__": "acme"}
    exec(compile("\n".join([*imports, source]), "docs/agents/own.md", "exec", dont_inherit=True), module)
    settings = module["AGENT"].settings(acme_key="key")
    described = module["AGENT"].describe(settings, Resources(None, 1.0))
    call = CallInfo("CA", "+1", "+2")
    assert described.endpoint({}, call).headers == {"Authorization": "Bearer key"}
    stream = StreamInfo(call, "AC", "MZ", {}, True)
    dialogue = described.dialogue(stream, lambda: 1)
    assert list(dialogue.read(b'{"type":"configured"}')) == [Control.READY]
    assert list(dialogue.read(b'{"type":"ping","id":7}')) == [Reply(b'{"type":"pong","id":7}')]


@pytest.fixture
async def live(installed: None, live_server, unused_tcp_port: int) -> Live:
    return await live_server(
        agent={"protocol": "json", "port": unused_tcp_port},
        BRIDGE_AGENT="acme",
        ACME_KEY=KEY,
        ACME_URL=f"ws://127.0.0.1:{unused_tcp_port}/agent",
    )


async def test_example_carries_a_call_from_the_first_word_to_the_goodbye(live: Live, logs):
    question = [make_numbered(n) for n in range(50)]
    answer = [make_numbered(n) for n in range(50, 120)]
    async with live.bridged() as (caller, session):
        await asyncio.gather(
            caller.send_frames(question, paced=False), session.send_frames(answer, paced=False)
        )
        await until(lambda: caller.received_audio == answer)
        await until(lambda: [item.audio for item in session.received] == question)
        await session.send_interrupt()
        await until(lambda: caller.received[-1].message.event == "clear")
        await session.send_audio(make_numbered(120))
        await until(lambda: caller.received_audio == [*answer, make_numbered(120)])
        await session.send_call_ended()
        await caller.closed.wait()
        assert caller.close_code == 1000
        assert caller.warnings == []
        assert (await caller.follow_redirect()).verbs == ["Hangup"]
    assert not any(KEY in line for line in logs.lines)
