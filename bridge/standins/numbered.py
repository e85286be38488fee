"""Frames that carry their own number, so that a receiver sees what was lost, doubled, swapped or changed."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from random import Random

MIN_BYTES = 12
# Stream id, number, checksum over both and the filling.
_HEAD = struct.Struct(">III")
_STEP = 251


@cache
def _filling(seed: int) -> bytes:
    return Random(seed).randbytes(2048)


def _checksum(seed: int, n: int, rest: bytes) -> int:
    return zlib.crc32(rest, zlib.crc32(struct.pack(">II", seed, n)))


def make_numbered(n: int, size: int = 160, seed: int = 1) -> bytes:
    """
    Return frame ``n`` of the stream ``seed``.

    Args:
        n: Counts from 0.
        size: Bytes of the frame, at least 12.
        seed: Names the stream, 32 bits; frames of another stream are recognized (crossed calls).
    """
    if size < MIN_BYTES:
        raise ValueError(f"size must be at least {MIN_BYTES} bytes, got {size}")
    source = _filling(seed)
    start = n * _STEP % len(source)
    rest = (source[start:] + source * (size // len(source) + 1))[: size - MIN_BYTES]
    return _HEAD.pack(seed, n, _checksum(seed, n, rest)) + rest


def read_numbered(audio: bytes) -> tuple[int, int] | None:
    """Return the stream and the number of a frame, or None if it is damaged."""
    if len(audio) < MIN_BYTES:
        return None
    seed, n, checksum = _HEAD.unpack_from(audio)
    return (seed, n) if checksum == _checksum(seed, n, audio[MIN_BYTES:]) else None


class NumberedChecker:
    """
    Counts the faults in a stream of numbered frames.

    Attributes:
        received: Frames taken, faulty ones included.
        duplicates: Frames with a number that came before.
        reordered: Frames that came after one with a higher number.
        corrupt: Frames whose checksum is wrong.
        foreign: Sound frames of another stream.
        late: Frames later than ``late_s`` after they were due.
    """

    def __init__(self, seed: int = 1, *, late_s: float = 0.2) -> None:
        self.received = self.duplicates = self.reordered = self.corrupt = self.foreign = self.late = 0
        self._seed = seed
        self._late_s = late_s
        self._seen: set[int] = set()
        self._highest = -1

    def check(self, audio: bytes, *, now: float | None = None, due: float | None = None) -> int | None:
        """Take the next frame; returns its number, None if it has none. Times are for ``late`` only."""
        self.received += 1
        if now is not None and due is not None and now - due > self._late_s:
            self.late += 1
        identity = read_numbered(audio)
        if identity is None:
            self.corrupt += 1
            return None
        seed, n = identity
        if seed != self._seed:
            self.foreign += 1
            return None
        if n in self._seen:
            self.duplicates += 1
        elif n < self._highest:
            self.reordered += 1
        self._seen.add(n)
        self._highest = max(self._highest, n)
        return n

    def lost(self, sent: int | None = None) -> int:
        """Return how many of the ``sent`` frames never came; default: of those up to the highest seen."""
        expected = self._highest + 1 if sent is None else sent
        return max(0, expected - len(self._seen) - self.corrupt)

    def faults(self, sent: int | None = None) -> dict[str, int]:
        """Return every count that is not zero, by name: empty if all is well."""
        counts = {
            "lost": self.lost(sent),
            "duplicates": self.duplicates,
            "reordered": self.reordered,
            "corrupt": self.corrupt,
            "foreign": self.foreign,
            "late": self.late,
        }
        return {name: count for name, count in counts.items() if count}
