"""
Bridges frames between two native wires on loopback sockets, one frame per wake-up of the loop: for a profiler.

    PYTHONPATH=. python tests/support/data_path_program.py --frames 1000 [--spoil]

The peers are a process of their own, so that this one has nothing to do per frame but the data path. They send one
frame, by turns as the caller and as the agent, and wait until it has come out of the other end, byte for byte: no
other order costs as many wake-ups per frame. The counters of the wires come out as one line of JSON.

--spoil puts Python and orjson on the path: a guard that passes it is blind.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from _codec.wire import Wire

STREAM = "MZ" + 32 * "a"
FRAME_BYTES = 160
DISTINCT_FRAMES = 50
# Twilio's numbers, all of one length so that every frame costs the same.
FIRST_NUMBER = 100_000
CALLER_MASK = b"\x37\xfa\x21\x3d"

FROM_CALLER = (
    '{{"event":"media","sequenceNumber":"{number}","media":{{"track":"inbound","chunk":"{number}",'
    '"timestamp":"{number}","payload":"{payload}"}},"streamSid":"{stream}"}}'
)
TO_AGENT = '{{"type":"audio","audio_encoding":"mulaw","sample_rate":8000,"data":"{payload}"}}'
FROM_AGENT = '{{"type":"audio","data":"{payload}"}}'
TO_CALLER = '{{"event":"media","streamSid":"{stream}","media":{{"payload":"{payload}"}}}}'


class Owner:
    """Receives no audio that passes natively; with ``relay``, for a spoilt path, it reads every text message."""

    def __init__(self, relay: Callable[[bytes], None] | None) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_text = relay or self._refuse

    def _refuse(self, *arguments: Any) -> None:
        raise AssertionError(f"not on the native path: {arguments}")

    on_audio = on_binary = on_violation = on_congestion = on_peer_closed = _refuse

    def on_gone(self) -> None:
        self.gone.set_result(None)


class Opening(asyncio.Protocol):
    """Gives its transport to a wire, as the end of a handshake does."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def connection_made(self, transport: Any) -> None:
        self._wire.open(transport)
        transport.set_protocol(self._wire)
        self._wire.set_ready()


def run(frames: int, is_spoilt: bool) -> dict[str, int]:
    """Start the peers, bridge all their frames, and return the counters."""
    import uvloop

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        peers = subprocess.Popen([sys.executable, __file__, "--peers", str(port), str(frames)])
        accepted = [listener.accept()[0] for _ in range(2)]
    counters = uvloop.run(bridge(accepted, is_spoilt))
    assert peers.wait() == 0
    return counters


async def bridge(accepted: list[socket.socket], is_spoilt: bool) -> dict[str, int]:
    """Join two wires on the sockets of the caller and the agent, until both have hung up."""
    # Not for the peers: they start faster, and cannot share a fault with what they test.
    import aiofastnet
    import orjson

    from _codec import CallAudio, Envelope, HeldBudget, SpanFinder
    from _codec.wire import Wire
    from bridge.twilio.media import media_envelope, media_finder

    def to_agent(message: bytes) -> None:
        agent.send_audio(orjson.loads(message)["media"]["payload"].encode())

    def to_caller(message: bytes) -> None:
        caller.send_audio(orjson.loads(message)["data"].encode())

    owners = [Owner(relay if is_spoilt else None) for relay in (to_agent, to_caller)]
    caller, agent = (
        Wire(
            owner,
            is_client=is_client,
            max_message_bytes=65536,
            budget=HeldBudget(1 << 20),
            messages_per_s=100_000,
            hold_ms=1000,
        )
        for owner, is_client in zip(owners, (False, True), strict=True)
    )
    caller.set_format(None if is_spoilt else media_finder(STREAM), media_envelope(STREAM))
    agent.set_format(
        None
        if is_spoilt
        else SpanFinder("data", {"type": "audio"}, {"audio_encoding": "mulaw", "sample_rate": 8000}),
        Envelope(*TO_AGENT.format(payload="|").encode().split(b"|")),
    )
    caller.set_call_audio(CallAudio())
    caller.join(agent)
    agent.join(caller)

    loop = asyncio.get_running_loop()
    for wire, tcp in zip((caller, agent), accepted, strict=True):
        await aiofastnet.connect_accepted_socket(loop, functools.partial(Opening, wire), tcp)
    for owner in owners:
        await owner.gone
    return {
        "from_caller": caller.media_in,
        "to_agent": agent.audio_out_frames,
        "from_agent": agent.media_in,
        "to_caller": caller.audio_out_frames,
    }


class Way(NamedTuple):
    """One direction: what its sender writes, and the message that must come to its receiver."""

    sender: socket.socket
    receiver: socket.socket
    is_masked: bool
    frames: list[tuple[bytes, bytes]]


def play(port: int, frames: int) -> None:
    """Be the caller and the agent."""
    with (
        socket.create_connection(("127.0.0.1", port)) as caller,
        socket.create_connection(("127.0.0.1", port)) as agent,
    ):
        # Clients mask: the caller, and the bridge towards the agent.
        ways = (
            Way(caller, agent, True, prepared(FROM_CALLER, TO_AGENT, CALLER_MASK)),
            Way(agent, caller, False, prepared(FROM_AGENT, TO_CALLER, b"")),
        )
        for number in range(frames):
            way = ways[number % 2]
            sent, expected = way.frames[number // 2 % DISTINCT_FRAMES]
            way.sender.sendall(sent)
            got = read_message(way.receiver, len(expected), way.is_masked)
            assert got == expected, f"frame {number}: {got!r}"


def prepared(sent: str, expected: str, mask: bytes) -> list[tuple[bytes, bytes]]:
    pairs = []
    for number in range(DISTINCT_FRAMES):
        audio = bytes((number + 7 * i) % 256 for i in range(FRAME_BYTES))
        fields = {
            "number": FIRST_NUMBER + number,
            "payload": base64.b64encode(audio).decode(),
            "stream": STREAM,
        }
        message = sent.format(**fields).encode()
        head = ws_head(len(message), is_masked=bool(mask))
        pairs.append(
            (head + mask + (xor(message, mask) if mask else message), expected.format(**fields).encode())
        )
    return pairs


def ws_head(length: int, *, is_masked: bool) -> bytes:
    """Return the head of a text frame, without its mask (RFC 6455 5.2)."""
    assert 126 <= length < 65536
    return bytes((0x81, 126 | is_masked << 7)) + length.to_bytes(2, "big")


def read_message(receiver: socket.socket, length: int, is_masked: bool) -> bytes:
    head = ws_head(length, is_masked=is_masked)
    data = b""
    while len(data) < len(head) + 4 * is_masked + length:
        more = receiver.recv(65536)
        assert more, "the bridge closed"
        data += more
    assert data.startswith(head), data
    return xor(data[8:], data[4:8]) if is_masked else data[4:]


def xor(data: bytes, mask: bytes) -> bytes:
    repeated = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(data), "big")


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--peers", port, frames]:
            play(int(port), int(frames))
        case ["--frames", frames, *rest] if rest in ([], ["--spoil"]):
            print(json.dumps(run(int(frames), is_spoilt=bool(rest))))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
