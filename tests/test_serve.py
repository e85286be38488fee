"""``bridge serve`` as a process of its own: settings, signals, exit codes."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import Tls
from live import ACCOUNT_SID, AUTH_TOKEN, FACTOR

from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.version import MAJOR, VERSION_KEY
from bridge.standins.process import KEPT, BridgeProcess, free_port, is_ready
from bridge.standins.twilio.caller import Caller

START_S = 20.0 * FACTOR
PRODUCTION = {
    "PUBLIC_URL": "https://voice.example.com",
    "TWILIO_ACCOUNT_SID": ACCOUNT_SID,
    "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
    "BRIDGE_AGENT": "echo",
    "HOST": "127.0.0.1",
    "BRIDGE_DRAIN_GRACE_S": "0",
}
DEVELOPMENT = {"BRIDGE_VALIDATE_SIGNATURES": "0", "BRIDGE_RESUME_LINGER_S": "0"}


class Process(BridgeProcess):
    """A running command of the bridge, with its log as events."""

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def wait_for(self, name: str) -> dict[str, object]:
        """Wait for a line of the log."""
        self.wait_until(lambda: bool(self.events(name)), START_S)
        return self.events(name)[0]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts ``python -m bridge``; what still runs at the end is killed, and that is a failure."""
    processes: list[Process] = []

    def start_one(*arguments: str, before: Callable[[], None] | None = None, **settings: str) -> Process:
        folder = tmp_path / str(len(processes))
        folder.mkdir()
        command = [sys.executable, "-m", "bridge", *arguments]
        processes.append(Process(folder, settings, command=command, before=before))
        return processes[-1]

    yield start_one
    left = [process for process in processes if process.exit_code is None]
    for process in left:
        process.kill()
    assert not left


def test_without_settings_it_names_every_missing_one_and_exits_2(start):
    process = start("serve")
    assert process.wait(START_S) == 2
    for name in (
        "PUBLIC_URL",
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "BRIDGE_AGENT",
    ):
        assert f"- {name}: is missing" in process.log
    assert "Traceback" not in process.log


def test_wrong_settings_are_reported_together_without_secrets(start):
    process = start(
        "serve",
        **PRODUCTION
        | {
            "PORT": "99999",
            "PUBLIC_URL": "voice.example.com",
            "TWILIO_ACCOUNT_SID": "AC1",
            "BRIDGE_STALL_S": "-1",
            "BRIDGE_FALLBACK": "sing",
        },
    )
    assert process.wait(START_S) == 2
    for name in ("PORT", "PUBLIC_URL", "TWILIO_ACCOUNT_SID", "BRIDGE_STALL_S", "BRIDGE_FALLBACK"):
        assert f"- {name}: " in process.log
    assert AUTH_TOKEN not in process.log


def test_misspelled_setting_is_exit_2_with_the_right_name(start):
    process = start("serve", **PRODUCTION, BRIDGE_MAX_CALL="3")
    assert process.wait(START_S) == 2
    assert "  - BRIDGE_MAX_CALL: unknown setting; did you mean BRIDGE_MAX_CALLS?" in process.log


def test_store_of_a_newer_version_is_exit_2_with_what_to_do(start, tmp_path):
    path = tmp_path / "store.sqlite3"

    async def enter_newer_version() -> None:
        store = SqliteStore(path)
        await store.write(VERSION_KEY, str(MAJOR + 1), 60, 0)
        await store.close()

    asyncio.run(enter_newer_version())
    process = start("serve", **PRODUCTION, PORT="0", BRIDGE_STORE=f"sqlite:{path}")
    assert process.wait(START_S) == 2
    assert "install that version, or set BRIDGE_STORE to another store" in process.log
    assert "Traceback" not in process.log


def test_unknown_and_removed_settings_are_a_warning_each(start):
    process = start("serve", **DEVELOPMENT, PORT="0", BRIDGE_COLOUR="red", BRIDGE_CLOSE_S="3")
    process.wait_for("serving")
    reported = [(line["level"], line["detail"]) for line in process.events("check this setting")]
    assert reported == [
        ("warning", "BRIDGE_CLOSE_S: no longer a setting, ignored; the value is always 2"),
        ("warning", "BRIDGE_COLOUR: unknown setting, ignored"),
    ]
    process.send_signal(signal.SIGTERM)
    assert process.wait(START_S) == 0


