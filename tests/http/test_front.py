"""Plain HTTP on the front's port: raw bytes over loopback, and aiohttp's client as an independent reading."""

import asyncio
import logging
import socket
from dataclasses import replace

import aiohttp
import pytest
from http_front_raw import (
    DEADLINE_S,
    LIMITS,
    SECRET,
    SHORT_S,
    client_tls,
    on_uvloop,
    serving,
    soon,
    until,
)

from bridge.http.front import Front, FrontLimits, Response, on_loop_exception

FORM = b"CallSid=CA1&From=%2B15550100"
POST = (
    b"POST /echo?a=b HTTP/1.1\r\nHost: voice.example.com\r\nX-Twilio-Signature: one\r\nX-Twilio-Signature: two\r\n"
    b"X-Padded: \t a b \t\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s" % (len(FORM), FORM)
)
CHUNKED = (
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;ext=1\r\nCallS\r\n6\r\nid=\n\r\n\r\n0\r\nX-Twilio-Signature: forged\r\n\r\n"
)
H = b"GET / HTTP/1.1\r\nHost: x\r\n"
P = b"POST /echo HTTP/1.1\r\nHost: x\r\n"

both = pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
pieces = pytest.mark.parametrize("step", [0, 1, 7], ids=["whole", "bytes", "sevens"])


@both
@pieces
@on_uvloop
async def test_form_is_answered_and_connection_kept(is_tls, step):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        for _ in range(3):
            answer = await client.request(POST, step)
            assert (answer.version, answer.status, answer.body) == ("HTTP/1.1", 200, b"a=b" + FORM)
            assert "connection" not in answer.headers
        request = scene.app.requests[0]
        assert (request.method, request.path, request.query) == ("POST", "/echo", "a=b")
        assert (request.body, request.peer) == (FORM, "127.0.0.1")
        assert request.headers["x-twilio-signature"] == ("one", "two")
        assert request.header("x-twilio-signature") is None
        assert request.header("host") == "voice.example.com"
        assert request.header("x-padded") == "a b"


@both
@pieces
@on_uvloop
async def test_chunked_body_is_joined_and_its_trailer_is_no_header(is_tls, step):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        answer = await client.request(CHUNKED + POST, step)
        assert (answer.status, answer.body) == (200, b"CallSid=\n\r\n")
        assert (await client.answer()).body == b"a=b" + FORM
        assert "x-twilio-signature" not in scene.app.requests[0].headers


