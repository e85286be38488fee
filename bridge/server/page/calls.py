"""What the page asks of calls: live ones, finished ones, and all of one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import parse_qs

import orjson

from bridge.http.messages import Request, Response
from bridge.server.page.login import Login
from bridge.server.store.breaker import StoreUnavailableError

ONE = re.compile(r"/page/calls/(CA[0-9a-f]{32})")
# Python refuses to read a number of some thousand digits.
NUMBER = re.compile(r"[0-9]{1,6}")
ROWS = 25
NO_STORE = "The store does not answer, so finished calls cannot be shown. Look at the log of the bridge."
NO_CALL = (
    "Nobody knows this call. Finished calls are kept for BRIDGE_KEEP_H hours, and the last 1000 of them."
)
NOT_A_NUMBER = "skip: a number of at most six digits"


class Source(Protocol):
    """Knows calls; ``search`` and ``show`` raise `StoreUnavailableError`."""

    async def live_calls(self) -> Mapping[str, Any]:
        """What the list of live calls shows."""
        ...

    async def search(self, words: str, skip: int, most: int) -> tuple[list[dict[str, Any]], int | None]:
        """Summaries of finished calls with these words after some others, and how many there are before the next."""
        ...

    async def show(self, call_sid: str) -> Mapping[str, Any] | None:
        """All that is known of a call; None if nobody knows it."""
        ...


class CallData:
    """
    Answers the page's requests for calls, for who is logged in.

    Args:
        headers: Of each answer.

    Attributes:
        gets: The handlers of GET by their paths; the one of ``/page/calls`` is for all paths below.
    """

    def __init__(self, login: Login, source: Source, headers: tuple[tuple[str, str], ...]) -> None:
        self._login = login
        self._source = source
        self._headers = headers
        self.gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/page/data": self._live,
            "/page/finished": self._finished,
            "/page/calls": self._one,
        }

    async def _live(self, request: Request) -> Response:
        if refusal := self._login.refusal(request):
            return refusal
        return self._json(await self._source.live_calls())

    async def _finished(self, request: Request) -> Response:
        if refusal := self._login.refusal(request):
            return refusal
        fields = parse_qs(request.query)
        skip = fields.get("skip", ["0"])[0]
        if not NUMBER.fullmatch(skip):
            return self._json({"problem": NOT_A_NUMBER}, 400)
        try:
            calls, after = await self._source.search(fields.get("words", [""])[0], int(skip), ROWS)
        except StoreUnavailableError:
            return self._json({"problem": NO_STORE}, 503)
        return self._json({"calls": calls, "next": after})

    async def _one(self, request: Request) -> Response:
        if refusal := self._login.refusal(request):
            return refusal
        path = ONE.fullmatch(request.path)
        try:
            found = await self._source.show(path[1]) if path is not None else None
        except StoreUnavailableError:
            return self._json({"problem": NO_STORE}, 503)
        return self._json(found) if found is not None else self._json({"problem": NO_CALL}, 404)

    def _json(self, fields: Mapping[str, Any], status: int = 200) -> Response:
        return Response(status, orjson.dumps(fields), "application/json", self._headers)
