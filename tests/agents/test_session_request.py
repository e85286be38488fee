"""The request that opens a session: never sent again once a service may have taken it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.agents.agent import Resources, SessionError
from bridge.agents.session_request import ask
from bridge.agents.succession import FailureKind


class Service:
    """A service that opens a session for each request that it reads, and then answers with ``statuses`` in order."""

    def __init__(self) -> None:
        self.url = ""
        self.sessions = 0
        # None closes the connection in place of an answer.
        self.statuses: list[int | None] = []
        self.peers: set[object] = set()
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        await request.read()
        self.sessions += 1
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        status = self.statuses.pop(0)
        if status is None:
            request.transport.close()
            return web.Response()
        return web.json_response({"id": "s1"}, status=status, headers=self.headers)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    async with TestServer(app) as server:
        service.url = str(server.make_url("/sessions"))
        yield service


async def opened(http: aiohttp.ClientSession, service: Service) -> dict[str, str]:
    wanted = {"id": re.compile("s1")}
    return await ask(Resources(http, 2.0), "POST", service.url, {}, fields=wanted, json={"agent": "a"})


async def test_service_that_takes_a_request_and_closes_opens_exactly_one_session(service):
    service.statuses = [None, 200]
    async with aiohttp.ClientSession() as http:
        with pytest.raises(SessionError, match="ServerDisconnectedError"):
            await opened(http, service)
    assert service.sessions == 1


async def test_each_request_has_a_connection_of_its_own(service):
    service.statuses = [200, None, 200]
    async with aiohttp.ClientSession() as http:
        assert await opened(http, service) == {"id": "s1"}
        with pytest.raises(SessionError):
            await opened(http, service)
        assert await opened(http, service) == {"id": "s1"}
    assert (service.sessions, len(service.peers)) == (3, 3)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.REFUSED),
        (401, FailureKind.CREDENTIALS),
        (402, FailureKind.QUOTA),
        (422, FailureKind.REFUSED),
        (500, FailureKind.LOST),
    ],
)
async def test_status_says_whether_another_request_may_help(service, status, kind):
    service.statuses = [status]
    async with aiohttp.ClientSession() as http:
        with pytest.raises(SessionError) as caught:
            await opened(http, service)
    assert caught.value.kind is kind


async def test_wait_that_is_too_long_for_a_caller_is_not_kept(service):
    service.statuses = [429]
    service.headers = {"Retry-After": "3"}
    async with aiohttp.ClientSession() as http:
        with pytest.raises(SessionError, match="asks to retry in 3 s"):
            await ask(Resources(http, 8.0), "GET", service.url, {}, fields={})
    assert service.sessions == 1
