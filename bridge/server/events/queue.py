"""The events of calls on their way to the user's webhook: sealed in the store, each call's in order."""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
import structlog

from bridge.metrics import Metrics
from bridge.seal import BadSeal, Seal
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.queue import Queued
from bridge.server.store.store import Store

log = structlog.get_logger()

# Over all processes of the store: at three events a call, those of 16,000 calls. At 3 KB each they are 150 MB.
EVENTS_MOST = 50_000
# Of one event, as JSON: what receivers, and what stands before them, take without a setting.
EVENT_MAX_BYTES = 262_144
# Of the events in the memory of one process that the store has not taken yet: those of some thousand calls.
OUTBOX_MAX_BYTES = 16 << 20
# How long the process that takes an event keeps it to itself: beyond the longest try, also on a busy machine.
LEASE_S = 30.0
# The wait after the first failed try of an event. It doubles, up to the longest: within that, a receiver that is back
# has all of them.
RETRY_S, RETRY_MAX_S = 5.0, 300.0
# Of each wait, at random, so that the events of an outage do not come all at once.
JITTER = 0.25
# A reason for which events are dropped is logged once in this time; the metric counts each.
LINE_EVERY_S = 60.0

STARTED, ENDED, TRANSCRIPT = "call.started", "call.ended", "call.transcript"
TYPES = (STARTED, ENDED, TRANSCRIPT)
# Labels of ``bridge_events_total``: after a failed try comes another one; the others drop the event.
DELIVERED, FAILED = "delivered", "failed"
DROPS = {
    "expired": "the webhook has not taken it within BRIDGE_KEEP_H",
    "too_large": f"it has more than {EVENT_MAX_BYTES} bytes",
    "queue_full": f"{EVENTS_MOST} events wait: see why BRIDGE_EVENTS_URL does not take them",
    "no_store": "the store is unavailable",
    "unreadable": "it is sealed with an auth token that this process does not have",
    "fault": "JSON cannot hold it: report this as a fault of the bridge",
}


class Event(NamedTuple):
    """
    An event that this process has taken from the queue.

    Attributes:
        id: The same at each try, and so is the body.
        tries: This one included.
        lease: By which the store knows who has it.
    """

    type: str
    call_sid: str
    id: str
    body: bytes
    tries: int
    lease: str


class _Waiting(NamedTuple):
    type: str
    call_sid: str
    id: str
    body: bytes
    until: float


