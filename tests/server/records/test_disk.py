"""The thread of the recordings: in order, bounded, and never in the way."""

from __future__ import annotations

import threading

import pytest
from live import until

from bridge.server.records import disk as disk_module
from bridge.server.records.disk import Disk


@pytest.fixture
async def disk():
    disk = Disk(lambda: None)
    yield disk
    await disk.close()
    assert not disk._thread.is_alive()


class Hold:
    """A job that is under way until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self) -> None:
        self.let_go.wait()


async def test_jobs_are_done_in_order_and_before_the_close(disk):
    done: list[int] = []
    for n in range(100):
        assert disk.put(lambda n=n: done.append(n), 10)
    await disk.close()
    assert done == list(range(100))
    assert disk.waiting_bytes == 0


async def test_audio_beyond_the_bound_is_refused_until_there_is_room(disk, monkeypatch):
    monkeypatch.setattr(disk_module, "MOST_BYTES", 100)
    hold = Hold()
    disk.put(hold)
    assert disk.put(lambda: None, 60)
    assert not disk.put(lambda: None, 41)
    assert disk.put(lambda: None, 40)
    # Ends of recordings have no audio.
    assert disk.put(lambda: None)
    assert disk.waiting_bytes == 100
    hold.let_go.set()
    await until(lambda: disk.waiting_bytes == 0)
    assert disk.put(lambda: None, 100)


async def test_audio_that_jobs_keep_counts(disk, monkeypatch):
    monkeypatch.setattr(disk_module, "MOST_BYTES", 100)

    def keep() -> None:
        disk.kept_bytes += 70

    await disk.ask(keep)
    assert not disk.put(lambda: None, 31)
    assert disk.put(lambda: None, 30)


async def test_question_is_answered_behind_the_jobs_before_it(disk):
    done: list[int] = []
    disk.put(lambda: done.append(1))
    assert await disk.ask(lambda: [*done, 2]) == [1, 2]

    def fail() -> None:
        raise PermissionError(1, "no")

    with pytest.raises(PermissionError):
        await disk.ask(fail)


async def test_what_is_regular_is_done_at_the_start_and_again(monkeypatch):
    monkeypatch.setattr(disk_module, "REGULARLY_S", 0.001)
    times: list[int] = []
    disk = Disk(lambda: times.append(1))
    await until(lambda: len(times) >= 3)
    await disk.close()


async def test_disk_that_never_answers_keeps_no_process(disk, monkeypatch):
    monkeypatch.setattr(disk_module, "FLUSH_S", 0.01)
    hold = Hold()
    disk.put(hold)
    await disk.close()
    assert disk._thread.is_alive()
    hold.let_go.set()
    monkeypatch.setattr(disk_module, "FLUSH_S", 10.0)


async def test_fault_of_a_job_is_logged_and_stops_no_other(logs):
    disk = Disk(lambda: None)
    disk.put(lambda: 1 / 0)
    assert await disk.ask(lambda: 1) == 1
    await disk.close()
    (fault,) = logs.faults()
    assert "fault in a recording" in fault
    logs.records.clear()
