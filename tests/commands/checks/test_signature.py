"""A signature by hand: right, or explained by the mistake that makes both sides equal."""

from __future__ import annotations

import pytest
from settings_env import GOOD, clean_environment

from bridge.commands.checks.signature import check_signature
from bridge.commands.finding import Level
from bridge.settings import load_settings
from bridge.standins.twilio.webhook import sign

__all__ = ["clean_environment"]

BASE = GOOD["PUBLIC_URL"]
BODY = "CallSid=CA1&From=%2B1415&Empty="
FORM = {"CallSid": "CA1", "From": "+1415", "Empty": ""}


def check(url: str, header: str, body: str = BODY, **variables: str):
    return check_signature(load_settings({**GOOD, **variables}), url, header, body)


@pytest.mark.parametrize("url", [f"{BASE}/voice", f"{BASE}/voice?tenant=a", f"{BASE}/voice#rc=2"])
def test_right_signature_is_right(url):
    found = check(url, sign("auth", url.partition("#")[0], FORM))
    assert str(found[-1]) == "ok       signature: is right"


def test_right_signature_of_a_media_socket_is_right():
    url = f"{BASE.replace('https', 'wss')}/media/{'0' * 32}"
    assert check(url, sign("auth", url), "")[-1].level is Level.OK


def test_what_was_signed_and_computed_is_shown_for_each_token():
    url = f"{BASE}/voice"
    lines = [str(finding) for finding in check(url, "given=", TWILIO_AUTH_TOKEN="auth,old")]
    assert lines[0] == f"ok       signed text: {url}CallSidCA1EmptyFrom+1415"
    assert lines[1] == f"ok       computed: {sign('auth', url, FORM)} with auth token 1"
    assert lines[2] == f"ok       computed: {sign('old', url, FORM)} with auth token 2"
    assert lines[3] == "ok       given: given="
    assert lines[4].startswith(
        "problem  signature: is that of no address that was tried; compare TWILIO_AUTH_TOKEN"
    )


@pytest.mark.parametrize(
    ("signed", "words"),
    [
        (f"{BASE.replace('https', 'http')}/voice", f"set PUBLIC_URL={BASE.replace('https', 'http')}"),
        ("https://tunnel.example.com/voice", "set PUBLIC_URL=https://tunnel.example.com"),
        (
            "https://tunnel.example.com/bridge/voice/status",
            "set PUBLIC_URL=https://tunnel.example.com/bridge,",
        ),
    ],
)
def test_usual_mistake_is_named(signed, words):
    assert words in str(check(signed, sign("auth", signed, FORM))[-1])


def test_prefix_that_twilio_does_not_know_is_named():
    url = f"{BASE}/voice"
    found = check(url, sign("auth", url, FORM), PUBLIC_URL=f"{BASE}/bridge")
    assert f"set PUBLIC_URL={BASE}, or correct the webhook" in str(found[-1])


def test_scheme_that_a_proxy_has_changed_is_named():
    # The URL is copied from the proxy's log, and Twilio asked another one.
    found = check(f"{BASE.replace('https', 'http')}/voice", sign("auth", "https://other.com/voice", FORM))
    assert "is that of no address" in str(found[-1])
    found = check("http://other.com/voice", sign("auth", "https://other.com/voice", FORM))
    assert "set PUBLIC_URL=https://other.com," in str(found[-1])


def test_media_socket_below_another_address_is_named():
    url = f"wss://tunnel.example.com/media/{'0' * 32}"
    assert "set PUBLIC_URL=https://tunnel.example.com," in str(check(url, sign("auth", url), "")[-1])


@pytest.mark.parametrize("around", ['"{}"', "'{}'", " {}", "{} "])
def test_quotes_around_the_header_are_named(around):
    header = sign("auth", f"{BASE}/voice", FORM)
    assert f"has spaces or quotes around it; try {header}" in str(
        check(f"{BASE}/voice", around.format(header))[-1]
    )


@pytest.mark.parametrize(
    "url", ["/voice", "ftp://a/voice", "https:///voice", "https://a:70000/voice", "https://["]
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError):
        check(url, "x")
