"""Does the work of recordings on a thread of its own, so that a slow disk stops no call."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")
# Audio that is not on the disk, of all calls together: that of 100 calls for 80 s. What agents send ahead of what the
# caller hears is among it.
MOST_BYTES = 128 << 20
# How often `regularly` is called.
REGULARLY_S = 600.0
# How long a stopping process waits for the disk.
FLUSH_S = 2.0


def job_of(question: Callable[[], T]) -> tuple[Callable[[], None], Future[T]]:
    """Return a job for a thread, and its answer: what the question returns, or its OSError."""
    answer: Future[T] = Future()

    def job() -> None:
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(question())
            except OSError as error:
                answer.set_exception(error)

    return job, answer


class Disk:
    """
    Runs jobs in order; a job must not raise.

    Args:
        regularly: A job at the start and every `REGULARLY_S`.
    """

    def __init__(self, regularly: Callable[[], object]) -> None:
        self._regularly = regularly
        # Audio of all jobs, counted by `put`, and of those that are done, counted by the thread.
        self._put_bytes = 0
        self._done_bytes = 0
        # Audio that jobs keep in memory for later; counted by them, on the thread.
        self.kept_bytes = 0
        # None ends the thread.
        self._jobs: queue.SimpleQueue[tuple[Callable[[], object], int] | None] = queue.SimpleQueue()
        # A daemon, because a disk that blocks for ever must not keep the process.
        self._thread = threading.Thread(target=self._work, name="recordings", daemon=True)
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Audio that is not on the disk yet."""
        return self._put_bytes - self._done_bytes + self.kept_bytes

    def put(self, job: Callable[[], object], audio_bytes: int = 0) -> bool:
        """
        Queue a job; does not block.

        Args:
            audio_bytes: The audio that it writes.

        Returns:
            False if so much waits that this job is refused. One without audio never is.
        """
        if audio_bytes and self.waiting_bytes + audio_bytes > MOST_BYTES:
            return False
        self._put_bytes += audio_bytes
        self._jobs.put((job, audio_bytes))
        return True

    async def ask(self, question: Callable[[], T]) -> T:
        """
        Run a job behind those that wait, and return what it does.

        Raises:
            OSError: As the job.
        """
        job, answer = job_of(question)
        self.put(job)
        return await asyncio.wrap_future(answer)

    async def close(self) -> None:
        """Wait a moment for what is queued, then give up."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, FLUSH_S)

    def _work(self) -> None:
        due_at = time.monotonic()
        while True:
            if time.monotonic() >= due_at:
                due_at = time.monotonic() + REGULARLY_S
                self._do(self._regularly)
            with contextlib.suppress(queue.Empty):
                queued = self._jobs.get(timeout=max(0.0, due_at - time.monotonic()))
                if queued is None:
                    return
                job, audio_bytes = queued
                self._do(job)
                self._done_bytes += audio_bytes

    def _do(self, job: Callable[[], object]) -> None:
        try:
            job()
        except Exception:
            # Other calls' recordings go on.
            log.exception("fault in a recording")
