"""The page's telephone without a browser: its requests and its media socket, as the page makes them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from live import PUBLIC_URL, Live, soon

from bridge.standins.sockets import ClientSocket
from bridge.standins.twilio.messages import ToServer

PASSWORD = "correct horse battery"
HOST = {"Host": "voice.example.com"}
ORIGIN = {**HOST, "Origin": PUBLIC_URL}


class PagePhone:
    """
    A browser's side of one call.

    Attributes:
        cookie: That of the login; empty without one.
        ticket: The cookie of the media socket.
        fields: What the request for a call was answered with.
    """

    def __init__(self, live: Live) -> None:
        self.live = live
        self.cookie = ""
        self.ticket = ""
        self.fields: dict[str, Any] = {}

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], **options: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """The status, the JSON or text, and the headers of an answer."""
        sent = {"Cookie": self.cookie, **headers}
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
            http.request(
                method, self.live.url + path, headers=sent, allow_redirects=False, **options
            ) as answer,
        ):
            is_json = answer.content_type == "application/json"
            return answer.status, await (answer.json() if is_json else answer.text()), answer.headers

    async def log_in(self) -> None:
        """Get the cookie."""
        status, _, headers = await self.ask("POST", "/page/login", ORIGIN, data={"password": PASSWORD})
        assert status == 303
        self.cookie = headers["Set-Cookie"].partition(";")[0]

    async def call(self, agent: str, headers: Mapping[str, str] = ORIGIN) -> tuple[int, Any]:
        """Ask for a call; returns the status and what the page gets."""
        status, fields, answered = await self.ask("POST", "/page/call", headers, json={"agent": agent})
        if status == 200:
            self.fields = fields
            self.ticket = answered["Set-Cookie"].partition(";")[0]
        else:
            assert "Set-Cookie" not in answered
        return status, fields

    @property
    def writer(self) -> ToServer:
        """Twilio's messages of the call."""
        return ToServer(
            account_sid=self.fields["account_sid"],
            call_sid=self.fields["call_sid"],
            stream_sid="MZ" + 32 * "1",
        )

    async def upgrade(self, headers: Mapping[str, str] = ORIGIN, path: str = "", **changed: str) -> int:
        """The status of an upgrade that goes no further."""
        try:
            async with self.socket(headers, path, **changed):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            assert "Set-Cookie" not in (error.headers or {})
            return error.status

    @contextlib.asynccontextmanager
    async def socket(
        self, headers: Mapping[str, str] = ORIGIN, path: str = "", live: Live | None = None, **changed: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """
        The media socket; nothing is sent.

        Args:
            live: Another process.
            changed: Cookies in place of those of this telephone: ``cookie``, ``ticket``.
        """
        cookies = {"cookie": self.cookie, "ticket": self.ticket, **changed}
        sent = {"Cookie": "; ".join(filter(None, cookies.values())), **headers}
        url = (live or self.live).url + (path or self.fields["path"])
        async with (
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), ws_response_class=ClientSocket
            ) as http,
            http.ws_connect(url, headers=sent) as socket,
        ):
            yield socket

    @contextlib.asynccontextmanager
    async def started(self, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The media socket of a call, ``connected`` and ``start`` sent."""
        async with self.socket(**options) as socket:
            await self.start(socket)
            yield socket

    async def start(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Send the first two messages."""
        await socket.send_str(self.writer.connected())
        await socket.send_str(self.writer.start(self.fields["parameters"]))

    async def close_code(self, socket: aiohttp.ClientWebSocketResponse) -> int | None:
        """How the bridge closes the socket."""
        while (await soon(socket.receive())).type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
            pass
        return socket.close_code
