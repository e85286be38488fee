"""Delivers the events of calls to the user's webhook: signed, one of a call at a time, again until it takes them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

import aiohttp
import structlog

from bridge.server.events.queue import Event, EventQueue
from bridge.server.events.request_problem import connection_problem, tls_problem
from bridge.server.events.standard_webhooks import WebhookSigner

log = structlog.get_logger()

# From the name look-up to the status: who needs longer to take an event should take it first, and work on it later.
TRY_S = 10.0
# Tries of one process at once: with a receiver that takes 100 ms, 80 events a second. While it fails there is one, so
# that an outage costs the calls nothing.
TRIES_MOST = 8
# How often a process looks for events whose next try is due, and for those of a process that is gone.
LOOK_EVERY_S = 1.0
# How often it counts those that wait.
MEASURE_EVERY_S = 5.0
# At the end of a process, for the events of its last calls; other processes, or the next start, deliver the rest.
STOP_S = 3.0
# While the receiver fails, one line in this time says so.
LINE_EVERY_S = 60.0
# What to do about a failed try.
SLOW = "take an event first, and work on it later"
NOT_REACHED = "look whether the webhook runs, and at host and port in BRIDGE_EVENTS_URL"
NOT_TRUSTED = "correct the webhook's certificate; SSL_CERT_FILE names an authority of your own"
REDIRECTED = "redirects are not followed: put the address that it leads to in BRIDGE_EVENTS_URL"
REFUSED = (
    "look into the webhook's own log; if it refuses the signature, it must check with BRIDGE_EVENTS_SECRET, or without "
    "that with BRIDGE_WEBHOOK_SECRET"
)


class Failure(NamedTuple):
    """Why a try failed, without the webhook's address, which may hold a secret, and what to do."""

    problem: str
    hint: str


class Delivery:
    """
    Delivers what is in a queue.

    Call `start`, and in the end `stop`.

    Args:
        http: The process's session, whose connections stay open between events.
        now: The Unix time, by which the next steps are due.
        try_s: How long a try may take, in seconds.

    Attributes:
        is_failing: Whether the last try failed.
    """

    def __init__(
        self,
        url: str,
        signer: WebhookSigner,
        http: aiohttp.ClientSession,
        queue: EventQueue,
        now: Callable[[], float],
        try_s: float = TRY_S,
    ) -> None:
        self._url = url
        self._signer = signer
        self._http = http
        self._queue = queue
        self._now = now
        self._try_s = try_s
        # The tries that are under way.
        self._tries: set[asyncio.Task[None]] = set()
        # Set where there is something to do before the next look.
        self._wake = asyncio.Event()
        queue.on_due = self._wake.set
        self._running: asyncio.Task[None] | None = None
        # Set by `stop`.
        self._is_stopping = False
        self._measure_due = float("-inf")
        self.is_failing = False
        # Whether the log has said so, and when it may again.
        self._is_said = False
        self._line_due = float("-inf")

    def start(self) -> None:
        """Deliver until `stop`."""
        self._running = asyncio.get_running_loop().create_task(self._run(), name="events")

    async def stop(self) -> None:
        """Bring all events to the store, deliver what can be within `STOP_S`, and wait for the tries under way."""
        self._is_stopping = True
        self._wake.set()
        if self._running is not None:
            # Not cancelled: the store would keep what it is asked for leased.
            await self._running
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                # A try under way may be followed by the next event of its call.
                while (await self.step() or self._tries) and not self.is_failing:
                    await self.settled()
        await self.settled()
        self._queue.close()

    async def step(self) -> int:
        """Start the tries that are due, as many as may be under way at once; returns their number."""
        await self._queue.flush()
        room = (1 if self.is_failing else TRIES_MOST) - len(self._tries)
        events = await self._queue.take(room) if room > 0 else []
        for event in events:
            task = asyncio.get_running_loop().create_task(self._try(event), name="event")
            self._tries.add(task)
            task.add_done_callback(self._on_done)
        if self._now() >= self._measure_due:
            self._measure_due = self._now() + MEASURE_EVERY_S
            await self._queue.measure()
        return len(events)

    async def settled(self) -> None:
        """Wait for the tries that are under way."""
        while self._tries:
            await asyncio.wait(self._tries)

    async def _run(self) -> None:
        while not self._is_stopping:
            self._wake.clear()
            try:
                await self.step()
            except Exception:
                log.exception("fault in the delivery of events")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tries.discard(task)
        if not self.is_failing:
            self._wake.set()
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("fault in the delivery of an event", exc_info=fault)

    async def _try(self, event: Event) -> None:
        failure = await self._post(event)
        if failure is not None:
            await self._queue.failed(event)
        else:
            await self._queue.delivered(event)
        self.is_failing = failure is not None
        self._say(event, failure)

    def _say(self, event: Event, failure: Failure | None) -> None:
        if failure is not None and self._now() >= self._line_due:
            self._line_due, self._is_said = self._now() + LINE_EVERY_S, True
            log.warning(
                "events webhook fails, its events wait",
                type=event.type,
                call_sid=event.call_sid,
                tries=event.tries,
                problem=failure.problem,
                hint=failure.hint,
            )
        elif self._is_said and failure is None:
            self._is_said = False
            log.info("events webhook takes events again")

    async def _post(self, event: Event) -> Failure | None:
        """Try once."""
        headers = self._signer.headers(event.id, int(time.time()), event.body)
        try:
            async with (
                asyncio.timeout(self._try_s),
                self._http.post(
                    self._url,
                    data=event.body,
                    headers={"content-type": "application/json", **headers},
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as response,
            ):
                # What it says beside its status does not count.
                if 200 <= response.status < 300:
                    return None
                hint = REDIRECTED if 300 <= response.status < 400 else REFUSED
                return Failure(f"status {response.status}", hint)
        except TimeoutError:
            return Failure(f"no answer within {self._try_s:.3g} s", SLOW)
        except aiohttp.ClientSSLError as error:
            return Failure(tls_problem(error), NOT_TRUSTED)
        except (aiohttp.ClientError, OSError) as error:
            return Failure(connection_problem(error), NOT_REACHED)
