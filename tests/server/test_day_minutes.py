"""The minutes of a day on fake clocks: one process, several over one store, a store that is away, the next day."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.day_minutes import SHARE_EVERY_S, DayMinutes
from bridge.server.store.breaker import OPEN_S, Breaker
from bridge.server.store.memory import MemoryStore
from bridge.server.store.store import Kept, StoreError
from bridge.server.store.tallies import Tallies

# Noon by UTC on a day in 2027.
NOON = 1_800_014_400.0
TO_MIDNIGHT_S = 12 * 3600.0


class Store(MemoryStore):
    is_away = False
    writes = 0

    async def read(self, key: str) -> Kept | None:
        if self.is_away:
            raise StoreError("away")
        return await super().read(key)

    async def write(self, key: str, text: str, ttl_s: float, after: int) -> bool:
        self.writes += 1
        return await super().write(key, text, ttl_s, after)


class World:
    """The clocks and the store of all processes."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.store = Store()

    def process(self, calls: Callable[[], int], most_minutes: int = 10) -> DayMinutes:
        metrics = Metrics()
        breaker = Breaker(self.store, metrics, lambda: self.passed_s)
        clock, now = lambda: self.passed_s, lambda: NOON + self.passed_s
        day = DayMinutes(most_minutes, Tallies(self.store, breaker, Seal(["a"])), metrics, calls, clock, now)
        day.metrics = metrics
        return day

    async def run(self, seconds: int, *days: DayMinutes) -> None:
        for _ in range(seconds):
            self.passed_s += 1
            for day in days:
                await day.on_tick()


@pytest.fixture
def world() -> World:
    return World()


def said(logs) -> list[str]:
    texts = ("minutes of the day are soon used up", "minutes of the day are used up")
    return [text for line in logs.lines for text in texts if text in line]


def seconds(day: DayMinutes) -> float:
    return day.metrics.registry.get_sample_value("bridge_day_call_seconds")


async def test_calls_use_the_minutes_up_and_each_mark_is_logged_once(world, logs):
    day = world.process(lambda: 2)
    await world.run(239, day)
    assert (day.is_over, said(logs)) == (False, [])
    await world.run(1, day)
    assert said(logs) == ["minutes of the day are soon used up"]
    await world.run(59, day)
    assert not day.is_over
    await world.run(1, day)
    assert day.is_over
    await world.run(100, day)
    assert len(said(logs)) == 2
    assert seconds(day) == 800
    assert day.metrics.registry.get_sample_value("bridge_day_call_seconds_max") == 600


async def test_next_day_frees_them(world, logs):
    day = world.process(lambda: 1)
    await world.run(600, day)
    assert day.is_over
    world.passed_s = TO_MIDNIGHT_S - 1
    assert day.is_over
    # Before the first tick of the day too.
    world.passed_s = TO_MIDNIGHT_S
    assert not day.is_over
    await world.run(1, day)
    assert not day.is_over
    await world.run(600, day)
    assert day.is_over
    assert len(said(logs)) == 4


async def test_processes_count_together_and_say_it_once(world, logs):
    days = [world.process(lambda: 1), world.process(lambda: 3)]
    # What one has used is in the store after one share, and read with the next one.
    await world.run(150 + 2 * int(SHARE_EVERY_S), *days)
    assert [day.is_over for day in days] == [True, True]
    assert sorted(said(logs)) == ["minutes of the day are soon used up", "minutes of the day are used up"]


async def test_process_that_starts_knows_what_was_used(world, logs):
    before = world.process(lambda: 1)
    await world.run(601, before)
    await before.share()
    after = world.process(lambda: 0)
    await after.on_tick()
    assert after.is_over
    assert len(said(logs)) == 2


async def test_while_the_store_is_away_a_process_counts_for_itself_and_shares_it_later(world, logs):
    one, other = world.process(lambda: 1), world.process(lambda: 0)
    await world.run(300, one, other)
    world.store.is_away = True
    await world.run(300, one, other)
    assert (one.is_over, other.is_over) == (True, False)
    world.store.is_away = False
    await world.run(int(OPEN_S + 2 * SHARE_EVERY_S), one, other)
    assert other.is_over
    assert len(said(logs)) == 2


async def test_store_that_has_lost_the_day_gets_it_again(world):
    day = world.process(lambda: 1)
    await world.run(400, day)
    await world.store.close()
    await world.run(int(SHARE_EVERY_S), day)
    other = world.process(lambda: 0)
    await other.on_tick()
    assert seconds(other) >= 400


async def test_call_that_was_handed_over_is_added_when_it_is_over(world):
    day = world.process(lambda: 0)
    day.add(599)
    assert not day.is_over
    day.add(-5)
    day.add(1)
    assert day.is_over


async def test_store_is_asked_seldom(world):
    day = world.process(lambda: 1)
    await world.run(100, day)
    assert world.store.writes <= 100 / SHARE_EVERY_S + 1
    idle = world.process(lambda: 0)
    before = world.store.writes
    await world.run(100, idle)
    assert world.store.writes == before


async def test_without_a_bound_nothing_is_counted(world):
    day = world.process(lambda: 9, most_minutes=0)
    await world.run(100, day)
    await day.share()
    assert (day.is_over, world.store.writes, seconds(day)) == (False, 0, 0)


@pytest.mark.parametrize("text", ["[]", '{"seconds": "many", "said": null}', "{"])
async def test_text_of_another_form_counts_as_none(world, text):
    await world.store.write("day:2027-01-15", text, 60, 0)
    day = world.process(lambda: 1)
    await world.run(1, day)
    assert seconds(day) == 1
