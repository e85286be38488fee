"""An Opus file takes the place of a WAV file if it has all of it, and of none that is still written or removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from full_disk import file_of_at_most
from opus_files import heard, write_speech

from bridge.server.records import opus_file
from bridge.server.records.opus_file import encode
from bridge.server.records.wav import WavFile

PROGRAM = [sys.executable, "-P", opus_file.__file__]
DEADLINE_S = 60.0


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_speech_stays_in_its_place_and_as_loud(tmp_path):
    original = write_speech(tmp_path / "call.wav", is_old=True)
    changed_at = (tmp_path / "call.wav").stat().st_mtime_ns
    assert encode(tmp_path / "call.wav") == ("encoded", "")
    assert names(tmp_path) == ["call.opus"]
    for side in heard(original, tmp_path / "call.opus"):
        assert abs(side.late_s) <= 0.02
        assert abs(side.louder_db) <= 1.0
    status = (tmp_path / "call.opus").stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_mtime_ns == changed_at


def test_program_says_what_it_does(tmp_path):
    write_speech(tmp_path / "call.wav")
    run = [*PROGRAM, str(tmp_path / "call.wav")]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    assert (done.stdout, done.stderr) == ("encoded\t\n", "")
    assert names(tmp_path) == ["call.opus"]


@pytest.mark.parametrize("size_bytes", [0, 10, 5000, 50_000])
def test_full_disk_leaves_the_wav_file(tmp_path, size_bytes):
    write_speech(tmp_path / "call.wav")
    with file_of_at_most(size_bytes):
        assert encode(tmp_path / "call.wav") == ("disk_full", "File too large")
    assert names(tmp_path) == ["call.wav"]
    assert encode(tmp_path / "call.wav") == ("encoded", "")


def test_disk_that_takes_all_but_the_last_byte_is_full(tmp_path):
    write_speech(tmp_path / "other.wav")
    write_speech(tmp_path / "call.wav")
    encode(tmp_path / "other.wav")
    with file_of_at_most((tmp_path / "other.opus").stat().st_size - 1):
        assert encode(tmp_path / "call.wav") == ("disk_full", "File too large")
    assert names(tmp_path) == ["call.wav", "other.opus"]


def test_file_that_is_still_written_is_left_alone(tmp_path):
    file = WavFile(tmp_path / "call.wav")
    file.write(b"\xff" * 16_000)
    assert encode(tmp_path / "call.wav") == ("busy", "")
    file.close()
    assert encode(tmp_path / "call.wav") == ("encoded", "")


def test_file_without_audio_stays(tmp_path):
    WavFile(tmp_path / "call.wav").close()
    assert encode(tmp_path / "call.wav") == ("empty", "")
    assert names(tmp_path) == ["call.wav"]


def test_file_that_is_not_there_is_gone(tmp_path):
    assert encode(tmp_path / "call.wav") == ("gone", "")
    assert names(tmp_path) == []


@pytest.mark.parametrize("removed", ["call.wav", "call.opus.part"])
def test_recording_that_is_removed_meanwhile_does_not_come_back(tmp_path, monkeypatch, removed):
    write = opus_file._write

    def write_and_remove(source: int, target: int) -> int:
        frames = write(source, target)
        (tmp_path / removed).unlink()
        return frames

    monkeypatch.setattr(opus_file, "_write", write_and_remove)
    write_speech(tmp_path / "call.wav")
    assert encode(tmp_path / "call.wav") == ("gone", "")
    assert "call.opus" not in names(tmp_path)


def test_file_that_another_process_has_just_encoded_is_gone(tmp_path, monkeypatch):
    write_speech(tmp_path / "call.wav")
    lock = opus_file.fcntl.flock

    def lock_late(file: object, how: int) -> None:
        (tmp_path / "call.wav").unlink()
        (tmp_path / "call.opus").write_bytes(b"what the other has made")
        lock(file, how)

    monkeypatch.setattr(opus_file.fcntl, "flock", lock_late)
    assert encode(tmp_path / "call.wav") == ("gone", "")
    assert names(tmp_path) == ["call.opus"]
    assert (tmp_path / "call.opus").read_bytes() == b"what the other has made"


def test_file_of_a_crash_is_written_anew(tmp_path):
    original = write_speech(tmp_path / "call.wav")
    (tmp_path / "call.opus.part").write_bytes(b"x" * 1_000_000)
    assert encode(tmp_path / "call.wav") == ("encoded", "")
    heard(original, tmp_path / "call.opus")
    assert names(tmp_path) == ["call.opus"]
    # Nothing of the former file is left behind the audio.
    assert (tmp_path / "call.opus").stat().st_size < 1_000_000


def test_directory_that_may_not_be_written_is_an_error_of_the_disk(tmp_path, monkeypatch):
    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    write_speech(tmp_path / "call.wav")
    monkeypatch.setattr(opus_file.os, "open", refuse)
    assert encode(tmp_path / "call.wav") == ("disk_error", "Permission denied")


def test_program_that_is_stopped_leaves_the_wav_file_alone(tmp_path):
    # Too long to be done before the signal.
    write_speech(tmp_path / "call.wav", repeats=30)
    process = subprocess.Popen([*PROGRAM, str(tmp_path / "call.wav")], stdout=subprocess.DEVNULL)
    while not (tmp_path / "call.opus.part").exists():
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == opus_file.STOPPED
    assert names(tmp_path) == ["call.wav"]
