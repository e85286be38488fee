"""Retell's webhook: ``call_ended`` of a live call counts as the same message on the agent's socket."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import orjson

from bridge.agents.vendors.retell import is_webhook_of_retell
from bridge.call.ends import Why
from bridge.http.messages import BAD_REQUEST, FORBIDDEN, NO_CONTENT, Request, Response
from bridge.server.registry import Registry

EVENTS = frozenset({"call_started", "call_ended", "call_analyzed"})
REPLAYS_REMEMBERED = 10_000


class RetellWebhook:
    """
    Answers `/retell/webhook`.

    Args:
        api_key: Signs the requests; with an empty one all are refused.
        clock: Seconds, monotonic.
    """

    def __init__(self, api_key: str, registry: Registry, clock: Callable[[], float]) -> None:
        self._api_key = api_key
        self._registry = registry
        self._clock = clock
        # The events that were taken, oldest first, so that a replay has no effect.
        self._taken: OrderedDict[tuple[str, str], None] = OrderedDict()

    @property
    def remembered(self) -> int:
        """The number of events whose replay is recognized."""
        return len(self._taken)

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        signature = request.header("x-retell-signature")
        now_ms = int(time.time() * 1000)
        if not self._api_key or not is_webhook_of_retell(request.body, signature, self._api_key, now_ms):
            return FORBIDDEN
        try:
            fields = orjson.loads(request.body)
            event, call_id = fields["event"], fields["call"]["call_id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return BAD_REQUEST
        if not isinstance(event, str) or event not in EVENTS or not isinstance(call_id, str):
            return NO_CONTENT
        if (event, call_id) in self._taken:
            return NO_CONTENT
        self._taken[event, call_id] = None
        if len(self._taken) > REPLAYS_REMEMBERED:
            self._taken.popitem(last=False)
        if event == "call_ended":
            for entry in self._registry.live_calls():
                if entry.session.credentials.get("call_id") == call_id:
                    self._registry.end(entry.call_sid, Why.AGENT_ENDED, self._clock())
        return NO_CONTENT
