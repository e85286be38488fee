"""Progress of a long run on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time

BAR_CHARACTERS = 30
PLAIN_LINE_EVERY_S = 3.0


class Progress:
    """Shows the progress of the present phase."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._phase = ""
        self._shown_at = 0.0

    def show(self, phase: str, done: float, total: float, text: str) -> None:
        """Show that ``done`` of ``total`` of a phase is done."""
        share = min(1.0, done / total) if total else 1.0
        if self._is_terminal:
            filled = round(share * BAR_CHARACTERS)
            bar = "#" * filled + "." * (BAR_CHARACTERS - filled)
            sys.stderr.write(f"\r\033[K{phase:<7} [{bar}] {text}")
        elif phase != self._phase or time.monotonic() - self._shown_at >= PLAIN_LINE_EVERY_S:
            self._phase, self._shown_at = phase, time.monotonic()
            sys.stderr.write(f"{phase}: {text}\n")
        sys.stderr.flush()

    def finish(self) -> None:
        """Clear the bar, so that the next output starts on an empty line."""
        if self._is_terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
