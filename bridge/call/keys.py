"""Keys that the caller presses, gathered for an agent that takes them as a text."""

from __future__ import annotations

# Between two keys of one number.
PAUSE_S = 2.5
# Longer than card numbers and account numbers.
MOST_KEYS = 32
END = "#"


class Keys:
    """Gathers keys until ``#``, a pause, or as many as an agent can use."""

    def __init__(self) -> None:
        self._pressed = ""
        self._pressed_at = 0.0

    def add(self, key: str, now: float) -> str:
        """Add a key; returns all of them, with the ``#``, if it is the last one, else nothing."""
        self._pressed += key
        self._pressed_at = now
        return self._take() if key == END or len(self._pressed) >= MOST_KEYS else ""

    def due(self, now: float) -> str:
        """The keys after which the caller has paused; asked on ticks."""
        return self._take() if self._pressed and now - self._pressed_at >= PAUSE_S else ""

    @property
    def are_waiting(self) -> bool:
        """Whether keys wait for a pause."""
        return bool(self._pressed)

    def _take(self) -> str:
        pressed, self._pressed = self._pressed, ""
        return pressed
