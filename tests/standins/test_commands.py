"""``bridge agent`` and ``bridge call`` as a user runs them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import aiohttp
import pytest
from click.testing import CliRunner

from bridge.cli import main
from bridge.standins import commands
from bridge.standins.audio import frames, speech
from bridge.standins.process import free_port
from bridge.standins.twilio.twiml import read_twiml


def bridge(*arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWILIO_")}
    environment |= variables
    command = [sys.executable, "-m", "bridge", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def answering():
    """Serve one fixed answer to every post; yields a function that sets it, and the URL."""

    class Handler(BaseHTTPRequestHandler):
        answer = (200, "text/xml", "<Response/>")

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, content_type, body = type(self).answer
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield Handler, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_busy_bridge_is_reported_as_the_caller_hears_it(answering):
    handler, url = answering
    handler.answer = (200, "text/xml", '<Response><Reject reason="busy"/></Response>')
    done = bridge("call", url)
    assert done.returncode == 1
    assert "the busy tone" in done.stderr


def test_refused_webhook_is_reported_with_its_status(answering):
    handler, url = answering
    handler.answer = (403, "text/plain", "")
    done = bridge("call", url + "/voice")
    assert done.returncode == 1
    assert "403" in done.stderr
    assert "nothing was signed: set TWILIO_AUTH_TOKEN" in done.stderr
    done = bridge("call", url, TWILIO_AUTH_TOKEN="another", TWILIO_ACCOUNT_SID="AC" + 32 * "0")
    assert done.returncode == 1
    assert f"its PUBLIC_URL is not {url} (--public-url)" in done.stderr
    assert "nothing was signed" not in done.stderr


def test_missing_bridge_is_reported_without_a_traceback():
    done = bridge("call", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr and "Traceback" not in done.stderr
    assert "look whether bridge serve runs" in done.stderr


async def test_time_of_the_webhook_leaves_out_the_wait_for_a_bridge_that_starts(monkeypatch):
    refused = aiohttp.ClientConnectorError(None, ConnectionRefusedError())
    answers = [refused, refused, read_twiml(200, "text/xml", "<Response/>")]
    # The bound; twice a try and its refusal; the try that is answered, and its answer.
    times = iter([0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.25])

    class Starting:
        async def post_voice(self):
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(commands, "RETRY_S", 0.0)
    _, took_s = await commands._first_answer(Starting(), lambda: next(times))
    assert took_s == 0.25


def test_wrong_usage_exits_with_2(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no wav")
    assert bridge("call", "127.0.0.1:3000").returncode == 2
    assert bridge("call", "http://127.0.0.1:1", "--wav", str(tmp_path / "a.wav")).returncode == 2
    assert bridge("agent", "--behaviour", "shout").returncode == 2
    assert bridge("agent", "--protocol", "plivo").returncode == 2
    done = bridge("agent", "--protocol", "openai", "--audio-format", "pcm_16000")
    assert done.returncode == 2 and "openai supports only ulaw_8000" in done.stderr


def test_agent_prints_the_settings_and_stops_on_sigterm():
    command = [sys.executable, "-m", "bridge", "agent", "--port", "0", "--key", "abc"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(6)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    text = "".join(lines)
    assert "RETELL_API_KEY=abc" in text
    assert "RETELL_WS_URL=ws://127.0.0.1:" in text and "RETELL_API_URL=http://127.0.0.1:" in text


@contextlib.contextmanager
def agent(*arguments):
    """The output of a running ``bridge agent``, which must exit with 0 on SIGTERM."""
    command = [sys.executable, "-m", "bridge", "agent", "--port", "0", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, **pipes, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        try:
            yield process.stdout
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (
            ["retell-web", "--audio-format", "pcm_16000"],
            ["BRIDGE_AGENT=retell-web", "RETELL_WEB_SAMPLE_RATE=16000"],
        ),
        (["retell-sip"], ["BRIDGE_AGENT=retell-sip", "RETELL_API_URL=http://127.0.0.1:"]),
        (["openai"], ["BRIDGE_AGENT=openai", "OPENAI_REALTIME_URL=ws://127.0.0.1:"]),
        (["elevenlabs"], ["BRIDGE_AGENT=elevenlabs", "ELEVENLABS_WS_URL=ws://127.0.0.1:"]),
        (["deepgram"], ["BRIDGE_AGENT=deepgram", "DEEPGRAM_AGENT_URL=ws://127.0.0.1:"]),
    ],
)
def test_agent_prints_the_settings_of_its_protocol(arguments, settings):
    with agent("--protocol", *arguments) as out:
        missing = set(settings)
        while missing and (line := out.readline()):
            missing -= {setting for setting in missing if setting in line}
    assert not missing


def test_bridge_starts_with_the_printed_settings_alone(tmp_path):
    with agent() as out:
        printed = {}
        while "TWILIO_AUTH_TOKEN" not in printed:
            line = out.readline()
            assert line, printed
            name, separator, value = line.strip().partition("=")
            printed |= {name: value} if separator else {}
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "PORT": "0", **printed}
        command = [sys.executable, "-m", "bridge", "serve"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, **pipes, text=True, env=env, cwd=tmp_path) as bridge_process:
            said = ""
            while '"serving"' not in said and (line := bridge_process.stdout.readline()):
                said += line
            bridge_process.terminate()
            bridge_process.communicate(timeout=10)
    assert '"serving"' in said, said


async def test_agent_without_settings_prints_its_socket_and_its_calls():
    with agent("--protocol", "binary", "--behaviour", "silent") as out:
        first = out.readline()
        assert "its socket is ws://127.0.0.1:" in first and first.endswith("/agent\n")
        async with aiohttp.ClientSession() as http, http.ws_connect(first.split()[-1]) as socket:
            name, _, text = out.readline().partition(": ")
            assert text == "the socket is open\n" and name.startswith("call_")
            await socket.send_bytes(b"a")
            await socket.send_str("x")
        assert out.readline().startswith(
            f"{name}: closed with 1000; 1 frames from the caller, 0 to the caller"
        )
        assert out.readline().startswith(f"{name}: fault: ")


async def test_agent_names_a_registered_call_by_its_call_sid():
    with agent("--protocol", "retell-sip", "--key", "abc") as out:
        url = out.readline().split()[4].rstrip(";")
        body = {"agent_id": "any", "metadata": {"callSid": "CA123"}}
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer abc"}) as http,
            http.post(f"{url}/v2/register-phone-call", json=body) as response,
        ):
            assert response.status == 201
        # The settings come first, however many they are.
        assert any(line.startswith("CA123: registered") for line in out)


def test_help_and_version_exit_with_0():
    runner = CliRunner()
    for arguments in (["--help"], ["--version"], *([name, "--help"] for name in main.commands)):
        assert runner.invoke(main, arguments).exit_code == 0


@pytest.fixture
def echo_bridge():
    """The real server with its built-in echo, signatures off."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TWILIO_", "BRIDGE_", "RETELL_"))
    }
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "serve", "--port", str(port)],
        env=environment | {"BRIDGE_VALIDATE_SIGNATURES": "0"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 15
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_caller_hears_itself_through_an_echo_and_sees_spoilt_audio(echo_bridge, tmp_path):
    out = tmp_path / "heard.wav"
    done = bridge("call", echo_bridge, "--out", str(out), "--expect-echo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "byte for byte" in done.stdout
    assert out.stat().st_size > 2 * 160 * len(list(frames(speech("caller_question"))))
    done = bridge("call", echo_bridge, "--seconds", "2", "--expect-echo", "--inject", "corrupt")
    assert done.returncode == 1
    assert "frame 49 is the first that differs" in done.stderr


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<Response><Connect></Connect></Response>", "12200"),
        ('<Response><Connect><Stream url="https://a/b"/></Connect></Response>', "31922"),
        ('<Response><Connect><Stream url="wss://a/b?c=d"/></Connect></Response>', "31920"),
        ('<Response><Connect><Stream url="wss://a/b" track="both_tracks"/></Connect></Response>', "31941"),
        ("<Response>", "12100"),
        ('<!DOCTYPE r [<!ENTITY a "b">]><Response>&a;</Response>', "12100"),
        ("<html/>", "12200"),
        ("<Response>" + " " * 65536 + "</Response>", "11750"),
        (
            '<Response><Connect><Stream url="wss://a/b">'
            f'<Parameter name="token" value="{"x" * 495}"/></Stream></Connect></Response>',
            "12200",
        ),
    ],
)
def test_twiml_that_twilio_refuses_is_a_problem(body, problem):
    assert read_twiml(200, "text/xml", body).problems[0].startswith(problem)


def test_twiml_of_another_type_or_status_is_a_problem():
    assert read_twiml(200, "text/html", "<Response/>").problems[0].startswith("12300")
    assert read_twiml(500, "text/xml", "<Response/>").problems[0].startswith("11200")
    assert read_twiml(200, "application/xml; charset=utf-8", "<Response/>").problems == []
