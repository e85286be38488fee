"""Accepting: the places of connections, peers that take them and do nothing, and accept() that fails."""

import asyncio
import errno
import logging
import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest
from http_front_raw import DEADLINE_S, LIMITS, on_uvloop, queued, serving, soon, until

from bridge.http import connections, listener
from bridge.http.connections import LAST_REQUEST_S
from bridge.http.front import Front

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
TWO = replace(LIMITS, connections=2)

both = pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@both
@on_uvloop
async def test_the_oldest_silent_connection_gives_way(is_tls):
    async with serving(is_tls, TWO) as scene:
        oldest, second = await scene.connect(), await scene.connect()
        await until(lambda: scene.connections == 2)
        third = await scene.connect()
        assert (await third.request(GET)).status == 200
        assert await oldest.closed() == b""
        assert (await second.request(GET)).status == 200


@both
@on_uvloop
async def test_a_connection_in_the_middle_of_its_first_request_gives_way_too(is_tls):
    async with serving(is_tls, TWO) as scene:
        slow, _ = await scene.connect(), await scene.connect()
        await slow.send(GET[:10])
        await until(lambda: scene.connections == 2)
        assert (await (await scene.connect()).request(GET)).status == 200
        assert await slow.closed() == b""


@both
@on_uvloop
async def test_connections_of_one_burst_do_not_give_way_to_each_other(is_tls):
    async with serving(is_tls, replace(LIMITS, connections=20)) as scene:
        asyncio.get_running_loop().set_exception_handler(None)
        silent = [await scene.connect() for _ in range(20)]
        await until(lambda: scene.connections == 20)
        scene.front.set_accepting(False)
        burst = [asyncio.create_task(scene.connect()) for _ in range(10)]
        await until(lambda: queued(scene.front._listener.sockets[0]) == 10)
        scene.front.set_accepting(True)
        for client in await asyncio.gather(*burst):
            assert (await client.request(GET)).status == 200
        for client in silent[:10]:
            assert await client.closed() == b""
        assert (await silent[-1].request(GET)).status == 200


@on_uvloop
async def test_reset_behind_a_part_of_a_request_gives_the_place_back_at_once():
    async with serving() as scene:
        scene.front.set_accepting(False)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", scene.front.port)) as peer:
                peer.sendall(b"G")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        scene.front.set_accepting(True)
        # Accepted after them.
        assert (await (await scene.connect()).request(GET)).status == 200
        await until(lambda: scene.connections == 1)


@on_uvloop
async def test_a_silent_connection_gives_way_before_one_that_is_kept_alive():
    async with serving(limits=TWO) as scene:
        kept = await scene.connect()
        await kept.request(GET)
        silent = await scene.connect()
        await until(lambda: scene.connections == 2)
        assert (await (await scene.connect()).request(GET)).status == 200
        assert await silent.closed() == b""
        assert (await kept.request(GET)).status == 200


@on_uvloop
async def test_the_longest_idle_connection_gives_way():
    async with serving(limits=TWO) as scene:
        first, second = await scene.connect(), await scene.connect()
        for client in (second, first):
            await client.request(GET)
        assert (await (await scene.connect()).request(GET)).status == 200
        assert await second.closed() == b""
        assert (await first.request(GET)).status == 200


@both
@on_uvloop
async def test_connections_whose_requests_are_handled_do_not_give_way(is_tls):
    async with serving(is_tls, TWO) as scene:
        clients = [await scene.connect() for _ in range(2)]
        for client in clients:
            await client.send(SLOW)
        await until(lambda: scene.app.running == 2)
        if is_tls:
            with pytest.raises(ConnectionError):
                await scene.connect()
        else:
            over = await scene.connect()
            assert (await over.answer()).status == 503
            assert await over.closed() == b""
        scene.app.release.set()
        for client in clients:
            assert (await client.answer()).status == 200