@both
@on_uvloop
async def test_pipelined_requests_are_answered_in_order_one_at_a_time(is_tls):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        await client.send(b"".join(b"GET /echo?%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(50)))
        assert [(await client.answer()).body for _ in range(50)] == [b"%d" % i for i in range(50)]
        assert scene.app.most_running == 1


@on_uvloop
async def test_thousand_requests_on_one_connection():
    async with serving() as scene:
        client = await scene.connect()
        for _ in range(1000):
            assert (await client.request(POST)).status == 200


@on_uvloop
async def test_half_closed_client_gets_all_its_answers():
    async with serving() as scene:
        client = await scene.connect()
        await client.send(POST * 3)
        client.writer.write_eof()
        assert (await client.closed()).count(FORM) == 3


@both
@on_uvloop
async def test_expectation_is_answered_before_the_body(is_tls):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        head, _, body = POST.replace(b"Host", b"Expect: 100-Continue\r\nHost").partition(b"\r\n\r\n")
        assert (await client.request(head + b"\r\n\r\n")).status == 100
        assert (await client.request(body)).status == 200


@on_uvloop
async def test_head_has_the_length_and_no_body():
    async with serving() as scene:
        client = await scene.connect()
        await client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + H + b"\r\n")
        answer = await client.answer(to_head=True)
        assert (answer.status, answer.headers["content-length"]) == (200, "5")
        assert (await client.answer()).body == b"hello"


@both
@pytest.mark.parametrize("line", [b"OPTIONS / HTTP/1.0", b"HEAD / HTTP/1.0", b"GET / HTTP/1.0"])
@on_uvloop
async def test_balancers_http_1_0_check_is_answered_and_closed(is_tls, line):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        await client.send(line + b"\r\n\r\n")
        head, _, body = (await client.closed()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in head
        assert body == (b"" if line.startswith(b"HEAD") else b"hello")


@pytest.mark.parametrize(
    ("head", "connection"),
    [
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive", "keep-alive"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: x, CLOSE", "close"),
    ],
)
@on_uvloop
async def test_connection_header_decides_whether_it_stays_open(head, connection):
    async with serving() as scene:
        client = await scene.connect()
        assert (await client.request(head + b"\r\n\r\n")).headers["connection"] == connection
        if connection == "close":
            assert await client.closed() == b""
        else:
            assert (await client.request(POST)).status == 200


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://example.com/echo?x=%0d%0a?y", "/echo", "x=%0d%0a?y"),
        (b"HTTPS://example.com", "/", ""),
        (b"http://example.com?q", "/", "q"),
        (b"/a/../%2e%2e/b", "/a/../%2e%2e/b", ""),
        (b"*", "*", ""),
    ],
)
@on_uvloop
async def test_target_is_split_and_left_encoded(target, path, query):
    async with serving() as scene:
        client = await scene.connect()
        await client.request(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (scene.app.requests[0].path, scene.app.requests[0].query) == (path, query)


@both
@on_uvloop
async def test_failing_handler_is_logged_and_the_peer_learns_nothing(is_tls, caplog):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        for path in (b"/fails", b"/cancels-itself"):
            answer = await client.request(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (answer.status, answer.body) == (500, b"500 Internal Server Error\n")
        assert (await client.request(POST)).status == 200
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text


@both
@on_uvloop
async def test_handler_of_a_client_that_goes_is_cancelled(is_tls, caplog):
    async with serving(is_tls, replace(LIMITS, half_close_s=SHORT_S)) as scene:
        for go in ("close", "reset"):
            cancelled = scene.app.cancelled
            client = await scene.connect()
            await client.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: scene.app.running == 1)
            client.reset() if go == "reset" else client.writer.close()
            await until(lambda before=cancelled: scene.app.cancelled == before + 1)
            await until(lambda: scene.connections == 0)
    assert caplog.text == ""


@on_uvloop
async def test_half_closed_client_does_not_wait_for_ever():
    async with serving(limits=replace(LIMITS, half_close_s=SHORT_S)) as scene:
        client = await scene.connect()
        await client.send(POST + b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        client.writer.write_eof()
        assert (await client.answer()).status == 200
        assert await client.closed() == b""
        await until(lambda: scene.app.cancelled == 1)


@both
@pytest.mark.parametrize("path", [b"/slow", b"/stubborn"])
@pytest.mark.parametrize("ahead", [b"", POST])
@on_uvloop
async def test_handler_past_its_deadline_is_cancelled_and_answered_503(is_tls, path, ahead):
    async with serving(is_tls, replace(LIMITS, handler_s=SHORT_S)) as scene:
        client = await scene.connect()
        answer = await client.request(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n" + ahead)
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert await client.closed() == b""
        assert scene.app.cancelled == 1


@both
@on_uvloop
async def test_closing_answers_what_has_begun_and_closes_the_idle(is_tls):
    async with serving(is_tls) as scene:
        idle, silent, busy, reading = [await scene.connect() for _ in range(4)]
        await idle.request(POST)
        await busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await reading.send(POST[:20])
        await until(lambda: scene.app.running == 1 and scene.connections == 4)
        closing = asyncio.create_task(scene.front.close(DEADLINE_S))
        assert await idle.closed() == await silent.closed() == b""
        scene.app.release.set()
        await reading.send(POST[20:])
        for client, body in ((busy, b"at last"), (reading, b"a=b" + FORM)):
            answer = await client.answer()
            assert (answer.body, answer.headers["connection"]) == (body, "close")
            assert await client.closed() == b""
        await soon(closing)


@on_uvloop
async def test_closing_is_bounded():
    async with serving() as scene:
        clients = [await scene.connect() for _ in range(3)]
        for client, data in zip(
            clients, (b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n", POST[:9], b""), strict=True
        ):
            await client.send(data)
        await until(lambda: scene.app.running == 1)
        await soon(scene.front.close(SHORT_S))
        assert (scene.app.cancelled, scene.app.running, scene.connections) == (1, 0, 0)


@on_uvloop
async def test_no_connection_is_accepted_after_stop_listening_and_others_go_on():
    async with serving() as scene:
        client = await scene.connect()
        port = scene.front.port
        await client.request(POST)
        scene.front.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert (await client.request(POST)).status == 200
        with pytest.raises(RuntimeError, match="not listening"):
            scene.front.port  # noqa: B018


@on_uvloop
async def test_listening_socket_of_the_callers_is_taken():
    sock = socket.create_server(("127.0.0.1", 0))
    front = Front(None, FrontLimits(receive_buffer_bytes=20_000))
    await front.start(sockets=[sock])
    assert front.port == sock.getsockname()[1]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 20_000  # Linux doubles it.
    await front.close()


@both
@on_uvloop
async def test_aiohttp_reads_the_same(is_tls):
    async with serving(is_tls) as scene, aiohttp.ClientSession() as session:
        url = f"http{'s' * is_tls}://127.0.0.1:{scene.front.port}"
        tls = client_tls() if is_tls else True
        async with session.post(url + "/echo", data={"CallSid": "CA1", "To": "+1"}, ssl=tls) as response:
            assert (response.status, await response.read()) == (200, b"CallSid=CA1&To=%2B1")
        async with session.post(
            url + "/echo", data=b"z" * 9999, chunked=True, expect100=True, ssl=tls
        ) as response:
            assert (response.status, len(await response.read())) == (200, 9999)
        async with session.get(url + "/big", ssl=tls) as response:
            assert len(await response.read()) == 256 * 1024
        async with session.get(url + "/nothing", ssl=tls) as response:
            assert response.status == 404


@on_uvloop
async def test_leaving_during_the_handshake_is_no_error(caplog):
    async with serving(is_tls=True) as scene:
        loop = asyncio.get_running_loop()
        handled = []
        loop.set_exception_handler(lambda loop, context: handled.append(context))
        _, writer = await asyncio.open_connection("127.0.0.1", scene.front.port)
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        writer.close()
        await until(lambda: len(handled) == 1)  # The library still reports it: else the filter can go.
        with caplog.at_level(logging.DEBUG):
            on_loop_exception(loop, handled[0])
            assert caplog.text == ""
            on_loop_exception(loop, {"message": "other", "exception": ConnectionResetError()})
            assert "other" in caplog.text
        loop.set_exception_handler(None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"status": 101},
        {"status": 204, "body": b"x"},
        {"status": 200, "content_type": "text/xml\r\nX: y"},
        {"status": 200, "headers": (("X", "a\r\nSet-Cookie: b"),)},
        {"status": 200, "headers": (("X y", "a"),)},
        {"status": 200, "headers": (("Content-Length", "1"),)},
    ],
)
def test_response_that_would_break_the_framing_is_refused(arguments):
    with pytest.raises(ValueError, match=r"status|header|content_type"):
        Response(**arguments)
