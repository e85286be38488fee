"""Messages and descriptors over a pair of Unix sockets, in order and whole, and what becomes of them at an end."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from live import until

from bridge.server.workers import channel
from bridge.server.workers.channel import Channel, pair


class End:
    """One end, and what came to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[dict[str, object]] = []
        self.contents: list[bytes] = []
        self.is_gone = False
        self.channel = Channel(sock, self._on_message, self._on_end)

    def _on_message(self, message: dict[str, object], descriptors: list[int]) -> None:
        self.messages.append(message)
        for descriptor in descriptors:
            self.contents.append(os.read(descriptor, 100))
            os.close(descriptor)

    def _on_end(self) -> None:
        self.is_gone = True


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
async def ends():
    before = descriptors()
    a, b = (End(sock) for sock in pair())
    yield a, b
    for end in (a, b):
        end.channel.close()
    assert descriptors() == before


def readable(content: bytes) -> int:
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    return read


async def test_messages_come_whole_and_in_order(ends):
    a, b = ends
    sent = [{"n": n, "text": "x" * (n * 997 % 5000)} for n in range(300)]
    for message in sent:
        assert a.channel.send(message)
    assert b.channel.send({"answer": True})
    await until(lambda: len(b.messages) == 300 and a.messages)
    assert b.messages == sent
    assert a.messages == [{"answer": True}]


async def test_message_longer_than_any_buffer_waits_for_its_reader(ends):
    a, b = ends
    long = {"text": "x" * (4 << 20)}
    assert a.channel.send(long)
    assert a.channel.send({"after": 1})
    await until(lambda: len(b.messages) == 2)
    assert b.messages == [long, {"after": 1}]


async def test_descriptors_come_with_their_messages(ends):
    a, b = ends
    for n in range(50):
        descriptors = [readable(b"%d-%d" % (n, i)) for i in range(n % 4)]
        assert a.channel.send({"n": n, "text": "y" * 3000}, descriptors)
        # The sender's own may go at once.
        for descriptor in descriptors:
            os.close(descriptor)
    await until(lambda: len(b.messages) == 50)
    assert b.contents == [b"%d-%d" % (n, i) for n in range(50) for i in range(n % 4)]


async def test_reader_that_stops_costs_messages_and_not_memory(ends, monkeypatch):
    monkeypatch.setattr(channel, "MOST_WAITING_BYTES", 1 << 20)
    a, b = ends
    asyncio.get_running_loop().remove_reader(b.channel._sock.fileno())
    taken = [a.channel.send({"text": "x" * 100_000}) for _ in range(40)]
    assert taken[:5] == [True] * 5
    assert taken[-1] is False
    asyncio.get_running_loop().add_reader(b.channel._sock.fileno(), b.channel._read)
    await until(lambda: len(b.messages) == sum(taken))


async def test_other_end_learns_of_the_end_and_of_nothing_after_it(ends):
    a, b = ends
    a.channel.send({"last": 1})
    a.channel.close()
    await until(lambda: b.is_gone)
    assert b.messages == [{"last": 1}]
    assert not b.channel.send({"late": 1}, [0])
    assert not a.channel.send({"late": 1})
    assert not a.is_gone


async def test_descriptors_that_were_never_sent_are_closed(ends):
    a, b = ends
    asyncio.get_running_loop().remove_reader(b.channel._sock.fileno())
    a.channel.send({"text": "x" * (1 << 20)})
    descriptor = readable(b"")
    a.channel.send({"n": 1}, [descriptor])
    os.close(descriptor)
