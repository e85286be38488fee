"""The flight records of calls that ended badly: files in the state directory, for a while, for ``bridge replay``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog

from bridge.call.ends import ENDS
from bridge.call.flight_call import FlightCall
from bridge.metrics import Metrics
from bridge.server.records.disk import job_of

log = structlog.get_logger()

# Each has some 10 KB, and 90 KB at most.
MOST_FILES = 200
# Records that wait for the disk; beyond it they are lost.
MOST_WAITING = 64
# How often files that are too old are looked for while no call ends badly.
PRUNE_EVERY_S = 600.0
# How long a question waits for the disk, and a stopping process for the last records.
ASK_S, FLUSH_S = 2.0, 2.0
# The CallSid, and milliseconds of Unix time; a file that is being written has another end.
NAME = re.compile(r"(CA[0-9a-f]{32})-([0-9]{13})\.flight(?:\.tmp)?")

T = TypeVar("T")


class FilesUnavailableError(Exception):
    """
    The disk does not answer in time, or its files cannot be read or removed.

    Args:
        setting: Names the directory.
    """

    def __init__(self, setting: str) -> None:
        super().__init__(f"The disk does not answer: look at {setting}")


class FlightFiles:
    """
    Writes records, finds and removes them, all on a thread of its own: a slow disk stops no call.

    Args:
        folder: Made when the first record is written, for this user alone.
        seal: Makes the text of a file; None: nothing is written.
        unseal: Reads such a text; None for a text of another secret, or none of these.
        keep_s: For how long a file is kept.
    """

    def __init__(
        self,
        folder: Path,
        seal: Callable[[Mapping[str, object]], str] | None,
        unseal: Callable[[str], dict[str, Any] | None],
        keep_s: float,
        metrics: Metrics,
    ) -> None:
        self._folder = folder
        self._seal = seal
        self._unseal = unseal
        self._keep_s = keep_s
        self._lost = metrics.flight_files_lost
        # Whether the log says that files cannot be written; until one can.
        self._is_reported = False
        # None ends the thread.
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue(MOST_WAITING)
        # A daemon, because a disk that blocks for ever must not keep the process.
        self._thread = threading.Thread(target=self._work, name="flight files", daemon=True)
        self._thread.start()

    def on_over(self, call: FlightCall) -> None:
        """Write the record of a call that is over, if it has ended badly; does not wait."""
        if call.why is not None and call.call_sid and ENDS[call.why].is_bad:
            self.keep(call.call_sid, call.flight(time.time()))

    def keep(self, call_sid: str, flight: dict[str, Any]) -> None:
        """Write a record; does not wait."""
        if self._seal is None:
            return
        try:
            self._jobs.put_nowait(lambda: self._write(call_sid, flight))
        except queue.Full:
            self._lost.inc()

    async def find(self, call_sid: str) -> dict[str, Any] | None:
        """
        The last record of a call that this host has.

        Raises:
            FilesUnavailableError: The disk is unavailable.
        """
        return await self._ask(lambda: self._read(call_sid))

    async def forget(self, call_sid: str) -> bool:
        """
        Remove the records of a call, also those that wait for the disk; returns whether there was any.

        Raises:
            FilesUnavailableError: The disk is unavailable.
        """
        return await self._ask(lambda: self._remove(call_sid))

    async def stop(self) -> None:
        """Write what waits, within a bound."""
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=FLUSH_S)
        self._thread.join(FLUSH_S)

    async def _ask(self, question: Callable[[], T]) -> T:
        job, answer = job_of(question)
        try:
            self._jobs.put_nowait(job)
            async with asyncio.timeout(ASK_S):
                return await asyncio.wrap_future(answer)
        except (queue.Full, TimeoutError, OSError) as error:
            raise FilesUnavailableError("BRIDGE_STATE_DIR") from error

    # On the thread

    def _work(self) -> None:
        pruned_at = float("-inf")
        while True:
            wait_s = pruned_at + PRUNE_EVERY_S - time.monotonic()
            try:
                job = self._jobs.get(timeout=wait_s) if wait_s > 0 else self._prune
            except queue.Empty:
                continue
            if job is None:
                return
            if job == self._prune:
                pruned_at = time.monotonic()
            try:
                job()
            except Exception:
                log.exception("fault with the flight files")

    def _write(self, call_sid: str, flight: dict[str, Any]) -> None:
        assert self._seal is not None
        path = self._folder / f"{call_sid}-{round(time.time() * 1000)}.flight"
        unfinished = path.with_suffix(".flight.tmp")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(self._seal(flight))
                unfinished.rename(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
        except OSError as error:
            self._lost.inc()
            if not self._is_reported:
                log.warning(
                    "flight files cannot be written: make room, or correct the directory",
                    problem=str(error),
                    setting="BRIDGE_STATE_DIR",
                )
            self._is_reported = True
        else:
            self._is_reported = False
            self._prune()

    def _prune(self) -> None:
        """Remove files that are too old or too many; another process may be doing the same."""
        oldest = (time.time() - self._keep_s) * 1000
        try:
            files = sorted((int(found[2]), path) for path, found in self._files())
        except OSError:
            # The next look tries again.
            return
        for n, (written_ms, path) in enumerate(files):
            if written_ms < oldest or n < len(files) - MOST_FILES:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _files(self) -> list[tuple[Path, re.Match[str]]]:
        try:
            paths = list(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            # No record was written so far.
            return []
        return [(path, found) for path in paths if (found := NAME.fullmatch(path.name))]

    def _of(self, call_sid: str) -> list[Path]:
        """The files of a call, the last one first."""
        return sorted((path for path, found in self._files() if found[1] == call_sid), reverse=True)

    def _read(self, call_sid: str) -> dict[str, Any] | None:
        for path in self._of(call_sid):
            with contextlib.suppress(FileNotFoundError):
                if (flight := self._unseal(path.read_text("ascii", errors="replace"))) is not None:
                    return flight
        return None

    def _remove(self, call_sid: str) -> bool:
        files = self._of(call_sid)
        for path in files:
            path.unlink(missing_ok=True)
        return bool(files)
