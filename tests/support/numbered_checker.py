"""Reads numbered frames, and counts the faults in a stream of them."""

from __future__ import annotations

import struct

from bridge.standins.numbered import MIN_BYTES, make_numbered


def read_numbered(audio: bytes) -> tuple[int, int] | None:
    """Return the stream and the number of a frame, or None if it is damaged."""
    if len(audio) < MIN_BYTES:
        return None
    seed, n = struct.unpack_from(">II", audio)
    return (seed, n) if audio == make_numbered(n, len(audio), seed) else None


class NumberedChecker:
    """
    Counts the faults in a stream of numbered frames.

    Attributes:
        received: All frames, faulty ones included.
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
        """Count the next frame; returns its number, None if it has none. Only ``late`` needs the times."""
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
        """Return the number of missing frames out of ``sent``; by default out of those up to the highest seen."""
        expected = self._highest + 1 if sent is None else sent
        return max(0, expected - len(self._seen) - self.corrupt)

    def faults(self, sent: int | None = None) -> dict[str, int]:
        """Return the counts above zero, by name."""
        counts = {
            "lost": self.lost(sent),
            "duplicates": self.duplicates,
            "reordered": self.reordered,
            "corrupt": self.corrupt,
            "foreign": self.foreign,
            "late": self.late,
        }
        return {name: count for name, count in counts.items() if count}
