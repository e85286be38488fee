"""A stereo WAV file of mu-law that is whole after each write, so that a player takes it however its process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

RATE_HZ, CHANNELS = 8000, 2
# Source: Microsoft, "Multiple channel audio data and WAVE files", and mmreg.h: a format other than PCM has an extension
# length and a fact chunk with the samples of a channel.
MULAW = 7
HEADER = struct.Struct("<4sI4s 4sIHHIIHHH 4sII 4sI")


def header(audio_bytes: int) -> bytes:
    """The header of a file with this much audio of both channels."""
    return HEADER.pack(
        *(b"RIFF", HEADER.size - 8 + audio_bytes, b"WAVE"),
        *(b"fmt ", 18, MULAW, CHANNELS, RATE_HZ, RATE_HZ * CHANNELS, CHANNELS, 8, 0),
        *(b"fact", 4, audio_bytes // CHANNELS),
        *(b"data", audio_bytes),
    )


class WavFile:
    """
    A new file, which only its owner may read. It is locked until it is closed, or its process is gone.

    Raises:
        OSError: It exists, or cannot be made; also by each write. The audio of former writes stays.
    """

    def __init__(self, path: Path) -> None:
        self._audio_bytes = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Some file systems of networks have no locks.
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            self._write(header(0), 0)
        except OSError:
            os.close(self._descriptor)
            path.unlink()
            raise

    def write(self, audio: bytes) -> None:
        """Append audio, then say in the header that it is there."""
        self._write(audio, HEADER.size + self._audio_bytes)
        self._write(header(self._audio_bytes + len(audio)), 0)
        self._audio_bytes += len(audio)

    def close(self) -> None:
        """Close it, without what a failed write has left behind."""
        try:
            os.ftruncate(self._descriptor, HEADER.size + self._audio_bytes)
        finally:
            os.close(self._descriptor)

    def _write(self, data: bytes, offset: int) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(self._descriptor, left, offset)
            offset += written
            left = left[written:]
