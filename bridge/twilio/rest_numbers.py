"""An account of Twilio and its phone numbers, read and changed through the REST API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from bridge.twilio.rest_request import RestAccount, RestAnswer, ask

DEADLINE_S = 10.0
PAGE_SIZE = 200
# More than 10 000 numbers are read in part.
PAGES_MAX = 50
# A number is about 2 KB.
REPLY_MAX_BYTES = 2 << 20
LIST = "/IncomingPhoneNumbers.json"


class RestError(Exception):
    """Twilio did not do what was asked; the text has its status and code."""

    def __init__(self, answer: RestAnswer) -> None:
        super().__init__(str(answer))
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Number:
    """What Twilio does with calls to a phone number; a field that it leaves empty is an empty text."""

    sid: str
    phone_number: str
    voice_url: str
    voice_method: str
    voice_fallback_url: str
    status_callback: str
    status_callback_method: str
    voice_application_sid: str
    trunk_sid: str
    voice_receive_mode: str
    takes_calls: bool

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Number:
        """The number of a resource's fields."""
        texts = {name: str(fields.get(name) or "") for name in cls.__slots__ if name != "takes_calls"}
        capabilities = fields.get("capabilities")
        takes_calls = isinstance(capabilities, dict) and capabilities.get("voice") is True
        return cls(**texts, takes_calls=takes_calls)


async def fetch_account(http: aiohttp.ClientSession, account: RestAccount) -> RestAnswer:
    """The account itself. A standard API key may not read it."""
    return await ask(http, account, "GET", ".json", DEADLINE_S, REPLY_MAX_BYTES)


async def find_number(http: aiohttp.ClientSession, account: RestAccount, number: str) -> Number | None:
    """
    The number of an account that is written so, in E.164; None if it has none.

    Raises:
        RestError: Twilio does not answer as it should.
    """
    found, _ = await _read_pages(http, account, f"{LIST}?PhoneNumber={quote(number, safe='')}")
    return next((one for one in found if one.phone_number == number), None)


async def read_numbers(http: aiohttp.ClientSession, account: RestAccount) -> tuple[list[Number], bool]:
    """
    The numbers of an account, and whether these are all.

    Raises:
        RestError: Twilio does not answer as it should.
    """
    return await _read_pages(http, account, f"{LIST}?PageSize={PAGE_SIZE}")


async def change_number(
    http: aiohttp.ClientSession, account: RestAccount, sid: str, form: Mapping[str, str]
) -> Number:
    """
    Change a number; what the form does not name stays.

    Raises:
        RestError: Twilio does not answer as it should.
    """
    path = f"/IncomingPhoneNumbers/{sid}.json"
    answer = await ask(http, account, "POST", path, DEADLINE_S, REPLY_MAX_BYTES, form)
    if not answer.is_done:
        raise RestError(answer)
    return Number.of(answer.fields)


async def _read_pages(
    http: aiohttp.ClientSession, account: RestAccount, path: str
) -> tuple[list[Number], bool]:
    base = f"/2010-04-01/Accounts/{account.sid}"
    found: list[Number] = []
    for _ in range(PAGES_MAX):
        answer = await ask(http, account, "GET", path, DEADLINE_S, REPLY_MAX_BYTES)
        numbers = answer.fields.get("incoming_phone_numbers")
        if not answer.is_done or not isinstance(numbers, list):
            raise RestError(answer)
        found += [Number.of(fields) for fields in numbers if isinstance(fields, dict)]
        following = answer.fields.get("next_page_uri")
        if not isinstance(following, str) or not following.startswith(base):
            return found, True
        path = following.removeprefix(base)
    return found, False
