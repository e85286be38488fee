"""A bridge started as a process: ready, stopped, and the error if it cannot start."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from bridge.standins.process import BridgeError, BridgeProcess, free_port, is_ready

DEVELOPMENT = {"BRIDGE_VALIDATE_SIGNATURES": "0", "BRIDGE_RESUME_LINGER_S": "0"}


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


def test_bridge_is_ready_and_stops_with_exit_code_0(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with BridgeProcess(tmp_path, DEVELOPMENT | {"PORT": str(port)}) as bridge:
        bridge.wait_ready(url)
        assert is_ready(url)
        assert bridge.exit_code is None
        assert bridge.stop() == 0
    assert not is_ready(url)


def test_bridge_that_refuses_its_settings_is_an_error_with_the_log(tmp_path: Path) -> None:
    with (
        BridgeProcess(tmp_path, {"PORT": "many"}) as bridge,
        pytest.raises(BridgeError, match=r"(?s)exit code 2 before it was ready.*\| .*PORT"),
    ):
        bridge.wait_ready(f"http://127.0.0.1:{free_port()}")


def test_bridge_that_never_answers_is_an_error_after_the_time_and_is_killed(tmp_path: Path) -> None:
    program = "import threading; print('starting', flush=True); threading.Event().wait()"
    with BridgeProcess(tmp_path, {}, command=python(program)) as bridge:
        bridge.wait_until(lambda: "starting" in bridge.log)
        with pytest.raises(BridgeError, match=r"(?s)not ready within 0\.1 s.*starting"):
            bridge.wait_ready(f"http://127.0.0.1:{free_port()}", 0.1)
    assert bridge.exit_code == -9


def test_bridge_that_ignores_the_signal_is_an_error(tmp_path: Path) -> None:
    program = (
        "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', flush=True); threading.Event().wait()"
    )
    with BridgeProcess(tmp_path, {}, command=python(program)) as bridge:
        bridge.wait_until(lambda: "deaf" in bridge.log)
        with pytest.raises(BridgeError, match=r"still runs after 0\.1 s"):
            bridge.stop(0.1)


def test_kill_ends_a_wait_in_another_thread(tmp_path: Path) -> None:
    errors: list[str] = []
    with BridgeProcess(tmp_path, {}, command=python("import threading; threading.Event().wait()")) as bridge:

        def wait() -> None:
            try:
                bridge.wait_until(lambda: False)
            except BridgeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=wait)
        thread.start()
        bridge.kill()
        thread.join(10)
    assert errors == ["exit code -9 before it was ready\n"]


def test_environment_has_the_settings_and_nothing_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIDGE_AGENT", "users")
    command = python("import os; print(sorted(n for n in os.environ if 'BRIDGE' in n))")
    with BridgeProcess(tmp_path, {"BRIDGE_MAX_CALLS": "1"}, command=command) as bridge:
        assert bridge.wait() == 0
    assert bridge.log == "['BRIDGE_MAX_CALLS', 'BRIDGE_STATE_DIR']\n"
