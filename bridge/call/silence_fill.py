"""
When silence goes to an agent in place of a caller's audio that pauses, and how fast late audio may follow.

Pure: looks come from a timer of the agent's leg. Nothing happens per frame, so a call whose audio flows stays on the
native path.
"""

from __future__ import annotations

from base64 import b64encode
from typing import NamedTuple

BYTES_PER_S = 8000
# Silence goes out in frames of this length.
FRAME_S = 0.02
FRAME_BYTES = round(FRAME_S * BYTES_PER_S)
SILENCE = b64encode(b"\xff" * FRAME_BYTES)
# Between two looks while audio flows: what a frame's time is known to. A short one costs the process for nothing.
LOOK_S = 0.04
# Late audio goes this much faster than it is spoken.
MOST_SPEED = 2
# What may go at once beyond that: twice what comes between two looks.
MOST_AHEAD_BYTES = round(MOST_SPEED * LOOK_S * BYTES_PER_S)


class Look(NamedTuple):
    """
    What one look decides.

    Attributes:
        ahead_bytes: Audio that went out beyond what `MOST_SPEED` allows so far; from `MOST_AHEAD_BYTES` on, audio is
            held.
        is_silence_due: A frame of silence is due.
        next_at: The time of the next look.
    """

    ahead_bytes: int
    is_silence_due: bool
    next_at: float


class SilenceFill:
    """
    Follows the audio to one agent by the number of bytes sent.

    Silence begins 60 to 100 ms after the last audio for a ``pause_ms`` of 100: the last look before it may come just
    after the audio, or `LOOK_S` later. In any time t at most ``MOST_SPEED * t`` of audio goes out, and twice
    `MOST_AHEAD_BYTES`: once before a look and once after it.

    Args:
        pause_ms: The longest gap that the agent may see.
        now: The time of the first look.
    """

    def __init__(self, pause_ms: int, now: float) -> None:
        # Looks come a little late, so half a frame is taken off.
        self._silent_from_s = pause_ms / 1000 - LOOK_S - FRAME_S / 2
        # The last look, and the time that it was due.
        self._looked_at = self._due_at = now
        # The last look that found audio.
        self._audio_at = now
        # Bytes sent until the last look, and those of the silence that it asked for.
        self._sent_bytes = 0
        self._silence_bytes = 0
        # As in `Look`.
        self._ahead_bytes = 0.0

    def look(self, now: float, sent_bytes: int, held_bytes: int, *, is_blocked: bool) -> Look:
        """
        Decide what is due.

        Args:
            sent_bytes: Audio sent so far, silence included.
            held_bytes: Audio that waits.
            is_blocked: The agent does not read: silence would only wait there.
        """
        new_bytes = sent_bytes - self._sent_bytes
        is_audio = new_bytes > self._silence_bytes or held_bytes > 0
        spent_bytes = MOST_SPEED * BYTES_PER_S * (now - self._looked_at)
        self._ahead_bytes = max(0.0, self._ahead_bytes + new_bytes - spent_bytes)
        self._sent_bytes, self._looked_at = sent_bytes, now
        if is_audio:
            self._audio_at = now
        is_due = not is_audio and not is_blocked and now - self._audio_at >= self._silent_from_s
        self._silence_bytes = FRAME_BYTES if is_due else 0
        return Look(
            round(self._ahead_bytes), is_due, self._next_at(now, is_flowing=is_audio and not held_bytes)
        )

    def _next_at(self, now: float, *, is_flowing: bool) -> float:
        interval_s = LOOK_S if is_flowing else FRAME_S
        self._due_at += interval_s
        if self._due_at <= now:
            # After a pause of the whole process nothing is made up for.
            self._due_at = now + interval_s
        return self._due_at
