"""A store that has lost a live call, or was away when it began, learns of it again."""

from __future__ import annotations

import pytest
from call_script import Script

from bridge.agents.sessions import Session
from bridge.call.ends import Outcome
from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.reconciling import ENTER_EVERY_S, Reconciler
from bridge.server.registry import Registry
from bridge.server.store.agreement import Agreement, Record, Stage
from bridge.server.store.breaker import Breaker
from bridge.server.store.memory import MemoryStore

CALL = "CA" + "1" * 32
MEDIA_ID = "a" * 32


class Process:
    """The calls of a process whose store has lost them."""

    def __init__(self) -> None:
        store = MemoryStore()
        self.agreement = Agreement(store, Breaker(store, Metrics()), Seal(["auth"]), 10, 60)
        self.registry = Registry(10, 60, self.agreement.end)
        self.reconciler = Reconciler(self.registry, self.agreement, 0.0)
        self.script = Script()
        assert self.registry.claim(CALL, MEDIA_ID, Session(("one",), {}), self.script.call, 1) is None

    async def run(self, now: float) -> Record | None:
        """Ask what is due; returns what the store then knows of the call."""
        await self.reconciler.run(now)
        return await self.agreement.find(CALL)


@pytest.fixture
async def process() -> Process:
    return Process()


async def test_live_call_is_entered_again_when_it_is_time(process):
    process.script.start(0.0)
    early, due = ENTER_EVERY_S - 1, ENTER_EVERY_S
    assert [process.reconciler.is_due(now) for now in (early, due)] == [False, True]
    assert await process.run(early) is None
    assert await process.run(due) == Record(Stage.LIVE, 1, process.agreement.owner, 0.0, MEDIA_ID)
    assert not process.reconciler.is_due(due + 1)


async def test_call_whose_token_the_store_is_still_asked_about_is_not(process):
    assert await process.run(ENTER_EVERY_S) is None


async def test_call_that_is_over_is_not(process):
    process.script.start(0.0)
    process.registry.finish(CALL, Outcome.ENDED, 0.0)
    await process.agreement.settled()
    assert not process.reconciler.is_due(ENTER_EVERY_S)
    assert (await process.run(ENTER_EVERY_S)).stage == Stage.OVER
