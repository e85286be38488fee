"""WebSocket frames of both peers, lawful and not, through the whole server."""

import gc
import json

import pytest
from live import PLAIN_TLS_AND_GATHERED, until
from live_raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawAgent,
    accept_head,
    raw_stream,
    ws_frame,
)

from bridge.standins.agent.faults import Faults

pytestmark = PLAIN_TLS_AND_GATHERED

CALLER_LIMIT = 64 * 1024
AGENT_LIMIT = 256 * 1024


def media(caller, text="YQ==", **extra) -> bytes:
    return json.dumps(
        {
            "event": "media",
            "streamSid": caller.stream_sid,
            "media": {"track": "inbound", "payload": text},
            **extra,
        }
    ).encode()


def padded(caller, size: int) -> bytes:
    """A ``media`` of exactly so many bytes, with a payload that is as long as fits."""
    room = size - len(media(caller, "", x=""))
    message = media(caller, "A" * (room // 4 * 4), x="y" * (room % 4))
    assert len(message) == size
    return message


@pytest.mark.parametrize("step", [1, 7, 60])
async def test_message_in_fragments_is_the_same_as_whole(live_server, step):
    live = await live_server()
    async with live.answered() as caller, raw_stream(live, caller) as socket:
        session = await live.session_of(caller)
        message = media(caller)
        pieces = [message[i : i + step] for i in range(0, len(message), step)]
        for i, piece in enumerate(pieces):
            await socket.send_frame(piece, CONTINUATION if i else TEXT, fin=i == len(pieces) - 1)
            await socket.send_frame(b"", PING)
        await socket.send_frame(b"", TEXT, fin=False)
        await socket.send_frame(media(caller, "Yg=="), CONTINUATION)
        await until(lambda: len(session.received) == 2)
        assert [item.audio for item in session.received] == [b"a", b"b"]


async def test_message_in_segments_of_one_byte_is_the_same_as_whole(live_server):
    live = await live_server()
    async with live.answered() as caller, raw_stream(live, caller) as socket:
        session = await live.session_of(caller)
        for byte in ws_frame(media(caller)):
            await socket.send(bytes([byte]))
        await until(lambda: session.received)


async def test_burst_in_one_segment_is_relayed_in_order(live_server):
    live = await live_server()
    async with live.answered() as caller, raw_stream(live, caller) as socket:
        session = await live.session_of(caller)
        payloads = [f"{n:04d}" for n in range(500)]
        await socket.send(b"".join(ws_frame(media(caller, text)) for text in payloads))
        await until(lambda: len(session.received) == 500)
        assert [item.payload for item in session.received] == payloads


async def test_start_and_media_in_the_segment_of_the_upgrade(live_server):
    live = await live_server(agent={"faults": Faults(open_delay_s=0.2)})
    async with live.answered() as caller, raw_stream(live, caller, start=False) as socket:
        texts = [caller.writer.connected(), caller.writer.start(caller.answer.parameters)]
        first = b"".join(ws_frame(text.encode()) for text in texts)
        await socket.send(first + b"".join(ws_frame(media(caller, f"{n:04d}")) for n in range(100)))
        session = await live.session_of(caller)
        await until(lambda: len(session.received) == 100)
        assert [item.payload for item in session.received] == [f"{n:04d}" for n in range(100)]


@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_largest_message_of_the_caller_passes_and_one_byte_more_is_1009(live_server, is_fragmented):
    live = await live_server()

    async def send(socket, message):
        if is_fragmented:
            await socket.send_frame(message[:40_000], fin=False)
            await socket.send_frame(message[40_000:], CONTINUATION)
        else:
            await socket.send_frame(message)

    async with live.bridged() as (other, other_session):
        async with live.answered() as caller, raw_stream(live, caller) as socket:
            session = await live.session_of(caller)
            await send(socket, padded(caller, CALLER_LIMIT - 1))
            await send(socket, padded(caller, CALLER_LIMIT))
            await until(lambda: len(session.received) == 2)
            await send(socket, padded(caller, CALLER_LIMIT + 1))
            assert await socket.close_code() == 1009
            await session.closed.wait()
            assert session.close_code == 1000
            assert len(session.received) == 2
            assert (await caller.follow_redirect()).verbs == ["Hangup"]
        await other.send_media(b"still here")
        await until(lambda: other_session.received)


async def test_endless_tiny_fragments_are_1009(live_server):
    live = await live_server()
    async with live.answered() as caller, raw_stream(live, caller) as socket:
        await live.session_of(caller)
        await socket.send(ws_frame(b"{", fin=False) + ws_frame(b"", CONTINUATION, fin=False) * 5000)
        assert await socket.close_code() == 1009


VIOLATIONS = {
    "rsv1": (1002, {"rsv": 4}),
    "rsv2": (1002, {"rsv": 2}),
    "rsv3": (1002, {"rsv": 1}),
    "opcode 3": (1002, {"opcode": 3}),
    "opcode 11": (1002, {"opcode": 11}),
    "continuation of nothing": (1002, {"opcode": CONTINUATION}),
    "fragmented ping": (1002, {"opcode": PING, "fin": False}),
    "long ping": (1002, {"opcode": PING, "payload": bytes(126)}),
    "not utf-8": (1007, {"payload": b'{"x":"\xc3\x28"}'}),
    "surrogate": (1007, {"payload": b"\xed\xa0\x80"}),
    "close of one byte": (1002, {"opcode": CLOSE, "payload": b"\x03"}),
    "close 999": (1002, {"opcode": CLOSE, "payload": b"\x03\xe7"}),
    "close 1005": (1002, {"opcode": CLOSE, "payload": b"\x03\xed"}),
    "close 1006": (1002, {"opcode": CLOSE, "payload": b"\x03\xee"}),
    "close 2999": (1002, {"opcode": CLOSE, "payload": b"\x0b\xb7"}),
    "close 5000": (1002, {"opcode": CLOSE, "payload": b"\x13\x88"}),
    "close not utf-8": (1007, {"opcode": CLOSE, "payload": b"\x03\xe8\xff"}),
}


def violation(name: str, mask: bool) -> bytes:
    options = {"payload": b"x", "mask": mask, **VIOLATIONS[name][1]}
    return ws_frame(options.pop("payload"), options.pop("opcode", TEXT), **options)


@pytest.mark.parametrize("name", [*VIOLATIONS, "wrong masking"])
async def test_violation_of_the_caller_closes_its_call_only(live_server, name):
    live = await live_server()
    async with live.bridged() as (other, other_session):
        async with live.answered() as caller, raw_stream(live, caller) as socket:
            session = await live.session_of(caller)
            await socket.send(
                ws_frame(b"x", mask=False) if name == "wrong masking" else violation(name, mask=True)
            )
            assert await socket.close_code() == VIOLATIONS.get(name, (1002,))[0]
            socket.finish()
            await socket.gone()
            await session.closed.wait()
            assert session.close_code == 1000
            assert (await caller.follow_redirect()).verbs == ["Hangup"]
        await other.send_media(b"still here")
        await until(lambda: other_session.received)
        assert live.live_calls == 1


@pytest.mark.parametrize("name", [*VIOLATIONS, "wrong masking"])
async def test_violation_of_the_agent_ends_the_call_with_the_fallback(live_server, tls, name):
    codes = []

    async def serve(socket):
        await socket.send(
            accept_head(socket)
            + (ws_frame(b"x", mask=True) if name == "wrong masking" else violation(name, mask=False))
        )
        codes.append(await socket.close_code())
        socket.finish()
        await socket.gone()

    async with RawAgent(serve, tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url)
        async with live.answered() as caller:
            live.refuse_sessions()
            await caller.open_stream()
            await caller.closed.wait()
            assert caller.close_code == 1011
            await until(lambda: codes)
            assert codes == [VIOLATIONS.get(name, (1002,))[0]]
            assert "Say" in (await caller.follow_redirect()).verbs
            await until(lambda: live.is_idle)
    # An exception that was never retrieved is reported at its collection.
    gc.collect()


async def test_largest_message_of_the_agent_passes_and_one_byte_more_is_1009(live_server):
    live = await live_server(BRIDGE_AGENT_MESSAGE_MAX_BYTES=AGENT_LIMIT)
    head, tail = '{"type":"audio","data":"', '"}'
    async with live.bridged() as (caller, session):
        live.refuse_sessions()
        room = AGENT_LIMIT - len(head + tail)
        await session.send_raw(head + "A" * (room // 4 * 4) + tail)
        await until(lambda: caller.received)
        assert len(caller.received_audio[0]) == room // 4 * 3
        # Nothing is left to play, so that the call ends at once.
        await session.send_interrupt()
        await session.send_raw(head + "A" * (room // 4 * 4 + 4) + tail)
        await caller.closed.wait()
        assert caller.close_code == 1011
        await session.closed.wait()
        assert session.close_code == 1009
        assert len(caller.received_audio) == 1


async def test_fragments_of_the_agent_are_joined(live_server, tls):
    async def serve(socket):
        await socket.send(accept_head(socket))
        message = b'{"type":"audio","data":"YQ=="}'
        for i, byte in enumerate(message):
            await socket.send_frame(bytes([byte]), CONTINUATION if i else TEXT, fin=i == len(message) - 1)
            await socket.send_frame(b"", PONG)
        await socket.send(
            b"".join(ws_frame(b'{"type":"audio","data":"%04d"}' % n, mask=False) for n in range(500))
        )
        await socket.gone()

    async with RawAgent(serve, tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url)
        async with live.answered() as caller:
            await caller.open_stream()
            await until(lambda: len(caller.received) == 501)
            assert [item.message.payload for item in caller.received] == [
                "YQ==",
                *(f"{n:04d}" for n in range(500)),
            ]


async def test_pings_are_answered_with_their_own_text(live_server):
    live = await live_server()
    async with live.answered() as caller, raw_stream(live, caller) as socket:
        await live.session_of(caller)
        await socket.send_frame(b"hello", PING)
        assert await socket.read_frame() == (PONG, b"hello")
        await socket.send(ws_frame(b"", PING) * 2000 + ws_frame(b"", PONG) * 2000)
        for _ in range(2000):
            assert await socket.read_frame() == (PONG, b"")


async def test_binary_fragments_are_ignored(live_server):
    live = await live_server()
    async with live.answered() as caller, raw_stream(live, caller) as socket:
        session = await live.session_of(caller)
        await socket.send_frame(b"\xff", BINARY, fin=False)
        await socket.send_frame(b"\xff", CONTINUATION)
        await socket.send_frame(media(caller))
        await until(lambda: session.received)
        assert await live.ignored("caller", "binary") == 1
