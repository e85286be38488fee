"""Where Twilio's REST API is asked, and by whom."""

from __future__ import annotations

import pytest
from settings_env import GOOD, SID, clean_environment, problems
from twilio.rest import Client

from bridge.setting_region import EDGES
from bridge.settings import load_settings

__all__ = ["clean_environment"]

KEY = {"TWILIO_API_KEY_SID": "SK" + "1" * 32, "TWILIO_API_KEY_SECRET": "canary"}


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "https://api.twilio.com"),
        ({"TWILIO_REGION": "ie1"}, "https://api.dublin.ie1.twilio.com"),
        ({"TWILIO_REGION": "au1", "TWILIO_EDGE": "sydney"}, "https://api.sydney.au1.twilio.com"),
        ({"TWILIO_REGION": "xx9", "TWILIO_EDGE": "here"}, "https://api.here.xx9.twilio.com"),
        ({"TWILIO_EDGE": "dublin"}, "https://api.dublin.us1.twilio.com"),
        ({"TWILIO_API_URL": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
    ],
)
def test_rest_api_is_that_of_the_region(variables, url):
    assert load_settings({**GOOD, **variables}).api_url == url


@pytest.mark.parametrize(("region", "edge"), [*EDGES.items(), ("", "dublin")])
def test_host_is_the_one_of_twilios_sdk(region, edge):
    client = Client("AC", "x", region=region or None, edge=edge)
    settings = load_settings({**GOOD, "TWILIO_REGION": region, "TWILIO_EDGE": edge})
    assert settings.api_url == client.get_hostname("https://api.twilio.com")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TWILIO_REGION": "ie1", "TWILIO_API_URL": "https://a.b"}, "TWILIO_API_URL: must not be set beside"),
        ({"TWILIO_REGION": "xx9"}, "TWILIO_EDGE: is missing: the edge of the region xx9 is not known"),
        ({"TWILIO_REGION": "IE1"}, "TWILIO_REGION: must be at most 16 lower-case"),
        (
            {"TWILIO_API_KEY_SID": "AC" + "1" * 32, "TWILIO_API_KEY_SECRET": "x"},
            "must be SK and 32 hex digits",
        ),
        ({"TWILIO_API_KEY_SID": "SK" + "1" * 32}, "TWILIO_API_KEY_SECRET: is missing"),
        ({"TWILIO_API_KEY_SECRET": "x"}, "TWILIO_API_KEY_SID: is missing"),
    ],
)
def test_settings_that_contradict_each_other_prevent_the_start(variables, words):
    (reported,) = problems(**{**GOOD, **variables})
    assert words in reported


def test_key_takes_the_place_of_the_auth_tokens():
    assert load_settings({**GOOD, "TWILIO_AUTH_TOKEN": "new,old"}).api_logins == [(SID, "new"), (SID, "old")]
    (login,) = load_settings({**GOOD, **KEY}).api_logins
    assert login == tuple(KEY.values())


def test_without_an_account_nobody_asks():
    assert load_settings({"BRIDGE_VALIDATE_SIGNATURES": "0", "TWILIO_AUTH_TOKEN": "t"}).api_logins == []
