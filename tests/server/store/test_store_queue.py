"""Every store's queue keeps the same promises: order in a lane, one lease at a time, a bound, and no text twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis_server import RedisServer, redis
from stores import open_store, redis_server, redis_store

from bridge.server.store.queue import KNOWN_S, Length, Queue, Queued
from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.store import Store

__all__ = ["open_store", "redis", "redis_server"]

NOW = time.time()
LEASE_S = 30.0
UNTIL = NOW + 3600.0


@pytest.fixture
async def in_redis(redis: RedisServer) -> AsyncIterator[Store]:
    store = redis_store(redis.url)
    yield store
    await store.close()


@pytest.fixture
def queue(open_store) -> Queue:
    return open_store().queue


async def push(queue: Queue, lane: str, id: str, now: float = NOW, most: int = 100, until: float = UNTIL):
    return await queue.push(lane, id, f"text of {id}", now, until, most)


async def take(queue: Queue, now: float = NOW, lease: str = "lease", most: int = 10) -> list[Queued]:
    return await queue.take(now, now + LEASE_S, lease, most)


def ids(taken: list[Queued]) -> list[str]:
    return [one.id for one in taken]


async def test_texts_of_a_lane_are_forgotten_and_keep_their_places(queue):
    for lane, id in (("A", "a1"), ("A", "a2"), ("B", "b1")):
        assert await push(queue, lane, id)
    assert await queue.blank("A")
    assert not await queue.blank("A")
    assert not await queue.blank("C")
    assert (await queue.length()).texts == 3
    assert sorted(await take(queue)) == [Queued("A", "a1", "", 1), Queued("B", "b1", "text of b1", 1)]
    assert await queue.finish("A", "a1", "lease", NOW)
    assert await take(queue) == [Queued("A", "a2", "", 1)]
    assert await queue.postpone("B", "b1", "lease", NOW)
    assert await take(queue) == [Queued("B", "b1", "text of b1", 2)]


async def test_lanes_are_independent_and_each_is_in_order(queue):
    for lane, id in (("A", "a1"), ("B", "b1"), ("A", "a2"), ("A", "a3")):
        assert await push(queue, lane, id)
    assert sorted(await take(queue)) == [
        Queued("A", "a1", "text of a1", 1),
        Queued("B", "b1", "text of b1", 1),
    ]
    assert await queue.finish("A", "a1", "lease", NOW)
    assert ids(await take(queue)) == ["a2"]
    assert await queue.finish("A", "a2", "lease", NOW)
    assert ids(await take(queue)) == ["a3"]
    assert await queue.finish("A", "a3", "lease", NOW)
    assert await queue.finish("B", "b1", "lease", NOW)
    assert await take(queue, NOW + 2 * LEASE_S) == []
    assert await queue.length() == Length(0, 0.0)


async def test_lane_that_was_empty_goes_on(queue):
    for id in ("a1", "a2"):
        await push(queue, "A", id)
        assert ids(await take(queue)) == [id]
        assert await queue.finish("A", id, "lease", NOW)


async def test_leased_lane_is_nobody_elses_until_the_lease_is_over(queue):
    await push(queue, "A", "a1")
    await take(queue, lease="mine")
    await push(queue, "A", "a2")
    assert await take(queue, NOW + LEASE_S - 0.01, lease="other") == []
    assert await take(queue, NOW + LEASE_S, lease="other") == [Queued("A", "a1", "text of a1", 2)]
    assert not await queue.finish("A", "a1", "mine", NOW)
    assert not await queue.postpone("A", "a1", "mine", NOW)
    assert await queue.finish("A", "a1", "other", NOW)
    assert not await queue.finish("A", "a1", "other", NOW)
    assert ids(await take(queue)) == ["a2"]


async def test_postponed_text_holds_up_its_lane_alone(queue):
    await push(queue, "A", "a1")
    await push(queue, "A", "a2")
    await take(queue)
    assert await queue.postpone("A", "a1", "lease", NOW + 5.25)
    assert not await queue.finish("A", "a1", "lease", NOW)
    await push(queue, "B", "b1")
    assert ids(await take(queue, NOW + 5.24)) == ["b1"]
    assert await take(queue, NOW + 5.25) == [Queued("A", "a1", "text of a1", 2)]


async def test_longest_due_comes_first_and_no_more_than_asked_for(queue):
    for n in (3, 1, 2):
        await push(queue, f"lane {n}", f"{n}", NOW - 10 + n)
    assert [ids(await take(queue, most=1)) for _ in range(4)] == [["1"], ["2"], ["3"], []]


async def test_bound_refuses_what_comes_beyond_it(queue):
    assert [await push(queue, "A", f"{n}", most=2) for n in range(3)] == [True, True, False]
    # It is there already.
    assert await push(queue, "A", "1", most=2)
    assert await queue.length() == Length(2, pytest.approx(NOW))
    await take(queue)
    await queue.finish("A", "0", "lease", NOW)
    assert await push(queue, "A", "2", most=2)


async def test_push_that_comes_again_changes_nothing_also_after_the_text_has_left(queue):
    for _ in range(2):
        assert await push(queue, "A", "a1")
    assert ids(await take(queue)) == ["a1"]
    assert await queue.finish("A", "a1", "lease", NOW)
    assert await push(queue, "A", "a1", NOW + KNOWN_S - 1)
    assert await take(queue, NOW + KNOWN_S) == []
    assert (await queue.length()).texts == 0


async def test_text_is_forgotten_with_its_time_and_its_place_stays(queue):
    await push(queue, "A", "a1", until=NOW + 60)
    await push(queue, "A", "a2")
    assert await take(queue, NOW + 60) == [Queued("A", "a1", "", 1)]
    assert await queue.finish("A", "a1", "lease", NOW + 60)
    assert ids(await take(queue, NOW + 60)) == ["a2"]


async def test_sqlite_deletes_texts_whose_time_is_over_and_ids_that_are_known_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("bridge.server.store.sqlite_queue.PURGE_EVERY", 3)
    store = SqliteStore(tmp_path / "store.sqlite3")
    await push(store.queue, "A", "left", NOW - KNOWN_S - 1)
    await take(store.queue)
    await store.queue.finish("A", "left", "lease", NOW - KNOWN_S - 1)
    await push(store.queue, "A", "over", until=NOW - 1)
    await push(store.queue, "A", "good")
    rows = await store._run(lambda connection: connection.execute("SELECT id, text FROM queued").fetchall())
    assert rows == [("over", ""), ("good", "text of good")]
    await store.close()


async def test_redis_forgets_texts_with_their_time_and_leaves_nothing_behind_an_empty_lane(redis, in_redis):
    queue = in_redis.queue
    await push(queue, "A", "over", until=NOW - 1)
    await push(queue, "A", "good")
    async with redis.client() as client:
        assert {key.decode() for key in await client.keys("*:text:*")} == {"bridge:test:queue:text:good"}
        for _ in range(2):
            (one,) = await take(queue)
            await queue.finish("A", one.id, "lease", NOW)
        left = {key.decode() for key in await client.keys()}
        assert left == {f"bridge:test:queue:text:{id}" for id in ("over", "good")}
        for key in left:
            assert await client.pttl(key) in range(1, round(KNOWN_S * 1000) + 1)


async def test_oldest_text_is_known(queue):
    await push(queue, "A", "a1", NOW - 7)
    await push(queue, "B", "b1", NOW - 3)
    assert await queue.length() == Length(2, pytest.approx(NOW - 7))
    await take(queue)
    await queue.finish("A", "a1", "lease", NOW)
    assert await queue.length() == Length(1, pytest.approx(NOW - 3))


async def test_one_of_many_takers_at_once_gets_each_text(open_store):
    queues = [open_store().queue for _ in range(4)]
    pushed = [(n % 4, f"lane {n}", f"{n}") for n in range(40)]
    await asyncio.gather(*(push(queues[which], lane, id) for which, lane, id in pushed))
    taken = await asyncio.gather(
        *(take(queue, lease=f"{n}", most=3) for n, queue in enumerate(queues) for _ in range(5))
    )
    assert sorted(one.id for some in taken for one in some) == sorted(id for _, _, id in pushed)


async def test_many_pushes_of_a_lane_at_once_are_all_there(open_store):
    queues = [open_store().queue for _ in range(4)]
    await asyncio.gather(*(push(queues[n % 4], "A", f"{n}") for n in range(40)))
    left = set()
    for _ in range(40):
        (one,) = await take(queues[0])
        assert await queues[1].finish("A", one.id, "lease", NOW)
        left.add(one.id)
    assert left == {f"{n}" for n in range(40)}
