"""The callback that sleeps between two looks at the sockets: when it runs, and that it stops."""

from __future__ import annotations

import asyncio
import errno
import select

import pytest

from bridge.server import gather
from bridge.server.gather import FROM_CALLS, Gather


@pytest.fixture
def sleeps(monkeypatch) -> list[float]:
    """The sleeps that were asked for; none is slept."""
    asked: list[float] = []
    monkeypatch.setattr(gather.time, "sleep", asked.append)
    return asked


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_loop_sleeps_once_a_turn_while_enough_calls_are_up(sleeps):
    gathering = Gather(0.25)
    gathering.set_calls(FROM_CALLS - 1)
    await turns(3)
    assert sleeps == []
    gathering.set_calls(FROM_CALLS)
    gathering.set_calls(FROM_CALLS + 1)
    await turns(5)
    assert 4 <= len(sleeps) <= 5
    assert set(sleeps) == {0.25}
    gathering.set_calls(FROM_CALLS - 1)
    await turns(1)
    asked = len(sleeps)
    await turns(3)
    assert len(sleeps) == asked


async def test_calls_that_come_back_before_the_next_turn_do_not_double_it(sleeps):
    gathering = Gather(0.25)
    for _ in range(3):
        gathering.set_calls(FROM_CALLS)
        gathering.set_calls(0)
    gathering.set_calls(FROM_CALLS)
    await turns(4)
    gathering.set_calls(0)
    assert len(sleeps) <= 4
    await turns(1)


async def test_interval_of_zero_is_off(sleeps):
    gathering = Gather(0)
    gathering.set_calls(10_000)
    await turns(3)
    assert sleeps == []


async def test_busy_loop_does_not_sleep(sleeps, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(gather.time, "monotonic", lambda: now[0])
    gathering = Gather(0.001)
    gathering.set_calls(FROM_CALLS)
    await turns(1)
    now[0] += 0.5
    await turns(1)
    asked = len(sleeps)
    now[0] += 0.5
    await turns(1)
    assert len(sleeps) == asked
    gathering.set_calls(0)
    await turns(1)


async def test_timers_go_on():
    gathering = Gather(0.0005)
    gathering.set_calls(FROM_CALLS)
    fired = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, fired.set)
    await asyncio.wait_for(fired.wait(), 5)
    gathering.set_calls(0)
    await turns(1)


async def test_sockets_are_read_past_the_loop_while_it_sleeps(sleeps):
    gathering = Gather(0.25)
    assert not gathering.sockets.is_on
    gathering.set_calls(FROM_CALLS)
    assert gathering.sockets.is_on
    await turns(2)
    gathering.set_calls(0)
    # Somebody looks until the loop has them again.
    assert gathering.sockets.is_on
    await turns(2)
    assert not gathering.sockets.is_on


async def test_looks_go_on_after_a_fault(sleeps):
    class Faulty:
        is_on = False
        looks = 0

        def start(self) -> None:
            self.is_on = True

        def look(self) -> None:
            self.looks += 1
            raise RuntimeError("as the test wants it")

        def stop(self) -> None:
            self.is_on = False

    faults = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    gathering = Gather(0.25)
    gathering.sockets = sockets = Faulty()
    gathering.set_calls(FROM_CALLS)
    await turns(4)
    assert sockets.looks > 1
    assert len(faults) == sockets.looks
    gathering.set_calls(0)
    await turns(2)
    assert not sockets.is_on
    asyncio.get_running_loop().set_exception_handler(None)


async def test_process_without_a_free_descriptor_sleeps_all_the_same(sleeps, monkeypatch):
    def refuse() -> None:
        raise OSError(errno.EMFILE, "as the test wants it")

    gathering = Gather(0.25)
    with monkeypatch.context() as patched:
        patched.setattr(select, "epoll", refuse)
        gathering.set_calls(FROM_CALLS)
    assert not gathering.sockets.is_on
    await turns(3)
    assert sleeps
    gathering.set_calls(0)
    await turns(2)
    gathering.set_calls(FROM_CALLS)
    assert gathering.sockets.is_on
    gathering.set_calls(0)
    await turns(2)
