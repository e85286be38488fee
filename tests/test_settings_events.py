"""Settings of the events: their address and what signs them."""

import base64

import pytest
from settings_env import GOOD, clean_environment, problems

from bridge.settings import load_settings

__all__ = ["clean_environment"]

SECRET, OTHER = ("whsec_" + base64.b64encode(32 * byte).decode() for byte in (b"a", b"b"))
EVENTS = {**GOOD, "BRIDGE_EVENTS_URL": "https://app.example.com/events", "BRIDGE_EVENTS_SECRET": SECRET}


@pytest.mark.parametrize("url", ["https://app.example.com:8443/e?tenant=a", "http://127.0.0.1:8080/events"])
def test_address_is_https_or_on_this_machine(url):
    assert load_settings({**EVENTS, "BRIDGE_EVENTS_URL": url}).bridge_events_url == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://app.example.com/events", "must begin with https://, or with http:// and name this machine"),
        ("ftp://127.0.0.1/", "must begin with https://"),
        ("https://me:canary@app.example.com/", "must be a URL without user"),
        ("https://app.example.com:port/", "must be a URL, e.g. https://example.com/bridge"),
    ],
)
def test_other_address_is_refused_and_not_repeated(url, words):
    (reported,) = problems(**{**EVENTS, "BRIDGE_EVENTS_URL": url})
    assert reported.startswith(f"BRIDGE_EVENTS_URL: {words}")
    assert "canary" not in reported


def test_secret_of_another_form_is_refused_and_not_repeated():
    (reported,) = problems(**{**EVENTS, "BRIDGE_EVENTS_SECRET": "canary"})
    assert reported.startswith("BRIDGE_EVENTS_SECRET: must be whsec_ and the base64 of 24 to 64 bytes")
    assert "canary" not in reported


def test_events_are_signed_with_their_own_secret_else_with_that_of_the_other_webhook():
    both = load_settings({**EVENTS, "BRIDGE_WEBHOOK_SECRET": OTHER})
    assert (both.events_secrets, both.webhook_secrets) == ([SECRET], [OTHER])
    one = load_settings({**EVENTS, "BRIDGE_EVENTS_SECRET": "", "BRIDGE_WEBHOOK_SECRET": OTHER})
    assert one.events_secrets == [OTHER]
    assert SECRET not in repr(both)


def test_address_needs_a_secret():
    (reported,) = problems(**{**EVENTS, "BRIDGE_EVENTS_SECRET": ""})
    assert reported.startswith(
        "BRIDGE_EVENTS_SECRET: is missing: requests to BRIDGE_EVENTS_URL are signed with it"
    )
