"""The page's telephone: opens its calls, and admits their media sockets in place of Twilio's signature."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any

import orjson

from bridge.http.messages import BAD_REQUEST, Request, Response
from bridge.seal import BadSeal, Seal
from bridge.server.page.login import Login
from bridge.server.page.page import HEADERS, Handler

# The ticket of one media socket. It is sealed and leads to that socket's path only.
COOKIE = "bridge_call"
PURPOSE = "page call"


@dataclass(frozen=True, slots=True)
class AgentChoice:
    """An agent in use; ``problem`` says why the telephone cannot have it."""

    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class OpenedCall:
    """What the page needs to play Twilio's part at the media socket; ``parameters`` carry the token."""

    media_id: str
    call_sid: str
    account_sid: str
    parameters: Mapping[str, str]


class NoCall(Exception):
    """No call is opened; the text is for the page's user."""


class Telephone:
    """
    Answers the requests of the page's telephone.

    Args:
        prefix: The path of ``PUBLIC_URL``, without a slash at its end.
        secrets: The account's auth tokens. All processes that have the same ones take each other's tickets.
        ticket_s: How long the media socket of a call may take.
        agents: Those that can be chosen.
        open_call: Opens a session with an agent, or raises `NoCall`.
        is_used: Whether this process knows that the media socket of a CallSid has been there.

    Attributes:
        gets: The handlers of GET by their paths below ``PUBLIC_URL``.
        posts: Those of POST.
    """

    def __init__(
        self,
        login: Login,
        prefix: str,
        secrets: Sequence[str],
        ticket_s: int,
        agents: Callable[[], Sequence[AgentChoice]],
        open_call: Callable[[str], Awaitable[OpenedCall]],
        is_used: Callable[[str], bool],
    ) -> None:
        self._login = login
        self._prefix = prefix
        self._seal = Seal(secrets)
        self._ticket_s = ticket_s
        self._agents = agents
        self._open_call = open_call
        self._is_used = is_used
        self.gets: dict[str, Handler] = {"/page/agents": self._answer_agents}
        self.posts: dict[str, Handler] = {"/page/call": self._answer_call}

    async def _answer_agents(self, request: Request) -> Response:
        if refusal := self._login.refusal(request):
            return refusal
        return _json(200, {"agents": [asdict(choice) for choice in self._agents()]})

    async def _answer_call(self, request: Request) -> Response:
        if refusal := self._login.refusal(request, needs_origin=True):
            return refusal
        if (name := _agent_of(request)) is None:
            return BAD_REQUEST
        try:
            call = await self._open_call(name)
        except NoCall as error:
            return _json(503, {"problem": str(error)})
        path = f"{self._prefix}/media/{call.media_id}"
        ticket = self._seal.seal(PURPOSE, {"media_id": call.media_id, "call_sid": call.call_sid})
        attributes = f"Path={path}; Max-Age={self._ticket_s}; HttpOnly; SameSite=Strict"
        fields = {
            "path": path,
            "call_sid": call.call_sid,
            "account_sid": call.account_sid,
            "parameters": call.parameters,
        }
        return _json(200, fields, ("Set-Cookie", f"{COOKIE}={ticket}; {attributes}"))

    def admits(self, media_id: str, request: Request) -> bool:
        """Whether an upgrade is the page's own, for a call that it has opened and whose socket is still due."""
        try:
            cookies = SimpleCookie("; ".join(request.headers.get("cookie", ())))
            ticket = self._seal.open(PURPOSE, cookies[COOKIE].value, self._ticket_s)
        except (BadSeal, CookieError, KeyError):
            return False
        if ticket["media_id"] != media_id or self._is_used(ticket["call_sid"]):
            return False
        return self._login.refusal(request, needs_origin=True) is None


def _agent_of(request: Request) -> str | None:
    """The name of the agent that a request asks for; None if it is not one of the telephone."""
    try:
        fields = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return None
    name = fields.get("agent") if isinstance(fields, dict) else None
    return name if isinstance(name, str) else None


def _json(status: int, fields: Mapping[str, Any], *headers: tuple[str, str]) -> Response:
    return Response(status, orjson.dumps(fields), "application/json", (*HEADERS, *headers))
