"""A TLS transport that is resumed delivers what it has read already, and the start-up test notices if not."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import cast

import aiofastnet
import pytest
from certificates import HOST, Tls

from _codec import resume


async def test_self_test_passes_with_the_installed_aiofastnet():
    await resume.self_test()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_self_test_fails_where_the_transport_forgets_what_it_has_read(monkeypatch):
    monkeypatch.setattr(resume, "resume_reading", lambda transport, is_wanted: transport.resume_reading())
    monkeypatch.setattr(resume, "_TEST_S", 0.2)
    # The transport reports an error of its own.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    with pytest.raises(RuntimeError, match="does not resume TLS"):
        await resume.self_test()


DEADLINE_S = 5.0


class Plain(asyncio.Transport):
    is_reading_now = False

    def resume_reading(self) -> None:
        self.is_reading_now = True


async def test_plain_transport_is_resumed_and_nothing_more():
    transport = Plain()
    resume.resume_reading(transport, lambda: True)
    assert transport.is_reading_now


class Paused(asyncio.BufferedProtocol):
    """Pauses at the first bytes."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.room = bytearray(1000)
        self.read_bytes = 0
        self.is_paused = asyncio.Event()
        self.is_lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.room

    def buffer_updated(self, nbytes: int) -> None:
        self.read_bytes += nbytes
        if not self.is_paused.is_set():
            self.transport.pause_reading()
            self.is_paused.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost.set()


async def paused_with(sent: bytes, tmp_path: Path) -> Paused:
    """A TLS connection whose peer has sent this and has gone, and whose reader has paused."""
    tls = Tls(tmp_path)
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    reader = Paused()
    loop = asyncio.get_running_loop()
    (_, peer), _ = await asyncio.gather(
        aiofastnet.connect_accepted_socket(loop, Paused, ends[0], ssl=tls.server()),
        aiofastnet.create_connection(
            loop,
            lambda: reader,
            sock=ends[1],
            ssl=tls.client,
            server_hostname=HOST,
            ssl_incoming_bio_size=resume.TLS_BUFFER_BYTES,
        ),
    )
    peer.transport.write(sent)
    await reader.is_paused.wait()
    peer.transport.abort()
    await peer.is_lost.wait()
    return reader


async def test_what_was_read_before_a_pause_is_delivered_though_the_peer_has_gone(tmp_path):
    reader = await paused_with(bytes(30000), tmp_path)
    resume.resume_reading(reader.transport, lambda: True)
    await asyncio.wait_for(reader.is_lost.wait(), DEADLINE_S)
    assert reader.read_bytes == 30000


async def test_a_reader_that_is_paused_again_before_its_turn_stays_paused(tmp_path):
    reader = await paused_with(bytes(30000), tmp_path)
    wanted = [False, True]
    resume.resume_reading(reader.transport, lambda: wanted.pop(0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert reader.read_bytes == 1000
    resume.resume_reading(reader.transport, lambda: wanted.pop(0))
    await asyncio.wait_for(reader.is_lost.wait(), DEADLINE_S)
    assert reader.read_bytes == 30000
