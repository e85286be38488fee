"""What a wrong set-up sends in place of a request is refused, and the application learns which one it is."""

import asyncio

import pytest
from certificates import distrust
from http_front_raw import on_uvloop, serving, soon, until

UPGRADE = (
    b"GET /media HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

both = pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])


@both
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (HELLO, "tls"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "proxy_protocol"),
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", "proxy_protocol"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"),
        (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"), "upgrade_by_http_1_0"),
        (UPGRADE.replace(b"Connection: Upgrade\r\n", b""), "upgrade_without_connection"),
        (UPGRADE.replace(b"-Version: 13", b"-Version: 8"), "upgrade_without_key"),
        (UPGRADE.replace(b"Sec-WebSocket-Key", b"X-Key"), "upgrade_without_key"),
    ],
)
@on_uvloop
async def test_other_protocols_and_spoilt_upgrades_are_named(is_tls, data, kind):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        assert (await client.request(data)).status >= 400
        await client.closed()
        assert scene.app.not_http == [(kind, "127.0.0.1")]
        assert scene.app.requests == scene.app.upgrades == []


@both
@pytest.mark.parametrize(
    "data", [b"evil\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", UPGRADE.replace(b"GET", b"POST")]
)
@on_uvloop
async def test_other_rubbish_is_no_wrong_setup(is_tls, data):
    async with serving(is_tls) as scene:
        client = await scene.connect()
        assert (await client.request(data)).status == 400
        assert scene.app.not_http == []


@on_uvloop
async def test_plain_http_on_a_port_with_tls_is_named():
    async with serving(True) as scene:
        reader, writer = await soon(asyncio.open_connection("127.0.0.1", scene.front.port))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await soon(reader.read())
        writer.close()
        await until(lambda: scene.app.not_http == [("no_tls", "127.0.0.1")])


@on_uvloop
async def test_client_that_does_not_trust_the_certificate_is_named():
    async with serving(True) as scene:
        await asyncio.to_thread(distrust, scene.front.port)
        await until(lambda: scene.app.not_http == [("certificate", "127.0.0.1")])
