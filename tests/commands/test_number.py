"""``bridge number``: what it shows, what it changes, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from settings_env import clean_environment

from bridge.commands.number import run
from bridge.standins.twilio.rest import TwilioRest

__all__ = ["clean_environment"]

NUMBER = "+14155550100"
PUBLIC_URL = "https://voice.acme-phones.com"
BIN = "https://handler.twilio.com/twiml/EH1"
VOICE_URL = f"{PUBLIC_URL}/voice#rc=2&rp=ct,5xx&ct=2000"


@pytest.fixture
async def rest() -> AsyncIterator[TwilioRest]:
    async with TwilioRest() as rest:
        yield rest
    assert rest.violations == []


async def command(rest: TwilioRest, *, number: str = NUMBER, **options: Any) -> int:
    variables = {"PUBLIC_URL": PUBLIC_URL, "BRIDGE_AGENT": "echo", **rest.environment()}
    options = {"fallback_url": None, "is_confirmed": False, **options}
    return await asyncio.to_thread(lambda: run(variables, number, **options))


async def test_differences_are_shown_and_nothing_is_changed(rest, capsys):
    number = rest.numbers[rest.add_number(NUMBER)]
    before = dict(number)
    assert await command(rest) == 0
    assert number == before
    assert capsys.readouterr().out.splitlines() == [
        f"{NUMBER}: voice URL: https://demo.twilio.com/welcome/voice/ -> {VOICE_URL}",
        f"{NUMBER}: status callback: none -> {PUBLIC_URL}/voice/status",
        "nothing is changed yet: --yes does it",
    ]


async def test_confirmed_change_is_made_once(rest, capsys):
    sid = rest.add_number(NUMBER, voice_method="GET", voice_application_sid="AP1")
    assert await command(rest, is_confirmed=True, fallback_url=BIN) == 0
    number = rest.numbers[sid]
    assert (number["voice_url"], number["voice_method"]) == (VOICE_URL, "POST")
    assert (number["status_callback"], number["voice_application_sid"]) == (f"{PUBLIC_URL}/voice/status", "")
    assert number["voice_fallback_url"] == BIN
    assert capsys.readouterr().out.splitlines()[-1] == f"{NUMBER}: changed"
    assert await command(rest, is_confirmed=True, fallback_url=BIN) == 0
    assert capsys.readouterr().out == f"{NUMBER}: nothing to change\n"
    assert [asked.method for asked in rest.asked] == ["GET", "POST", "GET"]


async def test_fallback_url_that_is_not_given_stays(rest):
    number = rest.numbers[rest.add_number(NUMBER, voice_fallback_url=BIN)]
    assert await command(rest, is_confirmed=True) == 0
    assert number["voice_fallback_url"] == BIN


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (PUBLIC_URL, "is this bridge"),
        (f"{PUBLIC_URL}/voice", "is this bridge"),
        ("http://VOICE.acme-phones.com/other?a=b", "is this bridge"),
        ("voice.acme-phones.com", "must begin with http"),
    ],
)
async def test_fallback_url_that_cannot_help_is_refused(rest, capsys, url, words):
    rest.add_number(NUMBER)
    assert await command(rest, fallback_url=url, is_confirmed=True) == 2
    assert words in capsys.readouterr().err
    assert rest.asked == []


async def test_address_that_twilio_cannot_reach_is_warned_of(rest, capsys):
    rest.add_number(NUMBER)
    variables = {"PUBLIC_URL": "http://127.0.0.1:3000", "BRIDGE_AGENT": "echo", **rest.environment()}
    assert await asyncio.to_thread(run, variables, NUMBER, fallback_url=None, is_confirmed=False) == 0
    assert "warning: PUBLIC_URL: is this machine's own address" in capsys.readouterr().err


async def test_number_that_is_not_the_accounts_is_said_so(rest, capsys):
    assert await command(rest, is_confirmed=True) == 1
    assert f"the account has no number {NUMBER}" in capsys.readouterr().err


async def test_refusal_of_twilio_is_shown(rest, capsys):
    rest.account.auth_tokens = ["a"]
    variables = {"PUBLIC_URL": PUBLIC_URL, "BRIDGE_AGENT": "echo", **rest.environment()}
    rest.account.auth_tokens = ["b"]
    assert await asyncio.to_thread(run, variables, NUMBER, fallback_url=None, is_confirmed=True) == 1
    assert capsys.readouterr().err == "Twilio does not do that: status 401, code 20003\n"


async def test_wrong_settings_are_exit_code_2(capsys):
    assert await asyncio.to_thread(run, {}, NUMBER, fallback_url=None, is_confirmed=True) == 2
    assert "TWILIO_AUTH_TOKEN: is missing" in capsys.readouterr().err
