"""
Puts an Ogg Opus file in the place of a WAV file: ``python opus_file.py CALL.wav``.

A program of its own, which imports nothing of the project: what it takes slows nobody who waits for the interpreter
lock, its memory goes with it, and a fault in the encoder ends no call. It prints a line: a word of those below, a tab
and what the system says.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
from pathlib import Path
from types import FrameType

ENCODED = "encoded"
# Another process writes or encodes it, somebody removed it, or it has no audio: nothing is to do.
BUSY, GONE, EMPTY = "busy", "gone", "empty"
DISK_FULL, DISK_ERROR = "disk_full", "disk_error"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# The exit code after SIGTERM.
STOPPED = 143
# A second of both channels at a time.
BLOCK_FRAMES = 8000
LEAST_PRIORITY = 19


def encode(wav: Path) -> tuple[str, str]:
    """
    Put NAME.opus in the place of NAME.wav; what fails leaves the WAV file.

    Returns:
        One of the words, and the system's.
    """
    try:
        with wav.open("rb") as source:
            # Held until the end. Who writes the file has it, too.
            fcntl.flock(source, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(source.fileno()).st_nlink:
                return GONE, ""
            return _replace(wav, source.fileno()), ""
    except BlockingIOError:
        return BUSY, ""
    except FileNotFoundError:
        return GONE, ""
    except OSError as error:
        return (DISK_FULL if error.errno in FULL else DISK_ERROR), str(error.strerror)


def _replace(wav: Path, source: int) -> str:
    opus, part = wav.with_suffix(".opus"), wav.with_suffix(".opus.part")
    times = os.fstat(source)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        target = os.open(part, flags, 0o600)
        try:
            if not _write(source, target):
                return EMPTY
            # The WAV file is removed now, and a host that loses power must not lose both.
            os.fsync(target)
            # It is kept as long as the WAV file would be.
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
            part.rename(opus)
        finally:
            os.close(target)
    finally:
        part.unlink(missing_ok=True)
    try:
        wav.unlink()
    except FileNotFoundError:
        # Somebody removed the recording meanwhile.
        opus.unlink(missing_ok=True)
        return GONE
    return ENCODED


def _write(source: int, target: int) -> int:
    """Write the audio of one open file to another; returns the frames of it."""
    import soundfile

    try:
        with soundfile.SoundFile(source, closefd=False) as wav:
            if not wav.frames:
                return 0
            # The bit rate is libsndfile's default, some 41 kbit/s. With less Opus joins the channels, and each side is
            # heard on the other's: 32 dB below it at 28 kbit/s, 53 dB at the default.
            with soundfile.SoundFile(
                target, "w", wav.samplerate, wav.channels, "OPUS", format="OGG", closefd=False
            ) as opus:
                while block := wav.buffer_read(BLOCK_FRAMES, dtype="int16"):
                    opus.buffer_write(block, dtype="int16")
            os.lseek(target, 0, os.SEEK_SET)
            # libsndfile may not report an end that cannot be written.
            with soundfile.SoundFile(target, closefd=False) as opus:
                if opus.frames != wav.frames:
                    raise soundfile.SoundFileRuntimeError(f"{opus.frames} of {wav.frames} frames are written")
            return int(wav.frames)
    except soundfile.SoundFileRuntimeError:
        # libsndfile does not say what is wrong with the disk; the system does when more is written.
        os.pwrite(target, bytes(BLOCK_FRAMES), os.fstat(target).st_size)
        raise


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(STOPPED)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    os.nice(LEAST_PRIORITY)
    print(*encode(Path(sys.argv[1])), sep="\t")  # noqa: T201
