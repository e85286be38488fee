"""What an agent reports of its own state: logged once each, and fatal if it then stays silent."""

from __future__ import annotations

from bridge.agents.agent import Troubled

# Reports of one agent that are logged.
MOST_REPORTS = 20


class Trouble:
    """
    Follows the reports of one agent.

    Args:
        silence_s: Without audio for this long after an error, the agent is lost.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        # In a tuple, because most agents report nothing.
        self._seen: tuple[str, ...] = ()
        # The last error after which no audio came, the frames until then, and its time.
        self._open: Troubled | None = None
        self._frames = 0
        self._since = 0.0

    def is_new(self, detail: str) -> bool:
        """Whether a report is to be logged: each once, and a bounded number of them."""
        if detail in self._seen or len(self._seen) >= MOST_REPORTS:
            return False
        self._seen += (detail,)
        return True

    def report(self, error: Troubled, audio_frames: int, now: float) -> None:
        """The agent reports an error; further ones do not prolong its time."""
        if self.last(audio_frames) is None:
            self._open, self._frames, self._since = error, audio_frames, now

    def on_sign(self, now: float) -> None:
        """The agent hears the caller: it has no reason to speak, and its time begins anew."""
        self._since = now

    def last(self, audio_frames: int) -> Troubled | None:
        """The error that the agent has not spoken after."""
        if audio_frames != self._frames:
            self._open = None
        return self._open

    @property
    def is_open(self) -> bool:
        """Whether there was an error, as far as is known without a look at the audio."""
        return self._open is not None

    def is_due(self, audio_frames: int, now: float) -> bool:
        """Whether the agent has been silent for too long after an error."""
        return self.last(audio_frames) is not None and now - self._since >= self._silence_s
