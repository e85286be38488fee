"""WebSocket upgrades on the front's port: frames made here, by RFC 6455, and aiohttp's client beside them."""

import asyncio
import base64
import hashlib
import logging
import os
from dataclasses import replace

import aiohttp
import pytest
from http_front_raw import (
    DEADLINE_S,
    LIMITS,
    SECRET,
    SHORT_S,
    Client,
    client_tls,
    on_uvloop,
    serving,
    soon,
    until,
)

from bridge.http import handover as http_handover
from bridge.http.front import Front, self_test

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
G = b"GET /media HTTP/1.1\r\nHost: x\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
KEYED = b"Sec-WebSocket-Key: " + KEY + b"\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
WHOLE = G + UPGRADE + VERSION + KEYED + b"\r\n"
FORM_POST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\na=b&"

both = pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
pieces = pytest.mark.parametrize("step", [0, 1], ids=["whole", "bytes"])


def text(payload: bytes) -> bytes:
    mask = os.urandom(4)
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return b"\x81" + length + mask + masked


async def heard(client: Client) -> bytes:
    first, size = await soon(client.reader.readexactly(2))
    assert first == 0x81
    assert size < 126
    return await soon(client.reader.readexactly(size))


async def upgraded(client: Client) -> None:
    answer = await client.answer()
    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == ACCEPT.lower()  # `answer` lower-cases all of a header.
    assert "sec-websocket-protocol" not in answer.headers
    assert "sec-websocket-extensions" not in answer.headers


@both
@pieces
@on_uvloop
async def test_frames_sent_with_the_upgrade_are_answered(is_tls, step):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        await client.send(WHOLE + text(b"one") + text(b"two"), step)
        await upgraded(client)
        await client.send(text(b"three"))
        assert [await heard(client) for _ in range(3)] == [b"one", b"two", b"three"]
        assert scene.connections == 0


@both
@pieces
@on_uvloop
async def test_upgrade_after_other_requests_on_the_connection(is_tls, step):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        assert (await client.request(FORM_POST, step)).body == b"a=b&"
        await client.send(FORM_POST + WHOLE + text(b"one"), step)
        assert (await client.answer()).body == b"a=b&"
        await upgraded(client)
        assert await heard(client) == b"one"


@both
@on_uvloop
async def test_thousands_of_frames_behind_a_pipelined_request_arrive(is_tls):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        frames = b"".join(text(b"%d" % i) for i in range(2000))
        slow = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
        await client.send(slow + WHOLE + frames + frames)
        await until(lambda: scene.connections == 1)
        (connection,) = scene.front._connections.connections
        await until(lambda: connection._is_read_paused)
        scene.app.release.set()
        assert (await client.answer()).status == 200
        await upgraded(client)
        assert [await heard(client) for _ in range(4000)] == [b"%d" % (i % 2000) for i in range(4000)]


@both
@pytest.mark.parametrize("split", [1, 3, 12, 70_000])
@on_uvloop
async def test_large_frame_and_half_a_frame_with_the_upgrade(is_tls, split):
    async with serving(is_tls, replace(LIMITS, ws_max_frame_bytes=1 << 20)) as scene:
        client = await scene.connect()
        frame = text(bytes(200_000))
        await client.send(WHOLE + frame + frame[:split])
        await upgraded(client)
        assert await heard(client) == b"200000"
        await client.send(frame[split:])
        assert await heard(client) == b"200000"


@both
@on_uvloop
async def test_frame_over_the_limit_is_closed_with_1009(is_tls):
    async with serving(is_tls, replace(LIMITS, ws_max_frame_bytes=1000)) as scene:
        client = await scene.connect()
        await client.send(WHOLE + text(bytes(1000)) + text(bytes(1001)))
        await upgraded(client)
        assert (1009).to_bytes(2, "big") in await client.closed()


@pytest.mark.parametrize(
    "headers",
    [
        b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
        b"Connection: keep-alive\r\nConnection: UPGRADE\r\nUpgrade: WebSocket\r\n",
        b"connection:upgrade\r\nupgrade:\twebsocket \r\n",
        UPGRADE + b"Content-Length: 0\r\n",
        UPGRADE + b"Origin: https://example.com\r\nSec-WebSocket-Protocol: a, b\r\n",
        UPGRADE + b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
        UPGRADE + b"X-Long: " + b"x" * 15_000 + b"\r\n",
    ],
)
@on_uvloop
async def test_well_formed_upgrade_is_taken_and_the_app_sees_its_headers(headers):
    async with serving() as scene:
        client = await scene.connect()
        await client.send(G + headers + VERSION + KEYED + b"\r\n" + text(b"one"))
        await upgraded(client)
        assert await heard(client) == b"one"
        assert scene.app.upgrades[0].header("sec-websocket-key") == KEY.decode()
        assert scene.app.upgrades[0].path == "/media"
        if b"Origin" in headers:
            assert scene.app.upgrades[0].header("origin") == "https://example.com"


