"""Buffers of TLS transports whose memory is given back: what they hold stays, and the process becomes smaller."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import aiofastnet
import pytest
from certificates import HOST, Tls
from live import until

from _codec.resume import resume_reading
from _codec.tls_memory import give_back

BUFFER_BYTES = 4 << 20
# Several reads of a buffer that is never full, and no multiple of a TLS record.
SENT = bytes(range(251)) * 1500


class Reader(asyncio.BufferedProtocol):
    """Takes a little at a time, and pauses after each."""

    transport: Any

    def __init__(self, is_slow: bool) -> None:
        self.is_slow = is_slow
        self.received = bytearray()
        self._room = bytearray(1000 if is_slow else 1 << 20)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self._room[:nbytes]
        if self.is_slow:
            self.transport.pause_reading()


async def opened(tls: Tls, *, is_slow: bool) -> tuple[Reader, asyncio.Transport]:
    ours, theirs = socket.socketpair()
    for one in (ours, theirs):
        one.setblocking(False)
    loop = asyncio.get_running_loop()
    (_, reader), (peer, _) = await asyncio.gather(
        aiofastnet.create_connection(
            loop,
            lambda: Reader(is_slow),
            sock=ours,
            ssl=tls.client,
            server_hostname=HOST,
            ssl_incoming_bio_size=BUFFER_BYTES,
        ),
        aiofastnet.connect_accepted_socket(loop, asyncio.Protocol, theirs, ssl=tls.server()),
    )
    return reader, peer


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_bytes_that_wait_in_the_buffer_stay(tmp_path):
    reader, peer = await opened(Tls(tmp_path), is_slow=True)
    peer.write(SENT)
    while len(reader.received) < len(SENT):
        count = len(reader.received)
        give_back(reader.transport)
        resume_reading(reader.transport, lambda: True)
        await until(lambda count=count: len(reader.received) > count)
    assert reader.received == SENT
    reader.transport.abort()
    peer.abort()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say what is resident")
async def test_memory_that_a_burst_has_touched_comes_back(tmp_path):
    reader, peer = await opened(Tls(tmp_path), is_slow=False)
    tcp = reader.transport.get_extra_info("socket")
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    reader.transport.pause_reading()
    peer.write(SENT)
    before = resident_bytes()
    reader.transport.resume_reading()
    await until(lambda: len(reader.received) == len(SENT))
    touched = resident_bytes() - before
    before = resident_bytes()
    give_back(reader.transport)
    assert before - resident_bytes() > 64 << 10, touched
    reader.transport.abort()
    peer.abort()


async def test_plain_transport_stays_as_it_is():
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        transport, _ = await aiofastnet.create_connection(
            asyncio.get_running_loop(), asyncio.Protocol, sock=ours
        )
        give_back(transport)
        transport.abort()
