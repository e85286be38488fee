"""An agent of a table: what a service's reply and the process's values may do to addresses and headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.agents.agent import Agent, CallInfo, Resources, SessionError
from bridge.agents.described import Description
from bridge.agents.described_agent import describe_socket

CALL = CallInfo("CA" + "2" * 32, "+15551234567", "+14155550100")
TABLE = {"url": "wss://h", "binary": True}


class Service:
    """Gives the session that a test wants."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: object = {}

    async def handle(self, request: web.Request) -> web.Response:
        return web.json_response(self.answer)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_post("/{path:.*}", service.handle)
    async with TestServer(app) as server:
        service.url = str(server.make_url(""))
        yield service


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


def agent(http: aiohttp.ClientSession, values: dict[str, str] | None = None, **table: Any) -> Agent:
    described = Description.model_validate({**TABLE, **table})
    return describe_socket(described, Resources(http, 5.0, values or {}))


async def address(service: Service, http: aiohttp.ClientSession, url: str, *reply: str) -> str:
    one = agent(http, url=url, session={"url": service.url, "reply": list(reply)})
    session = await one.open_session(CALL)
    return one.endpoint(session, CALL).url


@pytest.mark.parametrize("url", ["wss://other.example/a?b=c&d", "wss://other.example", "ws://127.0.0.1:81/x"])
async def test_whole_address_is_the_replys(service, http, url):
    service.answer = {"data": [{"join": url}]}
    assert await address(service, http, "{session.data[0].join}", "data[0].join") == url


@pytest.mark.parametrize(
    "url",
    [
        "https://h",
        "wss://",
        "wss:///x",
        "wss://u@h",
        "wss://h/a b",
        "h",
        "",
        "wss://h/\r\nX: y",
        "wss://h\\@x",
        5,
    ],
)
async def test_what_is_no_address_of_a_socket_makes_the_agent_unavailable(service, http, url):
    service.answer = {"joinUrl": url}
    with pytest.raises(SessionError, match=r"reply.* joinUrl"):
        await address(service, http, "{session.joinUrl}", "joinUrl")


@pytest.mark.parametrize("url", ["ws://h/x", "wss://u:p@h/x"])
async def test_socket_has_tls_where_the_request_has_it(http, url, monkeypatch):
    async def ask(*_: object, **__: object) -> dict[str, str]:
        return {"joinUrl": url}

    monkeypatch.setattr("bridge.agents.described_agent.ask", ask)
    one = agent(http, url="{session.joinUrl}", session={"url": "https://h", "reply": ["joinUrl"]})
    with pytest.raises(SessionError, match=r"^the reply's joinUrl is not a wss:// address$"):
        await one.open_session(CALL)


@pytest.mark.parametrize(
    "smuggled", ["evil.example/", "evil.example", "x@evil", "a:443", "a?b", "a#b", "a/../b"]
)
async def test_value_of_the_reply_within_a_hosts_name_is_one_part_of_it(service, http, smuggled):
    service.answer = {"region": smuggled}
    with pytest.raises(SessionError, match=r"^the reply's region is not a part of a host's name$"):
        await address(service, http, "wss://{session.region}.acme.example/x", "region")
    service.answer = {"region": "eu-1"}
    assert (
        await address(service, http, "wss://{session.region}.acme.example", "region")
        == "wss://eu-1.acme.example"
    )


async def test_value_of_the_reply_behind_the_host_stands_as_it_is(service, http):
    service.answer = {"id": "a/b?c=d@e", "more": {"token": "t"}}
    url = "wss://h/{session.id}&k={session.more.token}"
    assert await address(service, http, url, "id", "more.token") == "wss://h/a/b?c=d@e&k=t"


async def test_line_break_of_a_file_does_not_get_into_a_header_or_an_address(http):
    for values, is_wrong in (
        ({"file.k": "a\nX: y"}, True),
        ({"file.k": "a\x00"}, True),
        ({"file.k": "a"}, False),
    ):
        for table in ({"headers": {"Key": "{file.k}"}}, {"url": "wss://h/{file.k}"}):
            one = agent(http, values, **table)
            if is_wrong:
                with pytest.raises(SessionError, match=r"^a value for the "):
                    one.endpoint({}, CALL)
            else:
                assert one.endpoint({}, CALL).url.startswith("wss://h")
