"""How much of the agent's audio Twilio has that has not played, by the clock."""

from __future__ import annotations

from bridge.call.heard import BYTES_PER_MS


class Playout:
    """
    Estimates the unplayed audio of one stream, to within one tick.

    Attributes:
        unplayed_s: The estimate as of the last `advance`.
    """

    def __init__(self, now: float) -> None:
        self.unplayed_s = 0.0
        # Audio sent since the last `advance`.
        self._sent_bytes = 0
        self._advanced_at = now

    def add(self, audio_bytes: int) -> None:
        """Audio goes out, or waits for it."""
        self._sent_bytes += audio_bytes

    def advance(self, held_bytes: int, now: float) -> None:
        """Let the time since the last call play; while Twilio does not read, held audio does not."""
        # The time since the last tick counts as played before the audio sent within it is added. The estimate is
        # late by a tick at most, which the margin covers.
        self.unplayed_s = max(0.0, self.unplayed_s - (now - self._advanced_at))
        self.unplayed_s = max(self.unplayed_s + seconds(self._sent_bytes), seconds(held_bytes))
        self._sent_bytes = 0
        self._advanced_at = now

    def restart(self, held_bytes: int = 0) -> None:
        """Only the audio held is left: Twilio has discarded the rest."""
        self.unplayed_s = seconds(held_bytes)
        self._sent_bytes = 0

    def state(self) -> tuple[float, int, float]:
        """All that this object knows, for `restore`."""
        return self.unplayed_s, self._sent_bytes, self._advanced_at

    def restore(self, unplayed_s: float, sent_bytes: int, advanced_at: float) -> None:
        """Go on from a former `state`."""
        self.unplayed_s, self._sent_bytes, self._advanced_at = unplayed_s, sent_bytes, advanced_at


def seconds(audio_bytes: int) -> float:
    """The length of audio of mu-law, 8 kHz."""
    return audio_bytes / 1000 / BYTES_PER_MS
