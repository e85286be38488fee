"""An account and its numbers, as the stand-in for Twilio's REST API has them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from bridge.standins.twilio.rest import TwilioRest
from bridge.twilio import rest_numbers
from bridge.twilio.rest_numbers import RestError, change_number, fetch_account, find_number, read_numbers
from bridge.twilio.rest_request import RestAccount


@pytest.fixture
async def rest() -> AsyncIterator[TwilioRest]:
    async with TwilioRest() as rest:
        yield rest
    assert rest.violations == []


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


def account(rest: TwilioRest, token: str = "") -> RestAccount:
    return RestAccount(rest.url, rest.account.sid, [(rest.account.sid, token or rest.account.auth_tokens[0])])


async def test_account_is_read_with_the_date_of_twilios_clock(rest, http):
    answer = await fetch_account(http, account(rest))
    assert (answer.fields["type"], answer.date[-3:]) == ("Full", "GMT")
    answer = await fetch_account(http, account(rest, "other"))
    assert (answer.status, answer.code, str(answer)) == (401, 20003, "status 401, code 20003")


async def test_number_is_found_by_its_whole_text(rest, http):
    rest.add_number("+14155550100")
    sid = rest.add_number("+1415555010")
    found = await find_number(http, account(rest), "+1415555010")
    assert found is not None and found.sid == sid
    assert await find_number(http, account(rest), "+1415555") is None


async def test_all_pages_are_read_up_to_a_bound(rest, http, monkeypatch):
    for n in range(5):
        rest.add_number(f"+1415555010{n}")
    monkeypatch.setattr(rest_numbers, "PAGE_SIZE", 2)
    numbers, is_all = await read_numbers(http, account(rest))
    assert ([number.phone_number[-1] for number in numbers], is_all) == (["0", "1", "2", "3", "4"], True)
    monkeypatch.setattr(rest_numbers, "PAGES_MAX", 2)
    numbers, is_all = await read_numbers(http, account(rest))
    assert (len(numbers), is_all) == (4, False)


async def test_change_leaves_what_it_does_not_name(rest, http):
    sid = rest.add_number("+14155550100", voice_fallback_url="https://bin.example.com")
    number = await change_number(http, account(rest), sid, {"VoiceUrl": "https://a.example/voice"})
    assert (number.voice_url, number.voice_fallback_url) == (
        "https://a.example/voice",
        "https://bin.example.com",
    )
    assert number.takes_calls


async def test_next_page_of_another_host_is_not_read(rest, http):
    fields = {"incoming_phone_numbers": [{}], "next_page_uri": "http://elsewhere.example/2010-04-01/x"}
    rest.answers = [web.json_response(fields)]
    numbers, is_all = await read_numbers(http, account(rest))
    assert (numbers[0].sid, numbers[0].takes_calls, is_all) == ("", False, True)


@pytest.mark.parametrize("answer", [web.json_response([]), web.json_response({}, status=500), web.Response()])
async def test_answer_without_numbers_is_an_error(rest, http, answer):
    rest.answers = [answer]
    with pytest.raises(RestError):
        await read_numbers(http, account(rest))
