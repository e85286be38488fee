"""Bounds every question to the store, and asks none for a while after one has failed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from bridge.metrics import Metrics
from bridge.server.store.store import Store, StoreError
from bridge.server.store.version import StoreTooNewError, enter_version

log = structlog.get_logger()

ASK_S = 0.3
# It is looked at so often in this time. Each look counts for a tenth of it, however long it was: while the process
# stands still or has too much to do, it is not the store that is slow.
LOOKS = 10
OPEN_S = 5.0

T = TypeVar("T")


class StoreUnavailableError(Exception):
    """The store did not answer in time, or has failed lately: go on with what this process knows."""


class Breaker:
    """
    Asks the questions.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, store: Store, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        # Until when no question is asked; None while the store answers.
        self._open_until: float | None = None
        # While the first question after a failure is under way, the others do not wait for it.
        self._is_trying = False
        # Questions that were given up and have not ended yet: redis-py may swallow a cancellation.
        self._given_up: set[asyncio.Future[Any]] = set()
        metrics.store_available.set(1)

    @property
    def is_open(self) -> bool:
        """Whether a question would fail at once."""
        return self._open_until is not None and (self._is_trying or self._clock() < self._open_until)

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """
        Ask one question, at most `ASK_S` of this process's own time long.

        Raises:
            StoreUnavailableError: It failed, or was not asked.
        """
        if self.is_open:
            raise StoreUnavailableError
        is_trial = self._open_until is not None
        self._is_trying = is_trial or self._is_trying
        try:
            answer = await self._bounded(self._asked(question, is_trial))
        except TimeoutError:
            self._fail(f"no answer within {ASK_S:g} s")
            raise StoreUnavailableError from None
        except StoreTooNewError as error:
            self._fail(str(error))
            # Only another version of this program can use it.
            self._open_until = math.inf
            log.warning("store not used any more", problem=str(error))
            raise StoreUnavailableError from None
        except StoreError as error:
            self._fail(str(error))
            raise StoreUnavailableError from None
        except Exception:
            # A fault of this program: the others are asked all the same.
            log.exception("fault in a question to the store")
            raise StoreUnavailableError from None
        finally:
            if is_trial:
                self._is_trying = False
        if self._open_until is not None:
            self._open_until = None
            self._metrics.store_available.set(1)
            log.info("store answers again")
        return answer

    async def _asked(self, question: Callable[[], Awaitable[T]], is_trial: bool) -> T:
        if is_trial:
            # A full store still answers what it has, and another one may be there now.
            await enter_version(self._store)
        return await question()

    def _fail(self, problem: str) -> None:
        self._metrics.store_failures.inc()
        if self._open_until is None:
            self._metrics.store_available.set(0)
            log.warning("store unavailable, going on with what this process knows", problem=problem)
        self._open_until = self._clock() + OPEN_S

    async def _bounded(self, work: Coroutine[Any, Any, T]) -> T:
        """
        Work for at most `ASK_S`, longer only while this process is late itself.

        Raises:
            TimeoutError: It was not done by then, and is cancelled.
        """
        task = asyncio.ensure_future(work)
        try:
            for _ in range(LOOKS):
                done, _ = await asyncio.wait({task}, timeout=ASK_S / LOOKS)
                if done:
                    return task.result()
            raise TimeoutError
        finally:
            if task.cancel():
                self._given_up.add(task)
                task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._given_up.discard(task)
        if not task.cancelled():
            # Nobody waits for it any more, whatever it says.
            task.exception()

    async def settled(self) -> None:
        """Wait at most `ASK_S` for questions that were given up; closing the store ends the others."""
        if self._given_up:
            await asyncio.wait(self._given_up, timeout=ASK_S)
