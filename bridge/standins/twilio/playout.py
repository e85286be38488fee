"""Twilio's playout: it buffers audio, plays it in order, echoes marks, clears."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from bridge.standins.audio import SAMPLE_RATE_HZ, SILENCE

# Source: Twilio error 31931: more than ten minutes of queued audio overflow, what is above is discarded.
MAX_BUFFERED_BYTES = 600 * SAMPLE_RATE_HZ


class Cleared(NamedTuple):
    """Audio that a ``clear`` threw away before it was played."""

    at: float
    audio: bytes


class Playout:
    """
    One caller's playout buffer; no I/O and no clock, every call brings the time.

    Args:
        now: When the stream began: the zero of the timeline.

    Attributes:
        heard: What the caller has heard since ``now``, silence where nothing played.
        cleared: What each ``clear`` threw away, also if it was nothing.
        overflowed_bytes: Audio beyond ten minutes in the buffer, discarded.
    """

    def __init__(self, now: float) -> None:
        self.heard = bytearray()
        self.cleared: list[Cleared] = []
        self.overflowed_bytes = 0
        self._started = now
        self._queue: deque[bytes] = deque()
        self._marks: deque[tuple[int, str]] = deque()
        # Bytes ever added to the buffer, and ever gone from it; a mark stands at the first count.
        self._added = 0
        self._gone = 0

    @property
    def cleared_bytes(self) -> int:
        """All that was thrown away before it was played."""
        return sum(len(cleared.audio) for cleared in self.cleared)

    @property
    def buffered_bytes(self) -> int:
        """Audio that waits to be played, as of the last call that brought the time."""
        return self._added - self._gone

    def add(self, audio: bytes, now: float) -> None:
        """Append audio behind what is buffered; it plays at once if nothing is."""
        self.advance(now)
        room = MAX_BUFFERED_BYTES - self.buffered_bytes
        self.overflowed_bytes += max(0, len(audio) - room)
        audio = audio[:room]
        if audio:
            self._queue.append(audio)
            self._added += len(audio)

    def mark(self, name: str, now: float) -> None:
        """Put a mark behind what is buffered; ``take_marks`` gives it back when all of that has played."""
        self.advance(now)
        self._marks.append((self._added, name))

    def clear(self, now: float) -> list[str]:
        """Throw away what is buffered; returns every mark that was outstanding, in order."""
        self.advance(now)
        self.cleared.append(Cleared(now, b"".join(self._queue)))
        self._queue.clear()
        self._gone = self._added
        names = [name for _, name in self._marks]
        self._marks.clear()
        return names

    def take_marks(self, now: float) -> list[str]:
        """Return the marks whose audio has all been played by now, each once."""
        self.advance(now)
        names = []
        while self._marks and self._marks[0][0] <= self._gone:
            names.append(self._marks.popleft()[1])
        return names

    def advance(self, now: float) -> None:
        """Play up to this moment."""
        # Rounded, or the byte that a deadline stands for would be one short at that very deadline.
        left = round((now - self._started) * SAMPLE_RATE_HZ) - len(self.heard)
        while left > 0 and self._queue:
            audio = self._queue.popleft()
            if len(audio) > left:
                self._queue.appendleft(audio[left:])
                audio = audio[:left]
            self.heard += audio
            self._gone += len(audio)
            left -= len(audio)
        if left > 0:
            self.heard += SILENCE * left

    def next_deadline(self) -> float | None:
        """Return when the first outstanding mark is due, None if there is none."""
        if not self._marks:
            return None
        return self._started + (len(self.heard) + self._marks[0][0] - self._gone) / SAMPLE_RATE_HZ

    def plays_until(self) -> float:
        """Return when the buffer is empty if nothing more comes."""
        return self._started + (len(self.heard) + self.buffered_bytes) / SAMPLE_RATE_HZ
