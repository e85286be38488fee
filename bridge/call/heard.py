"""How much of an agent's turn the caller has heard, by the marks that Twilio gives back."""

from __future__ import annotations

import re

BYTES_PER_MS = 8
# How often a mark is sent: each is a message to Twilio and one back.
MARK_EVERY_BYTES = 200 * BYTES_PER_MS
# As the caller's wire names them.
MARK_NAME = re.compile(r"g([0-9]{1,10})-([0-9]{1,20})")


class Heard:
    """
    Keeps account of one call; *positions* count the bytes of agent audio that were sent, all turns together.

    Twilio gives a mark back when all before it was played, and all marks at once when it is told to clear: those
    say nothing, and are told by the generation in their names. Between two marks the audio plays on with the
    clock, so that what was heard is known to a part of the interval.
    """

    def __init__(self, now: float) -> None:
        self._generation = 0
        self._played_bytes = 0
        self._played_at = now
        self._turn_began_bytes = 0

    def on_turn(self, sent_bytes: int, now: float) -> None:
        """A new turn of the agent's begins behind what was sent."""
        self._turn_began_bytes = sent_bytes
        if self._heard_bytes(sent_bytes, now) >= sent_bytes:
            self._played_bytes = sent_bytes
            self._played_at = now

    def on_mark(self, name: str, now: float) -> bool:
        """Take a mark that has come back; returns whether it is one of these at all."""
        found = MARK_NAME.fullmatch(name)
        if found is None:
            return False
        if int(found[1]) == self._generation:
            self._played_bytes = max(self._played_bytes, int(found[2]))
            self._played_at = now
        return True

    def on_clear(self, sent_bytes: int, now: float) -> int | None:
        """
        What was not played is cleared.

        Returns:
            How much of the turn was heard, in ms; None if all that was sent of it.
        """
        heard_bytes = self._heard_bytes(sent_bytes, now)
        is_all = heard_bytes >= sent_bytes
        heard_ms = max(0, heard_bytes - self._turn_began_bytes) // BYTES_PER_MS
        self._generation += 1
        self._played_bytes = sent_bytes
        self._played_at = now
        return None if is_all else heard_ms

    def _heard_bytes(self, sent_bytes: int, now: float) -> int:
        elapsed_bytes = round((now - self._played_at) * 1000 * BYTES_PER_MS)
        return min(self._played_bytes + min(elapsed_bytes, MARK_EVERY_BYTES), sent_bytes)
