"""
What the front refuses, and how: malformed and oversized requests, slow peers, too many peers.

Any bytes give an answer or an end within the deadlines, and the answer arrives even though the peer sends on.
"""

import asyncio
import contextlib
import random
from dataclasses import replace

import pytest
from http_front_raw import DEADLINE_S, LIMITS, SHORT_S, on_uvloop, serving, soon, until

from bridge.http.front import FrontLimits

H = b"GET / HTTP/1.1\r\nHost: x\r\n"
P = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
CHUNKED = P + b"Transfer-Encoding: chunked\r\n\r\n"
SMALL = replace(LIMITS, head_bytes=600, target_bytes=200, headers=10, body_bytes=100)

both = pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
pieces = pytest.mark.parametrize("step", [0, 1], ids=["whole", "bytes"])

MALFORMED = [
    (b"\x16\x03\x01\x02\x00\x01", 400),
    (b"evil-reflection\r\n\r\n", 400),
    (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    (b"GET / HTTP/1.2\r\nHost: x\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 505),
    (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    (b"DESCRIBE / RTSP/1.0\r\n\r\n", 405),
    (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (H + b"Host: x\r\n\r\n", 400),
    (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /#fragment HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET http:///x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (H + b"A: b\x00c\r\n\r\n", 400),
    (H + b"A: b\x1b[31m\r\n\r\n", 400),
    (H + b"A: b\r\n folded\r\n\r\n", 400),
    (H + b"A : b\r\n\r\n", 400),
    (H + b": b\r\n\r\n", 400),
    (H + b"A: b\rB: c\r\n\r\n", 400),
    (H + b"A: b\nB: c\r\n\r\n", 400),
    (P + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    (P + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    (P + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (P + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    (P + b"Content-Length: -1\r\n\r\n", 400),
    (P + b"Content-Length: +5\r\n\r\nhello", 400),
    (P + b"Content-Length: 5,5\r\n\r\nhello", 400),
    (P + b"Content-Length: 0x5\r\n\r\nhello", 400),
    (P + b"Content-Length:\r\n\r\n", 400),
    (P + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
    (P + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    (P + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    (P + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (CHUNKED + b"zz\r\n", 400),
    (CHUNKED + b"-1\r\n", 400),
    (CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400),
    (CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    (CHUNKED + b"fffffffffffffffff\r\n", 400),
    (P + b"Expect: a-miracle\r\nContent-Length: 1\r\n\r\nx", 417),
    (P + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx", 400),
    (P + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 400),
    (H + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx", 400),
]
OVERSIZED = [
    (b"GET /" + b"a" * 200 + b" HTTP/1.1\r\n", 414),
    (b"GET /" + b"a" * 200, 414),
    (H + b"A: 1\r\n" * 10 + b"\r\n", 431),
    (H + b"A: " + b"1" * 600, 431),
    (H + b"A" * 600, 431),
    (b"\r\n" * 20, 431),
    (P + b"Content-Length: 101\r\n\r\n", 413),
    (CHUNKED + b"65\r\n", 413),
    (CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n1\r\n", 413),
    (CHUNKED + b"1;" + b"e" * 600, 413),
    (CHUNKED + b"1\r\nx\r\n" * 2 + b"0\r\n" + b"T: 1\r\n" * 100, 413),
]


@both
@pieces
@pytest.mark.parametrize(("data", "status"), MALFORMED)
@on_uvloop
async def test_malformed_request_is_refused_in_words_of_our_own(is_tls, step, data, status):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        answer = await client.request(data, step)
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        assert answer.headers.get("allow") == ("get, head, post" if status == 405 else None)
        assert answer.body.startswith(b"%d " % status)
        assert b"evil-reflection" not in answer.body
        assert await client.closed() == b""
        assert scene.app.requests == []


@both
@pieces
@pytest.mark.parametrize(("data", "status"), OVERSIZED)
@on_uvloop
async def test_oversized_request_is_refused(is_tls, step, data, status):
    async with serving(is_tls, SMALL) as scene:
        client = await scene.connect()
        assert (await client.request(data, step)).status == status
        assert await client.closed() == b""


@both
@pieces
@on_uvloop
async def test_request_at_the_limits_is_answered(is_tls, step):
    requests = [
        b"GET /" + b"a" * 199 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        H + b"A: 1\r\n" * 9 + b"\r\n",
        P + b"Content-Length: 100\r\n\r\n" + b"x" * 100,
        CHUNKED + b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n",
        b"\r\n" + H + b"A: " + b"1" * (600 - len(b"\r\n" + H + b"A: \r\n\r\n")) + b"\r\n\r\n",
    ]
    async with serving(is_tls, SMALL) as scene:
        client = await scene.connect()
        statuses = [(await client.request(request, step)).status for request in requests]
        assert statuses == [404, 200, 200, 200, 200]


@on_uvloop
async def test_default_limits_are_those_promised():
    async with serving(limits=FrontLimits()) as scene:
        for data, status in [
            (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n", 414),
            (H + b"A: 1\r\n" * 100 + b"\r\n", 431),
            (H + b"A: " + b"1" * 17000, 431),
            (P + b"Content-Length: 65537\r\n\r\n", 413),
        ]:
            assert (await (await scene.connect()).request(data)).status == status


@both
@on_uvloop
async def test_refusal_reaches_a_peer_that_goes_on_sending(is_tls):
    async with serving(is_tls, replace(LIMITS, linger_s=DEADLINE_S)) as scene:
        client = await scene.connect()
        await client.send(P + b"Content-Length: 900000\r\n\r\n" + bytes(450_000))
        await client.send(bytes(450_000))
        await soon(client.writer.drain())
        assert (await client.answer()).status == 413
        client.writer.close()
        await until(lambda: scene.connections == 0)


@on_uvloop
async def test_refused_peer_that_stays_is_cut_off():
    async with serving() as scene:
        client = await scene.connect()
        assert (await client.request(b"nonsense\r\n\r\n")).status == 400
        assert await client.closed() == b""
        assert scene.connections == 1
        await until(lambda: scene.connections == 0)


@on_uvloop
async def test_peer_that_sends_on_without_end_is_cut_off():
    async with serving(limits=replace(LIMITS, linger_s=DEADLINE_S, linger_bytes=100_000)) as scene:
        client = await scene.connect()
        await client.send(b"nonsense\r\n\r\n")
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    client.writer.write(bytes(10_000))
                    await client.writer.drain()
        assert scene.connections == 0


@both
@pytest.mark.parametrize("data", [b"G", H, P + b"Content-Length: 10\r\n\r\nhello", CHUNKED + b"5\r\nhe"])
@on_uvloop
async def test_request_that_does_not_end_in_time_gets_408(is_tls, data):
    async with serving(is_tls, replace(LIMITS, request_s=SHORT_S)) as scene:
        client = await scene.connect()
        assert (await client.request(data)).status == 408
        assert await client.closed() == b""


@on_uvloop
async def test_drip_of_single_bytes_does_not_move_the_deadline():
    async with serving(limits=replace(LIMITS, request_s=SHORT_S)) as scene:
        client = await scene.connect()
        answer = asyncio.create_task(client.answer())
        await client.send(H)
        while not answer.done():
            client.writer.write(b"a")
            await asyncio.sleep(SHORT_S / 20)
        assert (await answer).status == 408


@both
@on_uvloop
async def test_silent_connection_is_closed_without_a_word(is_tls):
    async with serving(is_tls, replace(LIMITS, request_s=SHORT_S)) as scene:
        client = await scene.connect()
        assert await client.closed() == b""


@both
@on_uvloop
async def test_idle_connection_is_closed(is_tls):
    async with serving(is_tls, replace(LIMITS, keep_alive_s=SHORT_S)) as scene:
        client = await scene.connect()
        assert (await client.request(H + b"\r\n")).status == 200
        assert await client.closed() == b""


@both
@on_uvloop
async def test_peer_that_reads_nothing_is_paused_and_cut_off(is_tls):
    async with serving(is_tls, replace(LIMITS, write_s=SHORT_S)) as scene:
        client = await scene.connect()
        client.writer.transport.pause_reading()
        await client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        await until(lambda: len(scene.app.requests) > 0)
        await until(lambda: scene.connections == 0)
        assert len(scene.app.requests) < 200


@both
@on_uvloop
async def test_slow_reader_gets_everything_in_the_end(is_tls):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        client.writer.transport.pause_reading()
        await client.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 60)
        await until(lambda: scene.connections == 1)
        (connection,) = scene.front._connections.connections
        await until(lambda: connection._is_write_paused)
        client.writer.transport.resume_reading()
        for _ in range(60):
            assert len((await client.answer()).body) == 256 * 1024


@both
@on_uvloop
async def test_what_is_sent_ahead_of_an_answer_is_bounded(is_tls):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        await client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + (H + b"\r\n") * 200_000)
        await until(lambda: scene.connections == 1)
        (connection,) = scene.front._connections.connections
        await until(lambda: connection._is_read_paused)
        assert len(connection._data) <= LIMITS.head_bytes + 64 * 1024
        scene.app.release.set()
        assert (await client.answer()).body == b"at last"
        for _ in range(4000):
            assert (await client.answer()).body == b"hello"


@both
@pytest.mark.parametrize("seed", range(5))
@on_uvloop
async def test_mutated_requests_give_an_answer_or_an_end(is_tls, seed):
    rng = random.Random(seed)
    samples = [data for data, _ in MALFORMED + OVERSIZED] + [H + b"\r\n", CHUNKED + b"1\r\nx\r\n0\r\n\r\n"]
    async with serving(is_tls, replace(SMALL, linger_s=0.01)) as scene:
        for _ in range(40):
            data = bytearray(rng.choice(samples) + rng.choice(samples))
            for _ in range(rng.randrange(4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            client = await scene.connect()
            await client.send(bytes(data), rng.choice([0, 5]))
            with contextlib.suppress(ConnectionError, RuntimeError):  # The server may have been done first.
                if not is_tls:
                    client.writer.write_eof()
                    await client.closed()
            client.writer.close()
        await until(lambda: scene.connections == 0)
