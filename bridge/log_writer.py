"""Writes log lines on a thread of its own, so that a log that nobody reads stops no call."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading

# A thousand calls' lines, and a megabyte at most.
MOST_LINES = 2000
# How long a stopping process waits for a reader of the last lines.
FLUSH_S = 2.0


class LogWriter(logging.Handler):
    """
    A handler that formats each record at once and writes the line later.

    Lines beyond `MOST_LINES` that wait are dropped, and so are lines that cannot be written, as to a full disk. Once
    lines can be written again, a line says how many were dropped.

    Args:
        descriptor: Receives the lines; may block, or be closed. None: all lines are dropped.
    """

    def __init__(self, descriptor: int | None) -> None:
        super().__init__()
        # Not a file object: a write that blocks would hold its lock, and the interpreter could not end.
        self._descriptor = descriptor
        # Lines that found the queue full, counted by `emit`.
        self._overflowed = 0
        # Lines that could not be written, counted by the thread.
        self._refused = 0
        # Dropped lines that a line has reported.
        self._reported = 0
        # Whether the last line was written in part only; the next one then begins on a line of its own.
        self._is_torn = False
        # None ends the thread.
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_LINES)
        # A daemon, because a write that blocks for ever must not keep the process.
        self._thread = threading.Thread(target=self._write_lines, name="log writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines dropped since the start."""
        return self._overflowed + self._refused

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line, or count it as dropped; does not block."""
        try:
            line = self.format(record)
        except Exception:
            # A value that cannot be formatted; logging's own report would be written at once.
            line = self._line(f"a log line of {record.name} could not be formatted")
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._overflowed += 1

    def close(self) -> None:
        """Wait a moment for the last lines, then give up."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=FLUSH_S)
        self._thread.join(FLUSH_S)
        super().close()

    def _write_lines(self) -> None:
        while (line := self._lines.get()) is not None:
            unreported = self.dropped - self._reported
            text = f"{unreported} log lines were dropped: nobody read the log, or it could not be written"
            if unreported and self._write(self._line(text)):
                self._reported += unreported
            if not self._write(line):
                self._refused += 1

    def _line(self, text: str) -> str:
        return self.format(logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (), None))

    def _write(self, line: str) -> bool:
        if self._descriptor is None:
            return False
        beginning = "\n" if self._is_torn else ""
        data = memoryview(f"{beginning}{line}\n".encode(errors="backslashreplace"))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
                self._is_torn = bool(data)
        except OSError:
            # The descriptor is closed, its reader is gone, or the disk is full.
            return False
        return True
