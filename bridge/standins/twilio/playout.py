"""Twilio's playout: it buffers audio, plays it in order, echoes marks, clears."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from bridge.standins.audio import SAMPLE_RATE_HZ, SILENCE

# Source: Twilio error 31931: audio beyond ten minutes in the queue is discarded.
MAX_BUFFERED_BYTES = 600 * SAMPLE_RATE_HZ


class Cleared(NamedTuple):
    """Unplayed audio discarded by a ``clear``."""

    at: float
    audio: bytes


class Playout:
    """
    One caller's playout buffer, without I/O or a clock: every call passes the time.

    Args:
        now: Start of the stream.

    Attributes:
        heard: Audio heard since the start, with silence where nothing played.
        cleared: The audio discarded by each ``clear``, empty audio included.
        overflowed_bytes: Audio beyond ten minutes in the buffer, discarded.
    """

    def __init__(self, now: float) -> None:
        self.heard = bytearray()
        self.cleared: list[Cleared] = []
        self.overflowed_bytes = 0
        self._started = now
        self._queue: deque[bytes] = deque()
        self._marks: deque[tuple[int, str]] = deque()
        # Total bytes added to the buffer and gone from it; a mark has the first count at its arrival.
        self._added = 0
        self._gone = 0

    @property
    def cleared_bytes(self) -> int:
        """Bytes discarded unplayed."""
        return sum(len(cleared.audio) for cleared in self.cleared)

    @property
    def buffered_bytes(self) -> int:
        """Unplayed bytes at the time of the last call."""
        return self._added - self._gone

    def add(self, audio: bytes, now: float) -> None:
        """Append audio; it plays at once if the buffer is empty."""
        self.advance(now)
        room = MAX_BUFFERED_BYTES - self.buffered_bytes
        self.overflowed_bytes += max(0, len(audio) - room)
        audio = audio[:room]
        if audio:
            self._queue.append(audio)
            self._added += len(audio)

    def mark(self, name: str, now: float) -> None:
        """Append a mark; ``take_marks`` returns it once the audio before it has played."""
        self.advance(now)
        self._marks.append((self._added, name))

    def clear(self, now: float) -> list[str]:
        """Discard unplayed audio; returns all pending marks, in order."""
        self.advance(now)
        self.cleared.append(Cleared(now, b"".join(self._queue)))
        self._queue.clear()
        self._gone = self._added
        names = [name for _, name in self._marks]
        self._marks.clear()
        return names

    def take_marks(self, now: float) -> list[str]:
        """Return the marks whose audio has played by now, each once."""
        self.advance(now)
        names = []
        while self._marks and self._marks[0][0] <= self._gone:
            names.append(self._marks.popleft()[1])
        return names

    def advance(self, now: float) -> None:
        """Play until this time."""
        # Rounded, because truncation would leave one byte unplayed at its deadline.
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
        """Return when the first pending mark is due; None without one."""
        if not self._marks:
            return None
        return self._started + (len(self.heard) + self._marks[0][0] - self._gone) / SAMPLE_RATE_HZ

    def plays_until(self) -> float:
        """Return when the buffered audio ends."""
        return self._started + (len(self.heard) + self.buffered_bytes) / SAMPLE_RATE_HZ
