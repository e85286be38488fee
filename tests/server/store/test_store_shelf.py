"""Every store's shelf keeps the same promises: texts by name and part, the last ones first, within a bound."""

from __future__ import annotations

import asyncio
import time

import pytest
from stores import open_store, redis_server

from bridge.server.store.shelf import Shelf

__all__ = ["open_store", "redis_server"]

NOW = time.time()
UNTIL = NOW + 3600.0


@pytest.fixture
def shelf(open_store) -> Shelf:
    return open_store().shelf


async def put(
    shelf: Shelf, *names: str, part: int = 0, now: float = NOW, until: float = UNTIL, most: int = 100
):
    for n, name in enumerate(names):
        await shelf.put(name, part, f"{name} {part}", now + n, until, most)


async def test_texts_are_found_by_name_and_listed_from_the_last_one(shelf):
    await put(shelf, "a", "b", "c")
    assert await shelf.find("b", NOW) == ["b 0"]
    assert await shelf.find("d", NOW) == []
    assert await shelf.newest(NOW, 2) == ["c 0", "b 0"]
    assert await shelf.newest(NOW, 10) == ["c 0", "b 0", "a 0"]


async def test_another_process_finds_them(open_store):
    await put(open_store().shelf, "a")
    assert await open_store().shelf.find("a", NOW) == ["a 0"]


async def test_parts_of_a_name_stay_together_in_their_order(shelf):
    await put(shelf, "a", part=2)
    await put(shelf, "b", now=NOW + 1)
    await put(shelf, "a", part=10, now=NOW + 2)
    assert await shelf.find("a", NOW) == ["a 2", "a 10"]
    assert await shelf.newest(NOW, 10) == ["a 10", "a 2", "b 0"]
    assert await shelf.newest(NOW, 1) == ["a 10"]


async def test_some_are_left_out_at_the_beginning(shelf):
    await put(shelf, "a", "b", "c")
    await put(shelf, "b", part=1, now=NOW + 5)
    everything = ["b 1", "b 0", "c 0", "a 0"]
    for skip in range(6):
        for most in range(1, 6):
            assert await shelf.newest(NOW, most, skip) == everything[skip : skip + most]


async def test_text_takes_the_place_of_the_one_of_its_part(shelf):
    await put(shelf, "a")
    await shelf.put("a", 0, "é☎ '; DROP TABLE shelved; --", NOW, UNTIL, 100)
    assert await shelf.find("a", NOW) == ["é☎ '; DROP TABLE shelved; --"]


async def test_first_names_leave_beyond_the_bound_with_all_their_parts(shelf):
    await put(shelf, "a", "b")
    await put(shelf, "a", part=1, now=NOW + 5)
    await put(shelf, "c", now=NOW + 6, most=2)
    assert await shelf.newest(NOW, 10) == ["c 0", "a 1", "a 0"]
    await put(shelf, "d", now=NOW + 7, most=1)
    assert await shelf.newest(NOW, 10) == ["d 0"]
    assert await shelf.find("a", NOW) == []


async def test_texts_are_gone_when_their_time_is_over(shelf):
    at = time.time()
    await put(shelf, "a", now=at, until=at + 0.05)
    await put(shelf, "b", now=at)
    async with asyncio.timeout(10):
        # Redis goes by its own clock.
        while await shelf.find("a", at + 0.1):
            pass
    assert await shelf.newest(at + 0.1, 10) == ["b 0"]
    await put(shelf, "c", now=at + 1, most=2)
    assert await shelf.newest(at + 0.1, 10) == ["c 0", "b 0"]


async def test_name_that_is_removed_is_gone_everywhere(shelf):
    await put(shelf, "a", "b")
    await put(shelf, "a", part=1, now=NOW + 5)
    assert await shelf.remove("a")
    assert not await shelf.remove("a")
    assert await shelf.find("a", NOW) == []
    assert await shelf.newest(NOW, 10) == ["b 0"]


async def test_many_processes_put_at_once(open_store):
    shelves = [open_store().shelf for _ in range(4)]
    await asyncio.gather(*(put(shelf, *(f"{n}-{k}" for k in range(25))) for n, shelf in enumerate(shelves)))
    assert len(await shelves[0].newest(NOW, 200)) == 100
