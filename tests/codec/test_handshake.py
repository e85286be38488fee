"""From picows' handshake to the wire: no byte that came with the handshake is lost or read twice."""

import asyncio
import base64
import hashlib
from typing import Any

import picows
import pytest
from live import until

import _codec

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LAST = ("on_violation", "on_peer_closed", "on_gone")
HELLO = b"\x81\x05Hello"
LONG = b"\x81\x7e\x01\x00" + 256 * b"x"
HUGE = b"\x82\x7f" + (70_000).to_bytes(8) + 70_000 * b"y"


class Owner:
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))


async def calls_after(pieces: list[bytes]) -> list[tuple[Any, ...]]:
    """The calls of a wire whose server sends these bytes, the first ones in one segment with its handshake."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        writer.write(answer + pieces[0])
        for piece in pieces[1:]:
            await writer.drain()
            # A turn of the loop for the other end, so that what follows is another read.
            await asyncio.sleep(0.01)
            writer.write(piece)
        await reader.read()
        writer.close()
        await writer.wait_closed()

    owner = Owner()
    wire = _codec.Wire(
        owner,
        is_client=True,
        max_message_bytes=100_000,
        budget=_codec.HeldBudget(1 << 20),
        messages_per_s=1000,
        hold_ms=1000,
    )
    opened: list[Any] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await picows.ws_connect(
            lambda: _codec.Handshake(wire, opened.append),
            f"ws://127.0.0.1:{port}/",
            enable_auto_pong=False,
            read_buffer_init_size=2048,
        )
        try:
            await until(
                lambda: any(entry == ("on_text", b"end") or entry[0] in LAST for entry in owner.calls)
            )
        finally:
            opened[0].abort()
        await until(lambda: ("on_gone",) in owner.calls)
    assert len(opened) == 1
    return owner.calls


END = b"\x81\x03end"


@pytest.mark.parametrize(
    "pieces",
    [
        [HELLO + END],
        [HELLO + HELLO[:3], HELLO[3:] + END],
        [HELLO[:1], HELLO[1:] + END],
        [b"", HELLO + END],
        [b"", HELLO, LONG + END],
        [LONG[:100], LONG[100:] + HELLO[:6], HELLO[6:] + END],
        [HELLO + HUGE[:5], HUGE[5:30_000], HUGE[30_000:] + END],
        [b"\x01\x02He", b"\x89\x04ping\x80\x03llo" + END],
        [b"\x89\x00" + HELLO + END],
    ],
    ids=repr,
)
async def test_every_frame_is_reported_once_however_the_bytes_fall(pieces):
    calls = [entry for entry in await calls_after(pieces) if entry[0] != "on_gone"]
    whole = b"".join(pieces)
    expected = []
    for frame, message in (
        (HELLO, ("on_text", b"Hello")),
        (LONG, ("on_text", 256 * b"x")),
        (HUGE, ("on_binary", 70_000 * b"y")),
        (b"\x01\x02He\x89\x04ping\x80\x03llo", ("on_text", b"Hello")),
        (END, ("on_text", b"end")),
    ):
        expected += [(whole.index(frame) + n, message) for n in range(whole.count(frame))]
    assert calls == [message for _, message in sorted(expected)]


@pytest.mark.parametrize(
    ("piece", "code"), [(b"\x83\x00", 1002), (b"\xc1\x00", 1002), (b"\x81\x85abcdefghi", 1002)], ids=repr
)
async def test_violation_in_the_first_frame_is_reported(piece, code):
    calls = await calls_after([piece])
    assert [entry[:2] for entry in calls if entry[0] == "on_violation"] == [("on_violation", code)]


@pytest.mark.parametrize("reason", ["", "Missing variables: näme"])
async def test_close_as_the_first_frame_is_reported_with_its_code_and_reason(reason):
    payload = b"\x03\xe8" + reason.encode()
    calls = await calls_after([bytes([0x88, len(payload)]) + payload])
    assert calls == [("on_peer_closed", 1000, reason), ("on_gone",)]
