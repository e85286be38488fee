"""The last words of an agent that hangs up or transfers the call."""

from __future__ import annotations

from collections.abc import Callable

# An agent that says goodbye after its request begins within this time: a model has to find the words.
BEGINS_S = 2.5
# Between two pieces of one utterance there is less.
QUIET_S = 1.0
# A goodbye that takes longer is cut.
MOST_S = 12.0
# At the limit of a call the utterance that an agent is in the middle of may take this much longer.
OVERTIME_S = 10.0


class Farewell:
    """
    Decides when an agent that asked for the end of the call has said its last words.

    Args:
        end: Ends or transfers the call.
        audio_frames: How many frames the agent has sent so far.
        now: The time of the request.
    """

    def __init__(self, end: Callable[[], None], audio_frames: int, now: float) -> None:
        self.end = end
        self._frames = audio_frames
        self._has_begun = False
        self._began_at = self._audio_at = now

    def is_due(self, audio_frames: int, now: float) -> bool:
        """Whether the agent is silent by now, or has talked for long enough; asked on ticks."""
        if audio_frames != self._frames:
            self._frames, self._audio_at, self._has_begun = audio_frames, now, True
        quiet_s = QUIET_S if self._has_begun else BEGINS_S
        return now - self._audio_at >= quiet_s or now - self._began_at >= MOST_S