class EventQueue:
    """
    Takes events without a wait, brings them to the store, and gives them to whoever delivers them.

    Args:
        keep_s: How long the delivery of an event is tried.
        now: The Unix time.

    Attributes:
        on_due: Called when there is something to `flush` or to `take`.
    """

    def __init__(
        self,
        store: Store,
        breaker: Breaker,
        seal: Seal,
        metrics: Metrics,
        keep_s: float,
        now: Callable[[], float],
    ) -> None:
        self.on_due: Callable[[], None] = lambda: None
        self._queue = store.queue
        self._breaker = breaker
        self._seal = seal
        self._metrics = metrics
        self._keep_s = keep_s
        self._now = now
        # Events that the store has not taken yet, the oldest first, and their bytes together.
        self._outbox: deque[_Waiting] = deque()
        self._outbox_bytes = 0
        # Events that the receiver has while the store does not know it yet, by ID.
        self._delivered: dict[str, Event] = {}
        # When the next line about each reason is due.
        self._line_due: dict[str, float] = {}
        for type in TYPES:
            for result in (DELIVERED, FAILED, *DROPS):
                metrics.events.labels(type, result)

    def put(self, type: str, call_sid: str, data: Mapping[str, Any]) -> None:
        """
        Enter an event of a call behind its others; one for which there is no room is counted and dropped.

        Args:
            data: What JSON can hold.
        """
        now = self._now()
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            body = orjson.dumps({"type": type, "timestamp": at, "data": dict(data)})
        except orjson.JSONEncodeError:
            # A call must not end because of it.
            self._drop("fault", type, call_sid)
            return
        if len(body) > EVENT_MAX_BYTES:
            self._drop("too_large", type, call_sid)
        elif self._outbox_bytes + len(body) > OUTBOX_MAX_BYTES:
            self._drop("no_store", type, call_sid)
        else:
            self._outbox.append(_Waiting(type, call_sid, _new_id(type), body, now + self._keep_s))
            self._outbox_bytes += len(body)
            self.on_due()

    async def flush(self) -> None:
        """Bring to the store what it does not know yet; one that is unavailable is asked again the next time."""
        try:
            for event in list(self._delivered.values()):
                await self._finish(event)
            while self._outbox:
                first = self._outbox[0]
                is_in = await self._push(first)
                # Nobody else takes one out.
                self._outbox.popleft()
                self._outbox_bytes -= len(first.body)
                if not is_in:
                    self._drop("queue_full", first.type, first.call_sid)
        except StoreUnavailableError:
            # The breaker has logged and counted it.
            return

    async def take(self, most: int) -> list[Event]:
        """
        Events to deliver now, at most one of a call; `delivered` or `failed` follows for each.

        There is none if the store is unavailable, or if the first event of each call waits for its next try.
        """
        now, lease = self._now(), secrets.token_hex(8)
        events: list[Event] = []
        try:
            taken = await self._breaker.ask(lambda: self._queue.take(now, now + LEASE_S, lease, most))
            for queued in taken:
                event = Event(_type_of(queued.id), queued.lane, queued.id, b"", queued.tries, lease)
                if queued.id in self._delivered:
                    await self._finish(event)
                elif (body := self._body(queued)) is not None:
                    events.append(event._replace(body=body))
                else:
                    await self._finish(event)
                    self._drop("unreadable" if queued.text else "expired", event.type, event.call_sid)
                    # The next one of its call.
                    self.on_due()
        except StoreUnavailableError:
            # The rest is due again when its lease is over.
            return events
        return events

    async def delivered(self, event: Event) -> None:
        """The receiver has it: the next one of its call is due."""
        self._metrics.events.labels(event.type, DELIVERED).inc()
        self._delivered[event.id] = event
        try:
            await self._finish(event)
        except StoreUnavailableError:
            # The next `flush` asks again.
            return

    async def failed(self, event: Event) -> None:
        """The receiver has not taken it: it is tried again later, and the others of its call wait."""
        self._metrics.events.labels(event.type, FAILED).inc()
        wait_s = min(RETRY_S * 2.0 ** min(event.tries - 1, 10), RETRY_MAX_S)
        due = self._now() + wait_s * random.uniform(1 - JITTER, 1)
        try:
            await self._breaker.ask(lambda: self._queue.postpone(event.call_sid, event.id, event.lease, due))
        except StoreUnavailableError:
            # It is due again when its lease is over.
            return

    async def measure(self) -> None:
        """Set the metrics of the queue's length."""
        try:
            length = await self._breaker.ask(self._queue.length)
        except StoreUnavailableError:
            return
        self._metrics.events_queued.set(length.texts)
        self._metrics.events_oldest_s.set(max(0.0, self._now() - length.oldest_at) if length.texts else 0.0)

    def close(self) -> None:
        """Drop what the store has not taken; the last call."""
        for event in self._outbox:
            self._drop("no_store", event.type, event.call_sid)
        self._outbox.clear()

    async def _push(self, event: _Waiting) -> bool:
        text = self._seal.seal(_purpose(event.id), {"body": event.body.decode()})
        _, lane, id, _, until = event
        return await self._breaker.ask(
            lambda: self._queue.push(lane, id, text, self._now(), until, EVENTS_MOST)
        )

    async def _finish(self, event: Event) -> None:
        """Take an event out of the store; where its lease was over, another process has it."""
        now = self._now()
        await self._breaker.ask(lambda: self._queue.finish(event.call_sid, event.id, event.lease, now))
        self._delivered.pop(event.id, None)

    def _body(self, queued: Queued) -> bytes | None:
        try:
            return str(self._seal.open(_purpose(queued.id), queued.text, None)["body"]).encode()
        except (BadSeal, KeyError):
            return None

    def _drop(self, result: str, type: str, call_sid: str) -> None:
        self._metrics.events.labels(type, result).inc()
        now = self._now()
        if now >= self._line_due.get(result, float("-inf")):
            self._line_due[result] = now + LINE_EVERY_S
            log.warning("event dropped", type=type, call_sid=call_sid, result=result, problem=DROPS[result])


def _new_id(type: str) -> str:
    """A new ID. It has no dots, which are between the parts of what is signed."""
    return f"{type.removeprefix('call.')}_{secrets.token_hex(16)}"


def _type_of(id: str) -> str:
    """The type of an event whose text is gone; one that another version has added counts as what it is called."""
    return f"call.{id.partition('_')[0]}"


def _purpose(id: str) -> str:
    return f"event:{id}"
