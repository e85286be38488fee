"""Recordings as files: named, kept for their time, and ended by a full disk, which ends nothing else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from full_disk import file_of_at_most
from opus_files import heard, write_speech
from wav_reader import read_stereo

from _codec import CallAudio, Recorder
from bridge.metrics import Metrics
from bridge.server.records import disk as disk_module
from bridge.server.records import recordings as recordings_module
from bridge.server.records.encoder import REASONS as ENCODING_REASONS
from bridge.server.records.flights import FilesUnavailableError
from bridge.server.records.recordings import REASONS, Recording, Recordings
from bridge.server.records.wav import WavFile

SID, OTHER = "CA" + "1" * 32, "CA" + "2" * 32
# For a process to start, and to record a second.
DEADLINE_S = 30.0
FRAME = base64.b64encode(b"abcdefgh" * 20)
ROOT = Path(__file__).parents[3]


class Bench:
    """The recordings of a process, and calls whose audio they have."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.metrics = Metrics()
        self.recordings = Recordings(directory, 3600.0, self.metrics, **options)

    def start(self, call_sid: str = SID, attempt: int = 0) -> tuple[Recording, CallAudio]:
        # A second of silence comes first.
        recording = self.recordings.start(call_sid, attempt, time.monotonic() - 1)
        audio = CallAudio()
        audio.attach(recording.recorder)
        return recording, audio

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())

    async def written(self) -> None:
        """Wait until the thread has done all that it has."""
        await self.recordings._disk.ask(lambda: None)

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"bridge_{name}", labels)

    def ended(self) -> dict[str, float]:
        counts = {reason: self.count("recordings_total", reason=reason) for reason in REASONS}
        return {reason: count for reason, count in counts.items() if count}

    async def encoded(self, count: int = 1) -> dict[str, float]:
        """Wait until so many encodings are over; returns how many ended how."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                counts = {one: self.count("recordings_encoded_total", reason=one) for one in ENCODING_REASONS}
                if sum(counts.values()) >= count:
                    return {reason: count for reason, count in counts.items() if count}
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(directory: Path, **options: Any) -> AsyncIterator[Bench]:
    bench = Bench(directory, **options)
    yield bench
    await bench.recordings.stop()
    assert bench.count("recordings_open") == 0
    assert bench.count("recording_waiting_bytes") == 0


@pytest.fixture
async def bench(tmp_path) -> AsyncIterator[Bench]:
    async with serving(tmp_path) as bench:
        yield bench


async def test_recording_is_a_file_named_by_call_and_time(bench):
    recording, audio = bench.start(attempt=2)
    assert re.fullmatch(SID + r"-2-20[0-9]{6}T[0-9]{6}Z\.wav", recording.name)
    audio.add_caller(FRAME, time.monotonic())
    audio.add_agent(FRAME, time.monotonic())
    recording.on_tick()
    await bench.written()
    assert bench.names() == [recording.name]
    assert bench.count("recordings_open") == 1
    assert recording.why_early == ""
    audio.add_caller(FRAME, time.monotonic())
    recording.finish()
    await bench.written()
    left, right = read_stereo(bench.directory / recording.name)
    assert left.strip(b"\xff") == b"abcdefgh" * 40
    assert right.strip(b"\xff") == (b"abcdefgh" * 20)[: len(right.strip(b"\xff"))]
    assert len(left) == len(right)
    assert bench.ended() == {"call_ended": 1}
    assert recording.why_early == ""


async def test_second_end_changes_nothing(bench):
    recording, _ = bench.start()
    for _ in range(2):
        recording.finish()
        recording.on_tick()
    await bench.written()
    assert bench.ended() == {"call_ended": 1}


@pytest.mark.parametrize("size_bytes", [10, 58, 200])
async def test_full_disk_ends_the_recording_with_one_line(bench, logs, size_bytes):
    recording, audio = bench.start()
    with file_of_at_most(size_bytes):
        for _ in range(3):
            audio.add_caller(FRAME, time.monotonic())
            recording.on_tick()
            await bench.written()
    recording.finish()
    await bench.written()
    (line,) = logs.lines
    assert "WARNING" in line
    assert "recording is not whole" in line
    assert "reason='disk_full'" in line
    assert recording.why_early == "disk_full"
    assert bench.ended() == {"disk_full": 1}
    if bench.names():
        read_stereo(bench.directory / recording.name)
    # There is room again, and the next call has its recording.
    other, _ = bench.start(OTHER)
    other.finish()
    await bench.written()
    assert bench.ended() == {"disk_full": 1, "call_ended": 1}


async def test_full_disk_at_the_very_end_is_no_whole_recording(bench, logs):
    recording, audio = bench.start()
    audio.add_caller(FRAME, time.monotonic())
    with file_of_at_most(100):
        recording.finish()
        await bench.written()
    assert bench.ended() == {"disk_full": 1}
    assert len(logs.lines) == 1


async def test_directory_that_is_gone_ends_the_recording(tmp_path, logs):
    directory = tmp_path / "gone"
    directory.mkdir()
    async with serving(directory) as bench:
        await bench.written()
        directory.rmdir()
        recording, audio = bench.start()
        audio.add_caller(FRAME, time.monotonic())
        recording.on_tick()
        await bench.written()
        recording.on_tick()
        assert recording.why_early == "disk_error"
        assert "detail='No such file or directory'" in logs.lines[0]


async def test_disk_that_is_too_slow_ends_the_recording(bench, logs, monkeypatch):
    monkeypatch.setattr(disk_module, "MOST_BYTES", 400)
    let_go = threading.Event()
    bench.recordings._disk.put(let_go.wait)
    recording, audio = bench.start()
    for _ in range(3):
        audio.add_caller(FRAME, time.monotonic())
        recording.on_tick()
    assert recording.why_early == "behind"
    assert bench.ended() == {"behind": 1}
    assert bench.count("recording_waiting_bytes") == 320
    let_go.set()
    await bench.written()
    left, _ = read_stereo(bench.directory / recording.name)
    assert left.strip(b"\xff") == b"abcdefgh" * 40
    assert len(logs.lines) == 1


class Broken:
    """A recorder with a fault."""

    def __init__(self, recorder: Recorder) -> None:
        self.position = recorder.position
        self.close = recorder.close

    def take(self) -> None:
        raise RuntimeError("fault of mine")


async def test_fault_ends_the_recording_only(bench, logs, monkeypatch):
    recording, _ = bench.start()
    monkeypatch.setattr(recording, "recorder", Broken(recording.recorder))
    recording.on_tick()
    assert recording.why_early == "fault"
    (fault,) = logs.faults()
    assert "fault in a recording" in fault
    logs.records.clear()


@pytest.mark.parametrize("step", ["add", "take", "take_rest"])
async def test_fault_on_the_thread_ends_the_recording_only(bench, logs, monkeypatch, step):
    def fail(*arguments: object) -> None:
        raise RuntimeError("fault of mine")

    recording, audio = bench.start()
    audio.add_caller(FRAME, time.monotonic())
    recording.on_tick()
    await bench.written()
    audio.add_caller(FRAME, time.monotonic())
    with monkeypatch.context() as patched:
        patched.setattr(recordings_module.Timeline, step, fail)
        recording.on_tick()
        await bench.written()
        recording.finish()
        await bench.written()
    assert bench.ended() == {"fault": 1}
    (fault,) = logs.faults()
    assert recording.name in fault
    logs.records.clear()
    # What it has until then stays, for whoever wants it.
    with (bench.directory / recording.name).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    read_stereo(bench.directory / recording.name)


async def test_old_recordings_are_removed_and_nothing_else_is(tmp_path):
    now = time.time()
    old, new = now - 3601, now - 3500
    files = {
        f"{SID}-0-20260101T000000Z.wav": old,
        f"{SID}-1-20260101T000000Z.wav": new,
        f"{OTHER}-0-20260101T000000Z.wav": old,
        f"{OTHER}-0-20260101T000000Z.opus": old,
        f"{OTHER}-0-20260101T000000Z.opus.part": old,
        f"{SID}-1-20260101T000000Z.opus": new,
        "holiday.wav": old,
        "holiday.opus": old,
        f"{SID}-0-20260101T000000Z.wav.part": old,
        f"{SID}.wav": old,
    }
    for name, at in files.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    async with serving(tmp_path) as bench:
        await bench.written()
        endings = tuple(f"-0-20260101T000000Z.{ending}" for ending in ("wav", "opus", "opus.part"))
        kept = {name for name, at in files.items() if at == new or not name.endswith(endings)}
        assert set(bench.names()) == kept


async def test_old_recording_that_another_process_removes_first_leaves_the_others_to_go(
    tmp_path, monkeypatch, logs
):
    for n in range(3):
        path = tmp_path / f"{SID}-{n}-20260101T000000Z.wav"
        path.touch()
        os.utime(path, (0, 0))
    files = Recordings._files

    def files_and_remove(recordings: Recordings) -> list[Path]:
        found = sorted(files(recordings))
        for path in found[:1]:
            path.unlink()
        return found

    monkeypatch.setattr(Recordings, "_files", files_and_remove)
    async with serving(tmp_path) as bench:
        await bench.written()
        assert bench.names() == []
    assert logs.lines == []


async def test_directory_that_is_missing_is_said_where_old_recordings_would_go(tmp_path, logs):
    async with serving(tmp_path / "none") as bench:
        await bench.written()
    (line,) = logs.lines
    assert "old recordings cannot be removed" in line


async def test_recordings_of_a_call_are_forgotten_and_no_others(bench):
    for call_sid, attempt in ((SID, 0), (SID, 1), (OTHER, 0)):
        bench.start(call_sid, attempt)[0].finish()
    (bench.directory / f"{SID}.txt").touch()
    assert await bench.recordings.forget(SID)
    assert [name[:34] for name in bench.names()] == [SID, OTHER]
    assert not await bench.recordings.forget(SID)


async def test_recording_that_cannot_be_removed_is_an_error(bench, monkeypatch):
    bench.start()[0].finish()

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(FilesUnavailableError):
        await bench.recordings.forget(SID)


async def test_disk_that_does_not_answer_is_an_error(bench, monkeypatch):
    monkeypatch.setattr(recordings_module, "ASK_S", 0.01)
    let_go = threading.Event()
    bench.recordings._disk.put(let_go.wait)
    with pytest.raises(FilesUnavailableError):
        await bench.recordings.forget(SID)
    let_go.set()


@pytest.fixture
async def opus(tmp_path) -> AsyncIterator[Bench]:
    async with serving(tmp_path, is_opus=True) as bench:
        yield bench


async def test_finished_recording_becomes_an_opus_file(opus):
    recording, audio = opus.start()
    assert re.fullmatch(SID + r"-0-20[0-9]{6}T[0-9]{6}Z\.opus", recording.name)
    audio.add_caller(FRAME, time.monotonic())
    recording.on_tick()
    await opus.written()
    # Until the call ends it is as safe as ever.
    assert opus.names() == [recording.name.replace(".opus", ".wav")]
    recording.finish()
    assert await opus.encoded() == {"encoded": 1}
    assert opus.names() == [recording.name]
    assert opus.ended() == {"call_ended": 1}


async def test_recording_that_cannot_be_encoded_stays_with_one_line(opus, logs):
    recording, _ = opus.start()
    (opus.directory / f"{recording.name}.part").mkdir()
    recording.finish()
    assert await opus.encoded() == {"disk_error": 1}
    (opus.directory / f"{recording.name}.part").rmdir()
    name = recording.name.replace(".opus", ".wav")
    assert opus.names() == [name]
    # It is a whole recording all the same.
    assert opus.ended() == {"call_ended": 1}
    (line,) = logs.lines
    assert "WARNING" in line
    assert "recording stays a WAV file" in line
    assert name in line
    assert "reason='disk_error'" in line


async def test_recordings_of_a_dead_process_are_encoded_and_those_of_others_are_not(tmp_path):
    left, young, live = (f"{SID}-{n}-20260101T000000Z" for n in range(3))
    original = write_speech(tmp_path / f"{left}.wav", is_old=True)
    changed_at = (tmp_path / f"{left}.wav").stat().st_mtime
    write_speech(tmp_path / f"{young}.wav")
    write_speech(tmp_path / "holiday.wav", is_old=True)
    file = WavFile(tmp_path / f"{live}.wav")
    os.utime(tmp_path / f"{live}.wav", (changed_at, changed_at))
    async with serving(tmp_path, is_opus=True) as bench:
        assert await bench.encoded() == {"encoded": 1}
        # Nothing comes after what the look found.
        bench.start(OTHER)[0].finish()
        assert await bench.encoded(2) == {"encoded": 2}
        others = {name for name in bench.names() if not name.startswith(OTHER)}
        assert others == {f"{left}.opus", f"{young}.wav", f"{live}.wav", "holiday.wav"}
        assert (tmp_path / f"{left}.opus").stat().st_mtime == changed_at
        heard(original, tmp_path / f"{left}.opus")
    file.close()


async def test_recording_that_is_encoded_meanwhile_is_forgotten_too(bench, monkeypatch):
    name = bench.directory / f"{SID}-0-20260101T000000Z"
    part, opus = name.with_suffix(".opus.part"), name.with_suffix(".opus")
    part.touch()
    files = bench.recordings._files

    def files_and_rename() -> list[Path]:
        found = files()
        if part.exists():
            part.rename(opus)
        return found

    monkeypatch.setattr(bench.recordings, "_files", files_and_rename)
    assert await bench.recordings.forget(SID)
    assert bench.names() == []


KILLED = f"""
import sys, time
sys.path[:0] = {[str(ROOT)]!r}
from pathlib import Path
from _codec import CallAudio
from bridge.metrics import Metrics
from bridge.server.records.recordings import Recordings
recordings = Recordings(Path(sys.argv[1]), 3600.0, Metrics())
recording = recordings.start({SID!r}, 0, time.monotonic())
audio = CallAudio()
audio.attach(recording.recorder)
while True:
    audio.add_caller({FRAME!r}, time.monotonic())
    audio.add_agent({FRAME!r}, time.monotonic())
    recording.on_tick()
    time.sleep(0.001)
"""


def test_file_of_a_killed_process_plays(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    try:
        # Somewhere in the middle of its writes.
        deadline = time.monotonic() + DEADLINE_S
        while not any(path.stat().st_size > 20_000 for path in tmp_path.iterdir()):
            assert time.monotonic() < deadline
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (path,) = tmp_path.iterdir()
    left, right = read_stereo(path, is_whole=False)
    assert len(left) == len(right) >= 9_000
    assert set(left) <= {0xFF, *b"abcdefgh"}
    assert b"abcdefgh" * 1000 in left
