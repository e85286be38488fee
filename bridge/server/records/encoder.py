"""Has finished recordings encoded as Opus, one after the other, with the time that the machine has to spare."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from bridge.server.records import opus_file

log = structlog.get_logger()

# Twice the calls that a process takes by default, as if all ended at once: half an hour of encoding for calls of three
# minutes. A longer queue means that the machine has no time to spare.
MOST_WAITING = 1000
# How long one recording may take; one of eight hours takes some five minutes of a core.
MOST_S = 3600.0
# How long a stopping process waits for the encoder to leave.
STOP_S = 2.0
# Why a WAV file stays.
BEHIND, FAULT = "behind", "fault"
REASONS = (opus_file.ENCODED, opus_file.DISK_FULL, opus_file.DISK_ERROR, BEHIND, FAULT)
# What the program needs of the environment; secrets are not among it.
VARIABLES = ("PATH", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH")


class Encoder:
    """
    Runs the program of `opus_file` for one recording after the other.

    Args:
        on_end: Called on any thread with one of `REASONS`, the WAV file's name and a detail. Not of what waits when the
            process stops.
    """

    def __init__(self, on_end: Callable[[str, str, str], None]) -> None:
        self._on_end = on_end
        # The names of those that wait, or were tried: none is tried twice. Used by the callers of `put` and `look`,
        # which share a thread.
        self._known: set[str] = set()
        # None ends the thread.
        self._waiting: queue.Queue[Path | None] = queue.Queue(MOST_WAITING)
        # Held while a child is started, which must not happen after the stop.
        self._lock = threading.Lock()
        self._is_stopping = False
        self._child: subprocess.Popen[str] | None = None
        # A daemon, because a disk that blocks for ever must not keep the process.
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    def put(self, wav: Path) -> None:
        """Have a recording encoded that is over; does not block."""
        if not self._take(wav):
            self._on_end(BEHIND, wav.name, f"{MOST_WAITING} recordings wait")

    def look(self, wavs: Collection[Path], left: Collection[Path]) -> None:
        """
        Have recordings encoded that a process has left behind, as far as there is room.

        Args:
            wavs: All that lie there.
            left: Those of them that are meant.
        """
        self._known &= {wav.name for wav in wavs}
        for wav in left:
            if wav.name not in self._known and not self._take(wav):
                return

    def _take(self, wav: Path) -> bool:
        try:
            self._waiting.put_nowait(wav)
        except queue.Full:
            return False
        self._known.add(wav.name)
        return True

    async def stop(self) -> None:
        """End the child; what waits stays a WAV file."""
        with self._lock:
            self._is_stopping = True
            if self._child is not None:
                self._child.terminate()
        # A thread that works on a full queue looks at the flag.
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        await asyncio.to_thread(self._thread.join, STOP_S)

    def _work(self) -> None:
        while (wav := self._waiting.get()) is not None and not self._is_stopping:
            try:
                self._encode(wav)
            except Exception:
                # Other recordings are encoded all the same.
                log.exception("fault in an encoding", file=wav.name)
                self._on_end(FAULT, wav.name, "")

    def _encode(self, wav: Path) -> None:
        with self._lock:
            if self._is_stopping:
                return
            self._child = subprocess.Popen(  # noqa: S603
                # -P: its folder has modules with names of others.
                [sys.executable, "-P", opus_file.__file__, str(wav)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={name: os.environ[name] for name in VARIABLES if name in os.environ},
                # Ctrl-C is meant for the bridge. Not a session of its own: Linux weighs low priority within a session.
                process_group=0,
            )
        with self._child as child:
            try:
                said, trouble = child.communicate(timeout=MOST_S)
            except subprocess.TimeoutExpired:
                child.kill()
                self._on_end(BEHIND, wav.name, f"takes more than {MOST_S:.0f} s")
                return
        if child.returncode in (opus_file.STOPPED, -signal.SIGTERM):
            return
        word, _, detail = said.strip().partition("\t")
        if child.returncode:
            word, detail = FAULT, (trouble.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        if word in REASONS:
            self._on_end(word, wav.name, detail)
