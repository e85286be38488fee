"""One recording is encoded at a time; what fails, or does not fit in the queue, stays a WAV file and is said once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from full_disk import file_of_at_most
from opus_files import write_speech

from bridge.server.records import encoder as encoder_module
from bridge.server.records import opus_file
from bridge.server.records.encoder import Encoder

DEADLINE_S = 60.0


class Bench:
    """An encoder, and what it says."""

    def __init__(self) -> None:
        self.said: queue.Queue[tuple[str, str, str]] = queue.Queue()
        self.encoder = Encoder(lambda *said: self.said.put(said))

    async def next(self) -> tuple[str, str, str]:
        return await asyncio.to_thread(self.said.get, timeout=DEADLINE_S)


@contextlib.asynccontextmanager
async def encoding() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.encoder.stop()
    assert not bench.encoder._thread.is_alive()
    assert bench.said.empty()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with encoding() as bench:
        yield bench


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program in the place of the encoder's."""

    def put(code: str) -> None:
        path = tmp_path / "program.py"
        path.write_text(code)
        monkeypatch.setattr(opus_file, "__file__", str(path))

    return put


async def test_recordings_are_encoded_in_turn(bench, tmp_path):
    for name in ("1.wav", "2.wav"):
        write_speech(tmp_path / name)
        bench.encoder.put(tmp_path / name)
    assert [await bench.next(), await bench.next()] == [("encoded", "1.wav", ""), ("encoded", "2.wav", "")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.opus", "2.opus"]


async def test_full_disk_is_said(bench, tmp_path):
    write_speech(tmp_path / "call.wav")
    with file_of_at_most(5000):
        bench.encoder.put(tmp_path / "call.wav")
        assert await bench.next() == ("disk_full", "call.wav", "File too large")
    assert [path.name for path in tmp_path.iterdir()] == ["call.wav"]


async def test_file_that_is_no_recording_is_a_fault(bench, tmp_path):
    (tmp_path / "call.wav").write_bytes(b"x" * 1000)
    bench.encoder.put(tmp_path / "call.wav")
    word, name, detail = await bench.next()
    assert (word, name) == ("fault", "call.wav")
    assert "Format not recognised" in detail
    assert [path.name for path in tmp_path.iterdir()] == ["call.wav"]


async def test_program_that_dies_is_a_fault(bench, tmp_path, program):
    program("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    bench.encoder.put(tmp_path / "call.wav")
    assert await bench.next() == ("fault", "call.wav", "exit code -11")


async def test_interpreter_that_is_gone_is_a_fault_and_the_next_is_tried(bench, tmp_path, monkeypatch, logs):
    monkeypatch.setattr(encoder_module.sys, "executable", str(tmp_path / "none"))
    for name in ("1.wav", "2.wav"):
        bench.encoder.put(tmp_path / name)
    assert [await bench.next(), await bench.next()] == [("fault", "1.wav", ""), ("fault", "2.wav", "")]
    assert len(logs.faults()) == 2
    logs.records.clear()


@pytest.mark.parametrize("word", ["busy", "gone", "empty"])
async def test_file_with_nothing_to_do_is_not_said(bench, tmp_path, program, word):
    program(f"import sys; print('encoded' if '2.wav' in sys.argv[1] else {word!r}, '', sep='\\t')")
    for name in ("1.wav", "2.wav"):
        bench.encoder.put(tmp_path / name)
    assert await bench.next() == ("encoded", "2.wav", "")


async def test_program_that_takes_too_long_is_ended(bench, tmp_path, program, monkeypatch):
    monkeypatch.setattr(encoder_module, "MOST_S", 0.01)
    program("import signal; signal.pause()")
    for name in ("1.wav", "2.wav"):
        bench.encoder.put(tmp_path / name)
    for name in ("1.wav", "2.wav"):
        assert await bench.next() == ("behind", name, "takes more than 0 s")


async def started(fifo: Path) -> None:
    """Wait until the program is at work."""
    async with asyncio.timeout(DEADLINE_S):
        assert await asyncio.to_thread(fifo.read_text) == "started"


AT_WORK = "import signal, sys; from pathlib import Path; Path({!r}).write_text('started'); signal.pause()"


async def test_recording_behind_a_full_queue_stays_and_is_said(tmp_path, program, monkeypatch):
    monkeypatch.setattr(encoder_module, "MOST_WAITING", 2)
    os.mkfifo(tmp_path / "fifo")
    program(AT_WORK.format(str(tmp_path / "fifo")))
    async with encoding() as bench:
        bench.encoder.put(tmp_path / "0.wav")
        await started(tmp_path / "fifo")
        for n in range(1, 4):
            bench.encoder.put(tmp_path / f"{n}.wav")
        assert await bench.next() == ("behind", "3.wav", "2 recordings wait")
        # A look takes what fits, and says nothing of the rest.
        bench.encoder.look([tmp_path / "4.wav"], [tmp_path / "4.wav"])


async def test_stop_ends_the_program_and_what_waits_is_not_said(tmp_path, program):
    os.mkfifo(tmp_path / "fifo")
    program(AT_WORK.format(str(tmp_path / "fifo")))
    async with encoding() as bench:
        bench.encoder.put(tmp_path / "1.wav")
        bench.encoder.put(tmp_path / "2.wav")
        await started(tmp_path / "fifo")


async def test_look_takes_each_file_once(bench, tmp_path):
    paths = [tmp_path / "1.wav", tmp_path / "2.wav"]
    for path in paths:
        path.write_bytes(b"x" * 1000)
    for _ in range(2):
        bench.encoder.look(paths, paths)
    assert {(await bench.next())[1] for _ in paths} == {"1.wav", "2.wav"}
    # Meanwhile they look as if they were new.
    bench.encoder.look(paths, [])
    bench.encoder.look(paths, paths)
    # One that is put is tried, though its name is known.
    bench.encoder.put(paths[1])
    assert (await bench.next())[1] == "2.wav"


async def test_program_has_no_secrets(bench, tmp_path, program, monkeypatch):
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "canary-5d11")
    program("import os; print('encoded', 'TWILIO_AUTH_TOKEN' in os.environ, sep='\\t')")
    bench.encoder.put(tmp_path / "call.wav")
    assert await bench.next() == ("encoded", "call.wav", "False")
