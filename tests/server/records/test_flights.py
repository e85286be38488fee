"""Files of flight records: sealed, for this user alone, for a while, and written by a thread."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.metrics import Metrics
from bridge.seal import BadSeal, Seal
from bridge.server.records import flights as module
from bridge.server.records.flights import MOST_FILES, MOST_WAITING, FilesUnavailableError, FlightFiles

SID, OTHER = "CA" + "1" * 32, "CA" + "2" * 32
HOUR_S = 3600.0


class Bench:
    """Flight files in a folder."""

    def __init__(self, folder: Path, secret: str = "auth", *, is_sealed: bool = True) -> None:
        self.folder = folder
        self.metrics = Metrics()
        self.seal = Seal([secret])
        sealed = partial(self.seal.seal, "flight") if is_sealed else None
        self.files = FlightFiles(folder, sealed, self.unsealed, HOUR_S, self.metrics)

    def unsealed(self, text: str) -> dict[str, Any] | None:
        try:
            return self.seal.open("flight", text, None)
        except BadSeal:
            return None

    async def keep(self, call_sid: str = SID, **fields: Any) -> None:
        """Keep a record, and wait until it is written."""
        self.files.keep(call_sid, fields)
        await self.files.find(call_sid)

    @property
    def lost(self) -> float | None:
        return self.metrics.registry.get_sample_value("bridge_flight_files_lost_total")


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path / "state" / "flights")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "flight files":
            thread.join(5.0)
            assert not thread.is_alive()


async def test_record_is_written_sealed_for_this_user_alone_and_found(bench):
    await bench.keep(names=["canary"], part=orjson.Fragment(b'{"a":1}'))
    [path] = bench.folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(bench.folder.stat().st_mode) == 0o700
    assert b"canary" not in path.read_bytes()
    assert await bench.files.find(SID) == {"names": ["canary"], "part": {"a": 1}}
    assert await bench.files.find(OTHER) is None
    await bench.files.stop()


async def test_last_record_of_a_call_is_found_and_all_of_them_are_removed(bench, monkeypatch):
    for n in range(3):
        monkeypatch.setattr(module.time, "time", lambda n=n: 1.7e9 + n)
        await bench.keep(n=n)
    await bench.keep(OTHER)
    assert await bench.files.find(SID) == {"n": 2}
    assert await bench.files.forget(SID)
    assert not await bench.files.forget(SID)
    assert await bench.files.find(SID) is None
    assert await bench.files.find(OTHER) == {}
    await bench.files.stop()


async def test_record_that_waits_is_removed_too(bench):
    bench.files.keep(SID, {})
    assert await bench.files.forget(SID)
    assert list(bench.folder.iterdir()) == []
    await bench.files.stop()


async def test_files_are_bounded_by_number_and_by_age(bench, monkeypatch):
    await bench.keep()
    now = round(time.time() * 1000)
    made = [bench.folder / f"{OTHER}-{now - MOST_FILES + n}.flight" for n in range(MOST_FILES)]
    too_old = bench.folder / f"{OTHER}-{now - round(HOUR_S * 1000) - 5000}.flight"
    unfinished = bench.folder / f"{OTHER}-{now - round(HOUR_S * 1000) - 5000}.flight.tmp"
    foreign = bench.folder / "notes.txt"
    for path in (*made, too_old, unfinished, foreign):
        path.touch()
    await bench.keep()
    await bench.files.find(SID)
    left = set(bench.folder.iterdir())
    assert len(left) == MOST_FILES + 1
    assert foreign in left
    assert not {too_old, unfinished, *made[:2]} & left
    assert set(made[2:]) < left
    await bench.files.stop()


async def test_old_files_go_also_while_no_call_ends_badly(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PRUNE_EVERY_S", 0.005)
    old = tmp_path / f"{SID}-1700000000000.flight"
    old.touch()
    bench = Bench(tmp_path)
    await bench.files.find(SID)
    # At the start.
    assert not old.exists()
    old.touch()
    deadline = time.monotonic() + 5.0
    while old.exists() and time.monotonic() < deadline:
        await bench.files.find(OTHER)
    assert not old.exists()
    await bench.files.stop()


async def test_files_of_another_secret_are_passed_over(bench):
    await bench.keep(n=1)
    other = Bench(bench.folder, "another")
    assert await other.files.find(SID) is None
    await other.files.stop()
    await bench.files.stop()


async def test_without_a_secret_nothing_is_written(tmp_path):
    bench = Bench(tmp_path / "flights", is_sealed=False)
    await bench.keep()
    assert not (tmp_path / "flights").exists()
    assert bench.lost == 0
    await bench.files.stop()


async def test_record_that_cannot_be_written_is_counted_and_the_log_says_so_once(tmp_path, logs):
    (tmp_path / "file").touch()
    bench = Bench(tmp_path / "file" / "flights")
    await bench.keep()
    await bench.keep()
    assert bench.lost == 2
    [line] = [line for line in logs.lines if "cannot be written" in line]
    assert "BRIDGE_STATE_DIR" in line
    (tmp_path / "file").unlink()
    await bench.keep(n=3)
    assert await bench.files.find(SID) == {"n": 3}
    assert bench.lost == 2
    await bench.files.stop()


async def test_full_disk_leaves_no_part_of_a_file(bench, monkeypatch, logs):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            os.close(self.descriptor)

        def write(self, text):
            raise OSError(28, "No space left on device")

    def full(descriptor, *arguments, **options):
        Full.descriptor = descriptor
        return Full()

    monkeypatch.setattr(module.os, "fdopen", full)
    await bench.keep()
    assert bench.lost == 1
    assert list(bench.folder.iterdir()) == []
    await bench.files.stop()


async def test_disk_that_hangs_costs_records_beyond_the_bound_and_questions_their_time(bench, monkeypatch):
    monkeypatch.setattr(module, "ASK_S", 0.01)
    entered, gate = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        gate.wait()

    bench.files._jobs.put(hang)
    entered.wait()
    bench.files.keep(SID, {})
    with pytest.raises(FilesUnavailableError):
        await bench.files.find(SID)
    for _ in range(MOST_WAITING):
        bench.files.keep(SID, {})
    # One waits already, and so does the question.
    assert bench.lost == 2
    with pytest.raises(FilesUnavailableError):
        await bench.files.forget(SID)
    gate.set()
    await bench.files.stop()
    assert bench.files._jobs.empty()
    assert len(list(bench.folder.iterdir())) > 0


@pytest.mark.parametrize("step", ["iterdir", "read_text"])
async def test_folder_that_cannot_be_read_is_unavailable(bench, monkeypatch, step):
    await bench.keep()

    def fails(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.Path, step, fails)
    with pytest.raises(FilesUnavailableError):
        await bench.files.find(SID)
    await bench.files.stop()


async def test_folder_that_cannot_be_read_has_not_forgotten(bench, monkeypatch, logs):
    await bench.keep()

    def fails(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.Path, "iterdir", fails)
    with pytest.raises(FilesUnavailableError):
        await bench.files.forget(SID)
    # The next look at old files is no fault.
    await bench.files._ask(bench.files._prune)
    await bench.files.stop()