def test_more_calls_than_the_hard_limit_holds_is_exit_2(start):
    process = start(
        "serve",
        before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2204)),
        BRIDGE_MAX_CALLS="501",
        **PRODUCTION,
    )
    assert process.wait(START_S) == 2
    assert "BRIDGE_MAX_CALLS" in process.log
    assert "at most 500" in process.log


def test_soft_limit_is_raised_as_far_as_needed(start):
    process = start(
        "serve",
        before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2204)),
        PORT="0",
        BRIDGE_MAX_CALLS="500",
        **PRODUCTION,
    )
    process.wait_for("serving")
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (2204, 2204)
    assert process.stop(START_S) == 0


def test_port_in_use_is_exit_1_and_one_clear_line(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = start("serve", PORT=port, **PRODUCTION)
        assert process.wait(START_S) == 1
    [line] = process.events("cannot start")
    assert str(line["port"]) == port
    assert "address already in use" in str(line["error"]).lower()
    assert "Traceback" not in process.log


def test_key_in_place_of_the_host_is_exit_1_and_is_not_printed(start):
    process = start("serve", PORT="0", **PRODUCTION | {"HOST": f"{AUTH_TOKEN}.invalid"})
    assert process.wait(START_S) == 1
    assert len(process.events("cannot start")) == 1
    assert AUTH_TOKEN not in process.log


def test_certificate_that_is_not_there_is_exit_2(start, tmp_path):
    missing = str(tmp_path / "none.pem")
    process = start("serve", PORT="0", BRIDGE_TLS_CERT=missing, BRIDGE_TLS_KEY=missing, **PRODUCTION)
    assert process.wait(START_S) == 2
    assert "BRIDGE_TLS_CERT: cannot be read: No such file or directory" in process.log
    assert "Traceback" not in process.log


def test_development_mode_echoes_what_a_caller_says(start, tmp_path):
    spoken = tmp_path / "spoken.wav"
    with wave.open(str(spoken), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        tone = [round(8000 * math.sin(2 * math.pi * 440 * n / 8000)) for n in range(4000)]
        file.writeframes(struct.pack("<4000h", *tone))
    port = str(free_port())
    server = start("serve", PORT=port, **DEVELOPMENT)
    assert server.wait_for("serving")["host"] == "127.0.0.1"
    assert len([line for line in server.log.splitlines() if "signatures are not checked" in line]) == 1
    heard = tmp_path / "heard.wav"
    caller = start(
        "call", f"http://127.0.0.1:{port}", "--wav", str(spoken), "--out", str(heard), "--expect-echo"
    )
    assert caller.wait(START_S) == 0, caller.log
    with wave.open(str(heard)) as file:
        assert max(struct.unpack(f"<{file.getnframes()}h", file.readframes(file.getnframes()))) > 7000
    assert len(server.events("call ended")) == 1
    assert server.stop(START_S) == 0


async def test_first_signal_drains_and_the_second_one_ends_the_call(start):
    port = free_port()
    server = start("serve", PORT=str(port), **DEVELOPMENT)
    server.wait_for("serving")
    async with Caller(f"http://127.0.0.1:{port}") as caller:
        await caller.post_voice()
        await caller.open_stream()
        await caller.send_media(b"hello")
        server.wait_for("call bridged")
        server.send_signal(signal.SIGTERM)
        server.wait_for("draining")
        async with Caller(f"http://127.0.0.1:{port}") as late:
            assert (await late.post_voice()).verbs == ["Say", "Hangup"]
        await caller.send_media(b"still here")
        server.send_signal(signal.SIGINT)
        await caller.closed.wait()
        assert caller.close_code == 1001
    assert server.wait(START_S) == 0
    assert caller.received_audio == [b"hello", b"still here"]
    assert [line["why"] for line in server.events("call ended")] == ["drained"]


def test_interrupt_from_the_keyboard_ends_it(start):
    process = start("serve", PORT="0", **DEVELOPMENT)
    process.wait_for("serving")
    process.send_signal(signal.SIGINT)
    assert process.wait(START_S) == 0


def test_hangup_signal_reads_the_routes_again_and_keeps_them_where_the_new_ones_are_bad(start, tmp_path):
    routes, agents = tmp_path / "routes.toml", tmp_path / "agents.toml"
    routes.write_text('[[route]]\nagents = ["echo"]\n')
    agents.write_text('[mine]\nurl = "ws://127.0.0.1:1"\nbinary = true\n')
    files = {"BRIDGE_ROUTES_FILE": str(routes), "BRIDGE_AGENTS_FILE": str(agents)}
    server = start("serve", PORT="0", **DEVELOPMENT, BRIDGE_ALLOW_UNSIGNED_AGENT="1", **files)
    server.wait_for("serving")
    routes.write_text('[[route]]\nagents = ["mine", "echo"]\n')
    server.send_signal(signal.SIGHUP)
    assert server.wait_for("reloaded")["agents"] == ["echo", "mine"]
    routes.write_text('[[route]]\nagents = ["parrot"]\n')
    server.send_signal(signal.SIGHUP)
    refused = server.wait_for("reload refused, the former agents and routes stay")
    assert refused["level"] == "error"
    assert "unknown agent 'parrot'" in str(refused["problem"])
    assert len(server.events("reloaded")) == 1
    assert server.stop(START_S) == 0


def test_hangup_signal_reads_the_certificate_again_and_keeps_it_where_the_new_one_is_bad(start, tmp_path):
    tls = Tls(tmp_path)
    files = {name: str(path) for name, path in tls.write().items()}
    server = start("serve", PORT="0", **DEVELOPMENT, **files)
    server.wait_for("serving")
    tls.write()
    server.send_signal(signal.SIGHUP)
    assert server.wait_for("certificate reloaded")["file"] == files["BRIDGE_TLS_CERT"]
    Path(files["BRIDGE_TLS_KEY"]).write_text("")
    server.send_signal(signal.SIGHUP)
    refused = server.wait_for(
        "certificate refused, the former one stays: correct the files and send SIGHUP again"
    )
    assert refused["level"] == "error"
    assert "BRIDGE_TLS_KEY" in str(refused["problem"])
    assert server.stop(START_S) == 0


def close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("closed", [(2,), (0, 1, 2)], ids=["stderr", "all"])
def test_closed_standard_descriptors_are_no_sockets_and_it_ends_with_0(start, closed, workers):
    port = str(free_port())
    settings = PRODUCTION | {"PORT": port, "BRIDGE_WORKERS": workers}
    server = start("serve", before=lambda: close(*closed), **settings)
    server.wait_until(lambda: is_ready(f"http://127.0.0.1:{port}"), START_S)
    open_as = {number: str(Path(f"/proc/{server.pid}/fd/{number}").readlink()) for number in closed}
    assert open_as == dict.fromkeys(closed, os.devnull)
    assert server.stop(START_S) == 0


def test_log_that_nobody_reads_stops_nothing(tmp_path):
    """Requests that leave a line each fill the pipe of the log; all are answered, and the lost lines are counted."""
    port = free_port()
    reader, stderr = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "serve"],
        stdin=subprocess.DEVNULL,
        stderr=stderr,
        cwd=tmp_path,
        env={name: os.environ[name] for name in KEPT if name in os.environ}
        | PRODUCTION
        | {"PORT": str(port), "PYTHONPATH": os.pathsep.join(sys.path), "BRIDGE_METRICS_TOKEN": "token"}
        | {"BRIDGE_VALIDATE_SIGNATURES": "0"},
    )
    os.close(stderr)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)
        began = time.monotonic()
        while True:
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                assert time.monotonic() - began < START_S
                time.sleep(0.05)
        form = f"CallSid=CA{'0' * 32}&AccountSid={PRODUCTION['TWILIO_ACCOUNT_SID']}"
        for _ in range(4000):
            connection.request(
                "POST", "/voice/resume", form, {"Content-Type": "application/x-www-form-urlencoded"}
            )
            answer = connection.getresponse()
            assert answer.status == 200
            answer.read()
        connection.request("GET", "/metrics", headers={"Authorization": "Bearer token"})
        text = connection.getresponse().read().decode()
        found = re.search(r"^bridge_log_lines_dropped_total (\S+)$", text, re.MULTILINE)
        assert found is not None
        assert float(found[1]) > 0
        connection.close()
    finally:
        process.terminate()
        assert process.wait(START_S) == 0
        os.close(reader)
