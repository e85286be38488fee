"""How much of an agent's turn the caller has heard, by the marks that Twilio echoes."""

from __future__ import annotations

from _codec import MARK_NAME

BYTES_PER_MS = 8
# How often a mark is sent: each is a message to Twilio and one back.
MARK_EVERY_BYTES = 200 * BYTES_PER_MS


class Heard:
    """
    Counts one call's heard audio; *positions* count the bytes of agent audio that were sent, all turns together.

    Twilio echoes a mark once the audio before it has played, and echoes all pending marks on `clear`. Marks echoed by
    a clear carry an older generation and are ignored. Between two marks the audio plays on with the clock, so that
    the estimate is exact to a part of the interval.
    """

    def __init__(self, now: float) -> None:
        self._generation = 0
        self._played_bytes = 0
        self._played_at = now
        self._turn_began_bytes = 0
        # Whether a lost stream took a part of the turn with it, which is not heard any more.
        self._is_cut = False

    def on_turn(self, sent_bytes: int, now: float) -> None:
        """A new turn of the agent begins behind the audio sent so far."""
        self._turn_began_bytes = sent_bytes
        self._is_cut = False
        if self._heard_bytes(sent_bytes, now) >= sent_bytes:
            self._played_bytes = sent_bytes
            self._played_at = now

    def on_mark(self, name: str, now: float) -> bool:
        """Count an echoed mark; returns whether it is one of the audio's marks."""
        found = MARK_NAME.fullmatch(name)
        if found is None:
            return False
        if int(found[1]) == self._generation:
            self._played_bytes = max(self._played_bytes, int(found[2]))
            self._played_at = now
        return True

    def on_clear(self, sent_bytes: int, held_bytes: int, now: float) -> int | None:
        """
        Twilio discards the unplayed audio, and the bridge what it held.

        Returns:
            How much of the turn the caller heard, in ms; None if all of it.
        """
        heard_bytes = self._heard_bytes(sent_bytes, now)
        is_all = heard_bytes >= sent_bytes and held_bytes == 0 and not self._is_cut
        heard_ms = max(0, heard_bytes - self._turn_began_bytes) // BYTES_PER_MS
        self._generation += 1
        self._played_bytes = sent_bytes
        self._played_at = now
        self._is_cut = False
        return None if is_all else heard_ms

    def on_lost(self, sent_bytes: int, now: float) -> int:
        """
        The stream is gone with its unplayed audio: from now on positions count the audio sent on the next one.

        Returns:
            The bytes sent since the last echoed mark, of which nobody can know whether they were heard.
        """
        unknown_bytes = sent_bytes - self._played_bytes
        heard_bytes = self._heard_bytes(sent_bytes, now)
        if self._turn_began_bytes >= sent_bytes:
            # The turn begins within the audio held for the next stream.
            self._turn_began_bytes -= sent_bytes
        else:
            self._is_cut = heard_bytes < sent_bytes
            self._turn_began_bytes = min(0, self._turn_began_bytes - heard_bytes)
        self._played_bytes = 0
        return unknown_bytes

    def on_next_stream(self, now: float) -> None:
        """The next stream begins, whose marks begin with generation 0."""
        self._generation = 0
        self._played_at = now

    def _heard_bytes(self, sent_bytes: int, now: float) -> int:
        elapsed_bytes = round((now - self._played_at) * 1000 * BYTES_PER_MS)
        return min(self._played_bytes + min(elapsed_bytes, MARK_EVERY_BYTES), sent_bytes)
