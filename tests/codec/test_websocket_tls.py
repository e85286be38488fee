"""The end of a TLS connection, which comes while the reader has paused."""

from __future__ import annotations

import asyncio
import socket

import aiofastnet
import pytest
from certificates import HOST, Tls
from live import until
from server_frames import from_server
from wire_on_pipe import Owner

from _codec import HeldBudget, Wire
from _codec.resume import TLS_BUFFER_BYTES

# A turn of the loop takes 64 messages.
MANY = 300


class Opening(asyncio.Protocol):
    """Hands a new connection to the wire, as the handshake does."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.set_protocol(self.wire)
        self.wire.open(transport)


async def opened(tls: Tls) -> tuple[Owner, asyncio.Transport]:
    """A wire on TLS, of which the owner notes the calls, and its peer's transport."""
    owner = Owner()
    wire = Wire(
        owner,
        is_client=True,
        max_message_bytes=1000,
        budget=HeldBudget(1 << 20),
        messages_per_s=1000,
        hold_ms=1000,
    )
    ours, theirs = socket.socketpair()
    for one in (ours, theirs):
        one.setblocking(False)
    loop = asyncio.get_running_loop()
    _, (peer, _) = await asyncio.gather(
        aiofastnet.create_connection(
            loop,
            lambda: Opening(wire),
            sock=ours,
            ssl=tls.client,
            server_hostname=HOST,
            ssl_incoming_bio_size=TLS_BUFFER_BYTES,
        ),
        aiofastnet.connect_accepted_socket(loop, asyncio.Protocol, theirs, ssl=tls.server()),
    )
    return owner, peer


@pytest.mark.parametrize(
    ("end", "calls"),
    [
        (b"", []),
        (from_server(b"\x03\xe8", 0x88), [("on_peer_closed", 1000, "")]),
        (b"\xff\xff", [("on_violation", 1002, "reserved bits set")]),
    ],
    ids=["nothing", "close frame", "violation"],
)
async def test_messages_of_several_turns_are_read_before_the_end_is_reported(tmp_path, end, calls):
    owner, peer = await opened(Tls(tmp_path))
    peer.write(b"".join(from_server(b"%d" % n) for n in range(MANY)) + end)
    peer.close()
    await until(lambda: ("on_gone",) in owner.calls)
    assert owner.calls == [*(("on_text", b"%d" % n) for n in range(MANY)), *calls, ("on_gone",)]


async def test_connection_that_is_closed_in_the_rest_of_a_turn_reads_its_peers_end(tmp_path):
    owner, peer = await opened(Tls(tmp_path))
    peer.write(b"".join(from_server(b"%d" % n) for n in range(MANY)) + from_server(b"\x03\xe8", 0x88))
    await until(lambda: ("on_gone",) in owner.calls)
    assert owner.calls[MANY:] == [("on_peer_closed", 1000, ""), ("on_gone",)]
