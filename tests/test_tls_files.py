"""The certificate of the bridge's own port: what is wrong with it by time and by name."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import trustme
from certificates import Tls
from check_setup import rest, start
from live import make_settings
from settings_env import GOOD

from bridge.tls_files import certificate_doubts

__all__ = ["rest", "start"]

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)


def write(folder: Path, *names: str, **validity: datetime.datetime) -> str:
    path = folder / "certificate.pem"
    issued = trustme.CA().issue_cert(*names, **validity)
    path.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return str(path)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (NOW - DAY, f"expired on {NOW - DAY:%Y-%m-%d}: put a new one in the file"),
        (NOW + 6 * DAY, f"expires on {NOW + 6 * DAY:%Y-%m-%d}: see that it is renewed"),
    ],
)
def test_certificate_that_is_over_or_soon_will_be_is_named(tmp_path, ends, words):
    (text,) = certificate_doubts(write(tmp_path, "a.acme.com", not_after=ends), "")
    assert text.startswith(words)


def test_certificate_of_the_future_is_named(tmp_path):
    (text,) = certificate_doubts(write(tmp_path, "a.acme.com", not_before=NOW + DAY), "")
    assert text.startswith(f"is valid only from {NOW + DAY:%Y-%m-%d} on: look at the clock")


def test_certificate_with_weeks_to_go_is_not_named(tmp_path):
    assert certificate_doubts(write(tmp_path, "a.acme.com", not_after=NOW + 9 * DAY), "a.acme.com") == []


@pytest.mark.parametrize(
    ("name", "host", "is_covered"),
    [
        ("a.acme.com", "a.acme.com", True),
        ("A.acme.com", "a.acme.com", True),
        ("*.acme.com", "a.acme.com", True),
        ("*.acme.com", "acme.com", False),
        ("*.acme.com", "a.b.acme.com", False),
        ("b.acme.com", "a.acme.com", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("2001:db8::1", "2001:db8:0::1", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "a.acme.com", False),
    ],
)
def test_certificate_must_have_the_host_of_the_public_url(tmp_path, name, host, is_covered):
    found = certificate_doubts(write(tmp_path, name), host)
    assert len(found) == (not is_covered)
    assert all(f"and not for {host}, the host of PUBLIC_URL: use one for {host}" in text for text in found)


def test_names_count_only_where_the_public_url_has_the_port_of_the_bridge(tmp_path):
    files = {name: str(path) for name, path in Tls(tmp_path).write().items()}
    for url, port, count in (
        ("https://a.acme.com", "443", 1),
        ("https://a.acme.com:3000", "3000", 1),
        ("https://a.acme.com", "3000", 0),
    ):
        settings = make_settings({**GOOD, **files, "PUBLIC_URL": url, "PORT": port})
        found = settings.certificate_doubts()
        assert len(found) == count
        assert all(
            text.startswith("BRIDGE_TLS_CERT: is for 127.0.0.1 and not for a.acme.com") for text in found
        )
    assert make_settings(GOOD).certificate_doubts() == []


@pytest.mark.parametrize("tls", ["tls"], indirect=True)
async def test_reload_takes_a_certificate_that_expires_soon_and_warns(live_server, tls, logs):
    live = await live_server()
    tls.write(not_after=NOW + DAY)
    live.server.reload()
    lines = [line for line in logs.lines if "check this setting" in line]
    assert len(lines) == 1 and "BRIDGE_TLS_CERT: expires on" in lines[0]


async def test_check_names_the_certificate(start, tmp_path):
    setup = await start()
    tls = Tls(tmp_path)
    good = {name: str(path) for name, path in tls.write().items()}
    found = await setup.check(**good)
    assert [str(one) for one in found if one.subject == "certificate"] == [
        "ok       certificate: BRIDGE_TLS_CERT is valid"
    ]
    tls.write(not_after=NOW - DAY)
    found = await setup.check(**good)
    (line,) = [str(one) for one in found if one.subject == "certificate"]
    assert line.startswith("warning  certificate: BRIDGE_TLS_CERT: expired on ")