@both
@pieces
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (G + UPGRADE + KEYED + b"\r\n", 426),
        (G + UPGRADE + KEYED + b"Sec-WebSocket-Version: 8\r\n\r\n", 426),
        (G + UPGRADE + KEYED + VERSION + VERSION + b"\r\n", 426),
        (G + UPGRADE + VERSION + b"\r\n", 400),
        (G + UPGRADE + VERSION + KEYED + KEYED + b"\r\n", 400),
        (G + UPGRADE + VERSION + b"Sec-WebSocket-Key: short\r\n\r\n", 400),
        (G + UPGRADE + VERSION + b"Sec-WebSocket-Key: " + KEY[:-3] + b"!==\r\n\r\n", 400),
        (G + UPGRADE + VERSION + b"Sec-WebSocket-Key: " + KEY + b"==\r\n\r\n", 400),
        (G + b"Upgrade: websocket\r\n" + VERSION + KEYED + b"\r\n", 400),
        (G + b"Connection: close\r\nUpgrade: websocket\r\n" + VERSION + KEYED + b"\r\n", 400),
        (WHOLE.replace(b"GET", b"POST"), 400),
        (WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (G + UPGRADE + VERSION + KEYED + b"Content-Length: 1\r\n\r\nx", 400),
        (G + UPGRADE + VERSION + KEYED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
@on_uvloop
async def test_malformed_upgrade_is_refused_before_the_app_hears_of_it(is_tls, step, data, status):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        answer = await client.request(data, step)
        assert answer.status == status
        if status == 426:
            assert answer.headers["sec-websocket-version"] == "13"
            assert answer.headers["connection"] == "close, upgrade"
        assert await client.closed() == b""
        assert scene.app.upgrades == []


@both
@on_uvloop
async def test_apps_refusal_is_sent_even_before_frames(is_tls):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        answer = await client.request(WHOLE.replace(b"/media", b"/media/") + text(b"early") * 1000)
        assert (answer.status, answer.body, answer.headers["connection"]) == (403, b"no\n", "close")
        assert await client.closed() == b""
        if not is_tls:
            assert scene.connections == 1  # Reading on: more frames may be on their way.


@both
@on_uvloop
async def test_failing_upgrade_is_logged_and_the_peer_learns_nothing(is_tls, caplog):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        answer = await client.request(WHOLE.replace(b"/media", b"/fails"))
        assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
        assert await client.closed() == b""
    assert SECRET in caplog.text


@on_uvloop
async def test_offer_of_another_protocol_is_ignored():
    async with serving() as scene:
        client = await scene.connect()
        offer = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
        assert [(await client.request(offer)).body for _ in range(2)] == [b"hello"] * 2


@both
@on_uvloop
async def test_deadlines_of_http_do_not_hold_for_an_upgraded_socket(is_tls):
    limits = replace(LIMITS, request_s=SHORT_S, keep_alive_s=SHORT_S, handler_s=SHORT_S, write_s=SHORT_S)
    async with serving(is_tls, limits) as scene:
        client = await scene.connect()
        await client.request(FORM_POST)
        await client.send(WHOLE)
        await upgraded(client)
        for _ in range(2):  # The clock: connections that began later, and are closed at their deadline.
            assert await (await scene.connect()).closed() == b""
        await client.send(text(b"still here"))
        assert await heard(client) == b"still here"


@both
@on_uvloop
async def test_closing_the_front_leaves_upgraded_sockets_alone(is_tls):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        await client.send(WHOLE)
        await upgraded(client)
        await soon(scene.front.close())
        await client.send(text(b"still here"))
        assert await heard(client) == b"still here"


@both
@on_uvloop
async def test_upgrade_read_while_closing_is_refused(is_tls):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        await client.send(WHOLE[:30])
        await until(lambda: scene.connections == 1)
        (connection,) = scene.front._connections.connections
        await until(lambda: connection._reader.has_begun)
        closing = asyncio.create_task(scene.front.close(DEADLINE_S))
        await asyncio.sleep(0)
        assert (await client.request(WHOLE[30:])).status == 503
        await soon(closing)


@on_uvloop
async def test_upgraded_sockets_and_http_connections_have_places_of_their_own():
    async with serving(limits=replace(LIMITS, connections=1, upgraded=2)) as scene:
        for _ in range(2):
            client = await scene.connect()
            await client.send(WHOLE)
            await upgraded(client)
        client = await scene.connect()
        await client.send(WHOLE)
        assert (await client.answer()).status == 503
        assert (await (await scene.connect()).request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200


@both
@on_uvloop
async def test_aiohttp_speaks_to_it(is_tls):
    async with serving(is_tls) as scene, aiohttp.ClientSession() as session:
        url = f"ws{'s' * is_tls}://127.0.0.1:{scene.front.port}/media"
        tls = client_tls() if is_tls else True
        async with session.ws_connect(url, ssl=tls, protocols=("a",), compress=15) as ws:
            for size in (0, 125, 126, 65_000):
                await ws.send_str("z" * size)
                answer = await soon(ws.receive_str())
                assert answer == ("z" * size if size < 126 else str(size))
        assert ws.close_code == 1000
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect(url + "/", ssl=tls)


@pytest.mark.parametrize("kind", ["signature", "silent"])
@on_uvloop
async def test_self_test_fails_when_picows_has_changed(kind, monkeypatch):
    class Changed(http_handover.WSProtocol):
        if kind == "signature":

            def __init__(self, *arguments):
                super().__init__(*arguments, "one more")
        else:

            def buffer_updated(self, nbytes):
                pass

    self_test()
    monkeypatch.setattr(http_handover, "WSProtocol", Changed)
    with pytest.raises(RuntimeError, match=r"picows 2\.3\.1 does not take over sockets"):
        await Front(None).start("127.0.0.1", 0)


@on_uvloop
async def test_failing_hand_over_closes_the_socket(monkeypatch, caplog):
    async with serving() as scene:
        monkeypatch.setattr(http_handover, "WSProtocol", None)
        client = await scene.connect()
        with caplog.at_level(logging.ERROR):
            await client.send(WHOLE)
            assert await client.closed() == b""
        assert "could not be handed over" in caplog.text
        scene.app.listeners.clear()  # It was never connected, so it gets no notice of the end.
