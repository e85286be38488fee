"""The file of a recording: whole after each write, for its owner alone, and never in place of another."""

from __future__ import annotations

import errno
import fcntl

import pytest
from full_disk import file_of_at_most
from wav_reader import read_stereo

from bridge.server.records.wav import HEADER, WavFile


def test_file_is_whole_after_each_write(tmp_path):
    path = tmp_path / "a.wav"
    file = WavFile(path)
    assert read_stereo(path) == (b"", b"")
    file.write(b"LRlr")
    assert read_stereo(path) == (b"Ll", b"Rr")
    file.write(b"12")
    assert read_stereo(path) == (b"Ll1", b"Rr2")
    file.close()
    assert read_stereo(path) == (b"Ll1", b"Rr2")
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_that_is_there_is_kept(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        WavFile(path)
    assert path.read_bytes() == b"mine"


def test_write_that_fails_leaves_the_audio_of_the_former_ones(tmp_path):
    path = tmp_path / "a.wav"
    file = WavFile(path)
    file.write(b"LRlr")
    # Half of what follows finds room.
    with file_of_at_most(HEADER.size + 7), pytest.raises(OSError) as caught:
        file.write(b"123456")
    assert caught.value.errno == errno.EFBIG
    assert path.stat().st_size == HEADER.size + 7
    assert read_stereo(path, is_whole=False) == (b"Ll", b"Rr")
    file.close()
    assert read_stereo(path) == (b"Ll", b"Rr")


def test_file_without_room_for_its_header_is_not_there(tmp_path):
    with file_of_at_most(HEADER.size - 1), pytest.raises(OSError):
        WavFile(tmp_path / "a.wav")
    assert list(tmp_path.iterdir()) == []


def test_file_is_locked_until_it_is_closed(tmp_path):
    file = WavFile(tmp_path / "a.wav")
    with (tmp_path / "a.wav").open("rb") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        file.close()
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_file_system_without_locks_has_the_recording(tmp_path, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    file = WavFile(tmp_path / "a.wav")
    file.write(b"LR")
    file.close()
    assert read_stereo(tmp_path / "a.wav") == (b"L", b"R")
