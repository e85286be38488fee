"""The end of a TLS connection, which comes while the reader has paused."""

from __future__ import annotations

import pytest
from certificates import Tls
from server_frames import from_server
from wire_on_socket import MANY, connected, turn_until

GONE = ("on_gone",)
TEXTS = [b"%d" % n for n in range(MANY)]
FRAMES = b"".join(map(from_server, TEXTS))
TAKEN = [("text", text) for text in TEXTS]


@pytest.mark.parametrize(
    ("last", "calls"),
    [
        (b"", []),
        (from_server(b"\x03\xe8", 0x88), [("on_peer_closed", 1000, "")]),
        (b"\xff\xff", [("on_violation", 1002, "reserved bits set")]),
    ],
    ids=["nothing", "close frame", "violation"],
)
async def test_messages_of_several_turns_are_read_before_the_end_is_reported(tmp_path, last, calls):
    async with connected(tls=Tls(tmp_path)) as end:
        await end.send(FRAMES + last)
        end.finish()
        await turn_until(lambda: end.owner.is_gone)
        assert end.owner.calls == [*TAKEN, *calls, GONE]


async def test_connection_that_is_closed_in_the_rest_of_a_turn_reads_its_peers_end(tmp_path):
    async with connected(tls=Tls(tmp_path)) as end:
        await end.send(FRAMES + from_server(b"\x03\xe8", 0x88))
        await turn_until(lambda: end.owner.is_gone)
        assert end.owner.calls == [*TAKEN, ("on_peer_closed", 1000, ""), GONE]
