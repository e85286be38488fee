"""The records of calls over HTTP, for who has ``BRIDGE_API_TOKEN``: `docs/calls-api.md`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

import orjson

from bridge.call.document import summary
from bridge.http.messages import NO_CONTENT, Request, Response
from bridge.server.bearer import unauthorized
from bridge.server.known_calls import KnownCalls
from bridge.server.records.flights import FilesUnavailableError, FlightFiles
from bridge.server.store.breaker import StoreUnavailableError

PATH = re.compile(r"/calls(?:/(CA[0-9a-f]{32})(/flight)?)?")
LIMIT, LIMIT_MAX = 50, 200
# Python refuses to read a number of some thousand digits.
NUMBER = re.compile(r"[0-9]{1,3}")
JSON_TYPE = "application/json"
NOT_FOUND = Response(404, b"404 Not Found\n")
# After a failure the store is asked again in 5 s.
UNAVAILABLE = Response(503, b"503 The store does not answer: try again\n", headers=(("Retry-After", "5"),))
LIVE = Response(409, b"409 The call is live: try again when it is over\n")
BAD_LIMIT = Response(400, f"400 limit: a number from 1 to {LIMIT_MAX}\n".encode())


class CallsApi:
    """
    Answers ``/calls``, ``/calls/SID`` and ``/calls/SID/flight``.

    Args:
        token: The bearer token.
    """

    def __init__(self, token: str, known: KnownCalls, flights: FlightFiles) -> None:
        self._token = token
        self._known = known
        self._flights = flights

    async def handle(self, request: Request) -> Response:
        """Answer a request; one without the token learns nothing and asks nothing of the store."""
        if (refusal := unauthorized(request, self._token)) is not None:
            return refusal
        found = PATH.fullmatch(request.path)
        if found is None:
            return NOT_FOUND
        call_sid, of_call = found.groups()
        try:
            if request.method == "GET" and of_call:
                return await self._flight(call_sid)
            if request.method == "GET":
                return await (self._one(call_sid) if call_sid else self._list(request.query))
            if request.method == "DELETE" and call_sid and not of_call:
                return await self._delete(call_sid)
        except StoreUnavailableError:
            return UNAVAILABLE
        except FilesUnavailableError as error:
            return Response(503, f"503 {error}\n".encode())
        allowed = "GET, DELETE" if call_sid and not of_call else "GET"
        return Response(405, b"405 Method Not Allowed\n", headers=(("Allow", allowed),))

    async def _list(self, query: str) -> Response:
        texts = parse_qs(query).get("limit", [str(LIMIT)])
        limit = int(texts[0]) if len(texts) == 1 and NUMBER.fullmatch(texts[0]) else 0
        if not 1 <= limit <= LIMIT_MAX:
            return BAD_LIMIT
        live = await self._known.live.rows()
        shown = {"live": live.calls, "live_count": live.count, "is_whole": live.is_whole}
        try:
            finished = [summary(document) for document in await self._known.finished.newest(limit)]
        except StoreUnavailableError:
            # The live ones are known all the same.
            return _json({**shown, "finished": None})
        return _json({**shown, "finished": finished})

    async def _one(self, call_sid: str) -> Response:
        found = await self._known.find(call_sid)
        return _json(found) if found is not None else NOT_FOUND

    async def _flight(self, call_sid: str) -> Response:
        found = await self._known.live.flight(call_sid) or await self._flights.find(call_sid)
        return _json(found) if found is not None else NOT_FOUND

    async def _delete(self, call_sid: str) -> Response:
        if await self._known.is_live(call_sid):
            return LIVE
        return NO_CONTENT if await self._known.finished.forget(call_sid) else NOT_FOUND


def _json(fields: dict[str, Any]) -> Response:
    return Response(200, orjson.dumps(fields), JSON_TYPE, headers=(("Cache-Control", "no-store"),))
