"""Whether an agent says anything, recognised by its audio, for agents that stream on while they say nothing."""

from __future__ import annotations

BYTES_PER_MS = 8
# Mu-law below 0.4 % of full scale, where a silent line is; the quietest word is ten times as loud.
QUIET_CODES = bytes(code for code in range(256) if code & 0x7F >= 0x70)
# After its request to end the call an agent has this long to begin its goodbye: it has to find the words.
BEGINS_MS = 3000
# Between two words of one utterance there is less.
QUIET_MS = 1000


def is_quiet(audio: bytes) -> bool:
    """Whether there is no sound in a message of mu-law."""
    return not audio.translate(None, QUIET_CODES)


class Goodbye:
    """Measures an agent's last words, in mu-law of 8 kHz, from its request to end the call on."""

    def __init__(self) -> None:
        # All audio so far, and the quiet at its end; its length is the clock.
        self._total_ms = 0
        self._quiet_ms = 0

    def is_over(self, audio: bytes) -> bool:
        """Whether the last words are said, with this audio."""
        ms = len(audio) // BYTES_PER_MS
        self._total_ms += ms
        self._quiet_ms = self._quiet_ms + ms if is_quiet(audio) else 0
        return self._total_ms >= BEGINS_MS and self._quiet_ms >= QUIET_MS
