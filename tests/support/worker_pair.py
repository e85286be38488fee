"""Two servers as workers over one store, with their parent between them, all in this process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from live import DEFAULTS, LIMITS, Live, make_settings, serving, until

from bridge.call.limits import Limits
from bridge.server.server import Server
from bridge.server.workers.channel import Channel, pair
from bridge.server.workers.parent import Parent, Worker

TOKEN, PASSWORD = "canary-api-token-19c4", "correct horse battery"
SHOWS = {"BRIDGE_API_TOKEN": TOKEN, "BRIDGE_PAGE_PASSWORD": PASSWORD}


class Pair:
    """The servers, each with its `Worker` in the parent that has no process to watch."""

    def __init__(self) -> None:
        self.parent = Parent((), {}, (), 2, "")
        self.lives: list[Live] = []
        self.workers: list[Worker] = []

    async def add(self, live: Live, stack: contextlib.AsyncExitStack, store: str) -> None:
        ours, theirs = pair()
        worker = Worker(None, 0.0)
        worker.channel = Channel(
            ours, lambda message, given: self.parent._on_message(worker, message, given), lambda: None
        )
        stack.callback(worker.channel.close)
        self.parent._workers.add(worker)
        files = {"BRIDGE_STORE": store, "BRIDGE_STATE_DIR": str(live.server._settings.state_dir)}
        settings = make_settings({**live.agent.environment(), **DEFAULTS, **SHOWS, **files})
        server = Server(settings, Limits(**LIMITS))
        await server.start(channel=theirs)
        stack.push_async_callback(server.stop)
        self.lives.append(Live(server, live.agent, None))
        self.workers.append(worker)
        await until(lambda: worker.is_ready and worker.said)

    async def announce(self, at: int, media_id: str, owner: int) -> None:
        siblings = self.lives[at].server._siblings
        await siblings.announce(media_id, self.workers[owner].owner)
        # The others hear of it in their own turn of the loop.
        everyone = [live.server._siblings for live in self.lives]
        await until(
            lambda: all(
                s.owner_of(media_id) == self.workers[owner].owner
                for s in everyone
                if s is not everyone[owner]
            )
        )


@pytest.fixture
async def both(tmp_path) -> AsyncIterator[Pair]:
    async with serving() as live, contextlib.AsyncExitStack() as stack:
        found = Pair()
        for _ in range(2):
            await found.add(live, stack, f"sqlite:{tmp_path}/store.sqlite3")
        yield found
