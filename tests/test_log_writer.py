"""The log on a thread of its own: a reader that is slow, gone or never there costs lines, and stops nothing."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator

import pytest
from full_disk import file_of_at_most

from bridge import log_writer
from bridge.log_writer import LogWriter

DEADLINE_S = 10.0
PIPE_BYTES = 4096
DROPPED = "log lines were dropped: nobody read the log, or it could not be written"


class Pipe:
    """A pipe that holds a page; ``read`` empties it until its other end is closed."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def read(self) -> list[str]:
        os.close(self.writer)
        with os.fdopen(self.reader) as stream:
            return stream.read().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for end in (pipe.reader, pipe.writer):
        try:
            os.close(end)
        except OSError:
            continue


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("bridge.test", logging.INFO, __file__, 1, text, (), None)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_lines_come_in_order_and_are_all_there_after_the_close(pipe):
    writer = LogWriter(pipe.writer)
    for n in range(100):
        writer.handle(record(f"line {n}"))
    writer.close()
    assert pipe.read() == [f"line {n}" for n in range(100)]
    assert writer.dropped == 0


def test_lines_beyond_the_bound_are_dropped_counted_and_reported(pipe, monkeypatch):
    monkeypatch.setattr(log_writer, "MOST_LINES", 10)
    monkeypatch.setattr(log_writer, "FLUSH_S", 0.01)
    writer = LogWriter(pipe.writer)
    writer.setFormatter(logging.Formatter('{"level":"%(levelname)s","event":"%(message)s"}'))
    long = "x" * PIPE_BYTES
    # One that blocks in the middle, ten that wait, and more.
    for n in range(20):
        writer.handle(record(f"{n} {long}"))
    dropped = writer.dropped
    assert dropped in (9, 10)
    monkeypatch.setattr(log_writer, "FLUSH_S", DEADLINE_S)
    lines: list[dict[str, str]] = []
    with os.fdopen(pipe.reader) as stream:
        while len(lines) < 20 - dropped + 1:
            lines.append(json.loads(stream.readline()))
        writer.close()
    warnings = [line["event"] for line in lines if line["level"] == "WARNING"]
    assert warnings == [f"{dropped} {DROPPED}"]
    numbers = [int(line["event"].split()[0]) for line in lines if line["level"] == "INFO"]
    assert numbers == list(range(20 - dropped))
    assert writer.dropped == dropped


def test_writer_whose_reader_never_comes_ends_within_its_bound(pipe, monkeypatch):
    monkeypatch.setattr(log_writer, "FLUSH_S", 0.01)
    writer = LogWriter(pipe.writer)
    for n in range(3):
        writer.handle(record(f"{n}" * PIPE_BYTES))
    writer.close()
    assert writer._thread.is_alive()
    os.close(pipe.reader)
    writer._thread.join(DEADLINE_S)
    assert not writer._thread.is_alive()


def test_writer_whose_queue_is_full_ends_within_its_bound(pipe, monkeypatch):
    monkeypatch.setattr(log_writer, "FLUSH_S", 0.01)
    monkeypatch.setattr(log_writer, "MOST_LINES", 2)
    writer = LogWriter(pipe.writer)
    writer.handle(record("0" * PIPE_BYTES))
    # It blocks in the middle of the first.
    until(lambda: writer._lines.empty())
    for n in range(3):
        writer.handle(record(f"{n}"))
    assert writer.dropped == 1
    writer.close()
    assert writer._thread.is_alive()
    os.close(pipe.reader)
    until(lambda: writer._lines.empty())
    writer.close()
    assert not writer._thread.is_alive()


@pytest.mark.parametrize("room_bytes", [7, 14, 16])
def test_lines_go_on_where_a_full_disk_has_room_again(tmp_path, room_bytes):
    path = tmp_path / "log"
    with path.open("wb") as log:
        writer = LogWriter(log.fileno())
        with file_of_at_most(room_bytes):
            for n in range(4):
                writer.handle(record(f"line {n}"))
            until(lambda: writer.dropped == 4 - room_bytes // 7)
        writer.handle(record("last"))
        writer.close()
    whole = room_bytes // 7
    lines = path.read_text().splitlines()
    assert lines[:whole] == ["line 0", "line 1"][:whole]
    # Between them at most what was begun of others.
    assert lines[-2:] == [f"{4 - whole} {DROPPED}", "last"]
    assert writer.dropped == 4 - whole


@pytest.mark.parametrize("descriptor", ["none", "closed", "no reader", "full disk"])
def test_descriptor_that_takes_nothing_costs_lines_only(pipe, descriptor):
    os.close(pipe.reader)
    if descriptor == "closed":
        os.close(pipe.writer)
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        taken = {"none": None, "full disk": full.fileno()}
        writer = LogWriter(taken.get(descriptor, pipe.writer))
        for n in range(3):
            writer.handle(record(f"{n}"))
        writer.close()
    assert writer.dropped == 3


def test_value_that_cannot_be_formatted_is_reported_in_its_place(pipe, capsys):
    writer = LogWriter(pipe.writer)
    writer.handle(logging.LogRecord("bridge.test", logging.INFO, __file__, 1, "%d", ("x",), None))
    writer.handle(record("next"))
    writer.close()
    assert pipe.read() == ["a log line of bridge.test could not be formatted", "next"]
    assert capsys.readouterr().err == ""