@on_uvloop
async def test_a_stalled_handshake_gives_way():
    async with serving(is_tls=True, limits=TWO) as scene:
        asyncio.get_running_loop().set_exception_handler(None)
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.front.port)
        client = await scene.connect()
        assert (await client.request(GET)).status == 200
        assert (await (await scene.connect()).request(GET)).status == 200
        assert await reader.read() == b""
        writer.close()
        assert (await client.request(GET)).status == 200


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
@on_uvloop
async def test_a_failed_handshake_gives_its_place_back_at_once(is_reset, hello):
    async with serving(is_tls=True) as scene:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        await (await scene.connect()).request(GET)
        before = descriptors()
        for _ in range(20):
            peer = socket.create_connection(("127.0.0.1", scene.front.port))
            peer.sendall(hello)
            if is_reset:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        # Accepted after them.
        assert (await (await scene.connect()).request(GET)).status == 200
        await until(lambda: not scene.front._connections.opening)
        await until(lambda: descriptors() == before + 2)


@both
@pytest.mark.parametrize("is_closed", [False, True], ids=["winds down", "closes"])
@on_uvloop
async def test_what_waits_in_the_queue_is_answered_before_the_socket_closes(is_tls, is_closed):
    async with serving(is_tls) as scene:
        kept = await scene.connect()
        await kept.request(GET)
        scene.front._listener._unwatch()
        waiting = [asyncio.create_task(scene.connect()) for _ in range(40)]
        # The kernel has them; nobody has accepted them.
        await until(lambda: queued(scene.front._listener.sockets[0]) == 40)
        port = scene.front.port
        closing = None
        if is_closed:
            closing = asyncio.create_task(scene.front.close())
        else:
            scene.front.wind_down()

        async def ask(connecting: asyncio.Task) -> int:
            return (await (await connecting).request(GET)).status

        assert await asyncio.gather(*map(ask, waiting)) == [200] * 40
        assert await kept.closed() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        if closing is not None:
            await closing


@both
@on_uvloop
async def test_last_requests_are_answered_though_the_process_stands_still(is_tls):
    async with serving(is_tls) as scene:
        waiting = [await scene.connect() for _ in range(4)]
        closing = asyncio.create_task(scene.front.close())
        await asyncio.sleep(0)
        # The whole process, as a host stops it that is short of time.
        time.sleep(LAST_REQUEST_S + 0.1)  # noqa: ASYNC251
        assert [(await client.request(GET)).status for client in waiting] == [200] * 4
        await closing


@on_uvloop
async def test_closing_front_does_not_wait_for_a_handshake_that_has_failed(monkeypatch):
    monkeypatch.setattr(connections, "LAST_REQUEST_S", 100 * DEADLINE_S)
    async with serving(is_tls=True) as scene:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        with socket.create_connection(("127.0.0.1", scene.front.port)):
            await until(lambda: scene.front._connections.opening)
            closing = asyncio.create_task(scene.front.close())
            await asyncio.sleep(0)
        await soon(closing)


class Exhausted(socket.socket):
    """A listening socket without descriptors to give, until `errors` is empty."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            raise OSError(self.errors.pop(), "none left")
        return super().accept()


@on_uvloop
async def test_accepting_pauses_where_it_fails(monkeypatch, caplog):
    monkeypatch.setattr(listener, "RETRY_S", 0.05)
    with Exhausted() as sock:
        sock.errors = [errno.EMFILE, errno.ENFILE, errno.ENOMEM]
        sock.bind(("127.0.0.1", 0))
        front = Front(None)
        with caplog.at_level(logging.ERROR):
            await front.start(sockets=[sock])
            _, writer = await asyncio.open_connection("127.0.0.1", front.port)
            await until(lambda: len(front._connections.connections) == 1)
        # One line for each failure, and nothing tried in between.
        assert caplog.text.count("cannot be accepted") == 3
        writer.close()
        await front.close()


@on_uvloop
async def test_connection_that_its_peer_has_given_up_is_passed_over():
    with Exhausted() as sock:
        sock.errors = [errno.ECONNABORTED]
        sock.bind(("127.0.0.1", 0))
        front = Front(None)
        await front.start(sockets=[sock])
        _, writer = await asyncio.open_connection("127.0.0.1", front.port)
        await until(lambda: len(front._connections.connections) == 1)
        writer.close()
        await front.close()


async def test_address_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot bind 127.0.0.1, port {port}: "):
            await listener.bind("127.0.0.1", port)


async def test_all_addresses_of_a_name_are_bound():
    sockets = await listener.bind("localhost", 0)
    assert {"127.0.0.1"} <= {sock.getsockname()[0] for sock in sockets}
    for sock in sockets:
        sock.close()
