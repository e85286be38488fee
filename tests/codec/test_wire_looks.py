"""Looks at a peer: what they note, and when the wire's owner has something to do."""

from __future__ import annotations

import asyncio

from server_frames import from_server
from wire_on_pipe import Pipe, make_wire

from _codec import SocketSet, Wire

MESSAGE = from_server(b"a")


def looked_at(*, settled_until: float = 1e9) -> tuple[Wire, Pipe]:
    """A wire whose peer does well at 0.5 s."""
    wire, pipe, _ = make_wire(is_client=True)
    wire.settled_until = settled_until
    wire.feed(MESSAGE)
    assert not wire.look(0.5, SocketSet())
    return wire, pipe


async def test_look_at_a_peer_that_does_well_leaves_nothing_to_do():
    wire, _ = looked_at()
    for n in range(2, 10):
        wire.feed(MESSAGE)
        assert not wire.look(n / 2, SocketSet())
        assert wire.heard_at == n / 2


async def test_look_at_a_quiet_peer_has_something_to_do():
    wire, _ = looked_at()
    assert wire.look(1.0, SocketSet())
    assert wire.heard_at == 0.5
    wire.feed(MESSAGE)
    assert not wire.look(1.5, SocketSet())


async def test_pings_are_a_sign_of_an_agent_and_not_of_a_caller():
    for is_client in (True, False):
        wire, _, _ = make_wire(is_client=is_client)
        wire.settled_until = 1e9
        wire.feed(b"\x89\x00" if is_client else b"\x89\x80" + bytes(4))
        assert wire.look(0.5, SocketSet()) is not is_client


async def test_look_after_the_settled_time_has_something_to_do():
    wire, _ = looked_at(settled_until=1.0)
    wire.feed(MESSAGE)
    assert wire.look(1.0, SocketSet())


async def test_look_at_a_peer_that_does_not_read_or_is_not_read_has_something_to_do():
    wire, _ = looked_at()
    wire.feed(MESSAGE)
    wire.pause_writing()
    assert wire.look(1.0, SocketSet())
    wire.resume_writing()
    wire.feed(MESSAGE)
    assert not wire.look(1.5, SocketSet())
    # More than one turn's work.
    wire.feed(MESSAGE * 65)
    assert wire.is_paused
    assert wire.look(2.0, SocketSet())
    await asyncio.sleep(0)
    wire.feed(MESSAGE)
    assert not wire.look(2.5, SocketSet())


async def test_standstill_of_the_process_is_not_the_peers_silence():
    wire, _ = looked_at()
    assert wire.look(30.0, SocketSet())
    assert wire.stood_still_s == 29.5
    assert wire.heard_at == 30.0
    assert wire.look(30.5, SocketSet())
    assert wire.stood_still_s == 0.0
    assert wire.heard_at == 30.0
    # Its other deadlines are to move even if it has sent something.
    wire.feed(MESSAGE)
    assert wire.look(60.5, SocketSet())
    assert wire.stood_still_s == 30.0
    assert wire.heard_at == 60.5
