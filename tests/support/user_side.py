"""The user's own side of a call: two webhooks, which check every signature, and an agent with a hello."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from certificates import Tls
from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(b"canary-webhook-secret-35").decode()
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]
AGENTS_FILE = """
[user]
url = "{url}"
first = ['{{"customer":"{{value.customer}}","call":"{{call_sid}}"}}']
to_agent = '{{"b64":"{{audio}}"}}'
from_agent = {{ path = "b64" }}
"""


class UserSide:
    """
    Answers questions, takes events and calls.

    Attributes:
        url: The base of both, with http or https.
        answer: What every question gets: a JSON value, or a function that answers the request by itself.
        questions: The bodies of the questions, in order; ``ids`` has their ``webhook-id``.
        events: The events that it took, in order; ``event_ids`` has their ``webhook-id``.
        on_try: What answers an event; by default it is taken.
        hellos: The first message of each call at the agent.
        leaves: How many calls the agent leaves after their first message.
    """

    def __init__(self) -> None:
        self.url = ""
        self.answer: Any = {}
        self.questions: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.event_ids: list[str] = []
        self.on_try: Answering | None = None
        self.hellos: list[dict[str, str]] = []
        self.leaves = 0

    def settings(self, folder: Path) -> dict[str, Any]:
        """The settings of a bridge that asks here, and whose agent `user` is here."""
        file = folder / "user.toml"
        file.write_text(AGENTS_FILE.format(url=f"ws{self.url.removeprefix('http')}/agent"))
        return {
            "BRIDGE_ANSWER_URL": f"{self.url}/answer",
            "BRIDGE_WEBHOOK_SECRET": SECRET,
            "BRIDGE_ANSWER_AGENTS": "user",
            "BRIDGE_AGENTS_FILE": file,
        }

    def event_settings(self) -> dict[str, str]:
        """The settings of a bridge that sends its events here."""
        return {"BRIDGE_EVENTS_URL": f"{self.url}/events", "BRIDGE_EVENTS_SECRET": SECRET}

    async def on_question(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        Webhook(SECRET).verify(body, dict(request.headers))
        self.ids.append(request.headers["webhook-id"])
        self.questions.append(json.loads(body))
        if callable(self.answer):
            make: Answering = self.answer
            return await make(request)
        return web.json_response(self.answer)

    async def on_event(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        Webhook(SECRET).verify(body, dict(request.headers))
        if self.on_try is not None:
            return await self.on_try(request)
        self.event_ids.append(request.headers["webhook-id"])
        self.events.append(json.loads(body))
        return web.Response(status=204)

    async def on_call(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.hellos.append(await socket.receive_json())
        if self.leaves:
            self.leaves -= 1
            assert request.transport is not None
            request.transport.abort()
            return socket
        async for _ in socket:
            pass
        return socket


@contextlib.asynccontextmanager
async def user_side(tls: Tls | None = None) -> AsyncIterator[UserSide]:
    """Serve it until the end of the block."""
    user = UserSide()
    app = web.Application()
    app.router.add_post("/answer", user.on_question)
    app.router.add_post("/events", user.on_event)
    app.router.add_get("/agent", user.on_call)
    # A question that is given up, and a call that is over, leave no handler behind.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server() if tls else None).start()
        user.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        yield user
    finally:
        await runner.cleanup()
