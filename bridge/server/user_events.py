"""Tells the user's own webhook of calls: that they start, how they ended, and what was said."""

from __future__ import annotations

import time
from typing import Any

import aiohttp

from bridge.call.document import without_texts
from bridge.metrics import Metrics
from bridge.server.events.delivery import Delivery
from bridge.server.events.queue import ENDED, STARTED, TRANSCRIPT, EventQueue
from bridge.server.events.standard_webhooks import WebhookSigner
from bridge.server.live import Live
from bridge.server.store.opening import Parts
from bridge.settings import Settings


class UserEvents:
    """
    Makes the events of one process; without BRIDGE_EVENTS_URL there are none.

    Args:
        parts: The store in which they wait.
        live: Says what happens to its calls.
    """

    def __init__(
        self, settings: Settings, parts: Parts, metrics: Metrics, http: aiohttp.ClientSession, live: Live
    ) -> None:
        self._delivery: Delivery | None = None
        # The numbers of the caller and of the called one by CallSid, with how many streams of the call are open: one
        # that a new stream replaces may end after that has started.
        self._open: dict[str, tuple[str, str, int]] = {}
        if not settings.bridge_events_url:
            return
        self._queue = EventQueue(*parts, metrics, settings.bridge_keep_h * 3600, time.time)
        signer = WebhookSigner(settings.events_secrets)
        self._delivery = Delivery(settings.bridge_events_url, signer, http, self._queue, time.time)
        live.on_started.append(self._on_started)
        live.on_ended.append(self._on_ended)

    def start(self) -> None:
        """Deliver events until `stop`."""
        if self._delivery is not None:
            self._delivery.start()

    async def stop(self) -> None:
        """Deliver those of the last calls, within a bound; the store keeps the others."""
        if self._delivery is not None:
            await self._delivery.stop()

    def _on_started(self, started: dict[str, Any]) -> None:
        call_sid = started["call_sid"]
        _, _, streams = self._open.get(call_sid, ("", "", 0))
        self._open[call_sid] = started["from"], started["to"], streams + 1
        self._queue.put(STARTED, call_sid, started)

    def _on_ended(self, document: dict[str, Any]) -> None:
        call_sid = document["call_sid"]
        if call_sid not in self._open:
            # Its socket was lost before the store had said that the call may start.
            return
        from_number, to_number, streams = self._open.pop(call_sid)
        if streams > 1:
            self._open[call_sid] = from_number, to_number, streams - 1
        # The record shows numbers as the log does; here they are the user's own.
        self._queue.put(ENDED, call_sid, {**without_texts(document), "from": from_number, "to": to_number})
        if document["transcript"]:
            said = {name: document[name] for name in ("call_sid", "attempt", "transcript")}
            self._queue.put(TRANSCRIPT, call_sid, said)
