"""What lies between Twilio and a bridge, with a real HAProxy in it: `bridge check` names each fault."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from certificates import Tls
from check_setup import rest, start
from haproxy import free_port, proxied

from bridge.commands.checks import public_url
from bridge.commands.checks.reach import Reached
from bridge.commands.finding import Level
from bridge.http.front import on_loop_exception

__all__ = ["rest", "start"]


async def test_closed_tunnel(start):
    setup = await start()
    port = free_port()
    found = await setup.faults(PUBLIC_URL=f"http://127.0.0.1:{port}")
    assert any(f"problem  PUBLIC_URL: 127.0.0.1:{port} refuses connections" in line for line in found)


async def test_bridge_with_another_token(start):
    setup = await start()
    setup.rest.account.auth_tokens.append("another")
    found = await setup.faults(TWILIO_AUTH_TOKEN="another")
    (line,) = [line for line in found if "PUBLIC_URL" in line]
    assert "refuses the signature: the bridge there has another auth token" in line


async def test_bridge_with_another_scheme_in_its_public_url(start):
    port = free_port()
    theirs, mine = f"https://127.0.0.1:{port}", f"http://127.0.0.1:{port}"
    setup = await start(theirs, PORT=str(port))
    found = await setup.faults(PUBLIC_URL=mine)
    (line,) = [line for line in found if "PUBLIC_URL: " in line]
    assert line.startswith(f"problem  PUBLIC_URL: the bridge behind {mine} has PUBLIC_URL={theirs}; set both")


async def test_bridge_without_the_prefix_in_its_public_url(start, tmp_path):
    port = free_port()
    setup = await start(f"http://127.0.0.1:{port}")
    rule = r"http-request replace-path /bridge(/.*) \1"
    async with proxied(setup.live.server.port, port, tmp_path, rule):
        found = await setup.faults(PUBLIC_URL=f"http://127.0.0.1:{port}/bridge")
    (line,) = [line for line in found if "PUBLIC_URL: " in line]
    assert f"has PUBLIC_URL=http://127.0.0.1:{port}; set both" in line


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ("http-request redirect scheme https", "redirects to https://127.0.0.1"),
        (
            r"http-request replace-path /bridge/voice(.*) \1",
            "answers 404: the path does not come to a bridge",
        ),
        ("http-request del-header upgrade", "refuses the media socket with status 404"),
        ("http-request deny deny_status 503", "answers 503: the proxy or the tunnel has no bridge"),
        (
            "http-request return status 404 hdr ngrok-error-code ERR_NGROK_3200",
            "ngrok itself: ERR_NGROK_3200",
        ),
        ("http-request return status 200 content-type text/plain string hello", "but not by a bridge"),
        (
            "http-request deny deny_status 403 if { path_beg /bridge/media }",
            "the media socket with status 403",
        ),
    ],
    ids=["redirect", "stripped", "upgrade", "no bridge", "tunnel", "other server", "media"],
)
async def test_proxy_that_does_not_pass_on_what_it_gets(start, tmp_path, rules, words):
    port = free_port()
    setup = await start(f"http://127.0.0.1:{port}/bridge")
    async with proxied(setup.live.server.port, port, tmp_path, rules):
        (line,) = await setup.faults()
    assert line.startswith("problem  PUBLIC_URL: ")
    assert words in line


async def test_proxy_that_strips_the_prefix_as_it_may(start, tmp_path):
    port = free_port()
    setup = await start(f"http://127.0.0.1:{port}/bridge")
    rule = r"http-request replace-path /bridge(/.*) \1"
    async with proxied(setup.live.server.port, port, tmp_path, rule):
        assert await setup.faults() == []


async def test_proxy_without_tls_behind_a_url_with_https(start, tmp_path):
    port = free_port()
    setup = await start(f"https://127.0.0.1:{port}")
    async with proxied(setup.live.server.port, port, tmp_path):
        (line,) = await setup.faults()
    assert f"problem  PUBLIC_URL: 127.0.0.1:{port} speaks no TLS" in line


async def test_name_that_leads_to_a_private_address(start, monkeypatch):
    setup = await start()

    async def found(*_: object) -> Reached:
        return Reached(address="10.0.0.3")

    async def nothing(_: object) -> None:
        return None

    monkeypatch.setattr(public_url, "reach", found)
    monkeypatch.setattr(public_url._Asking, "post", nothing)
    monkeypatch.setattr(public_url._Asking, "upgrade", nothing)
    settings = setup.settings(PUBLIC_URL="https://voice.acme-phones.com")
    warned, proved = await public_url.check_public_url(settings, None, None)
    assert "its name leads to 10.0.0.3 here, which Twilio cannot reach" in str(warned)
    assert proved.level is Level.OK


async def test_certificate_of_the_port_is_checked(start, tmp_path, monkeypatch):
    port, tls = free_port(), Tls(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.trusted))
    public = f"https://127.0.0.1:{port}"

    def files(**validity: Any) -> dict[str, str]:
        return {name: str(path) for name, path in tls.write(**validity).items()}

    setup = await start(public, PORT=str(port), **files())
    assert await setup.faults() == []
    over = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    for path in (tmp_path / "port.pem", tmp_path / "port.key"):
        path.unlink()
    files(not_before=over - datetime.timedelta(days=1), not_after=over)
    setup.live.server.reload()
    # As in `bridge serve`: a client that refuses the certificate is nothing that the server's log must have.
    asyncio.get_running_loop().set_exception_handler(on_loop_exception)
    of_file, line = await setup.faults()
    assert of_file.startswith("warning  certificate: BRIDGE_TLS_CERT: expired on ")
    assert (
        f"problem  PUBLIC_URL: the certificate of 127.0.0.1:{port} is refused: certificate has expired"
        in line
    )
