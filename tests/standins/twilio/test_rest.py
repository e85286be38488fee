"""The stand-in for Twilio's REST API: its client is Twilio's SDK, its judge is Twilio's contract."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from live import DEADLINE_S
from twilio.base.exceptions import TwilioRestException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client

from bridge.standins.process import free_port
from bridge.standins.twilio.rest import Account, TwilioRest

CONTRACT = Path(__file__).parents[2] / "data" / "twilio_rest.openapi.json"
PRISM = shutil.which("prism")
PRISM_S = 20.0
TOKEN, KEY, SECRET = "canary-token", "SK" + "3" * 32, "canary-secret"
API = "https://api.twilio.com"
# Twilio's client uses what aiohttp 4 will not have.
pytestmark = pytest.mark.filterwarnings(
    "ignore:BasicAuth is deprecated:DeprecationWarning", "ignore:The 'auth' parameter is:DeprecationWarning"
)


@pytest.fixture
async def rest() -> AsyncIterator[TwilioRest]:
    account = Account(sid="AC" + "1" * 32, auth_tokens=[TOKEN], keys={KEY: SECRET})
    async with TwilioRest(account) as rest:
        yield rest
    assert rest.violations == []


class Elsewhere(AsyncTwilioHttpClient):
    """Twilio's client, led to another address than Twilio's."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    async def request(self, method: str, url: str, *args: Any, **options: Any) -> Any:
        return await super().request(method, url.replace(API, self._url), *args, **options)


@contextlib.asynccontextmanager
async def sdk(rest: TwilioRest, *login: str) -> AsyncIterator[Client]:
    async with Elsewhere(rest.url) as http:
        yield Client(*(login or (rest.account.sid, TOKEN)), rest.account.sid, http_client=http)


async def test_sdk_reads_the_account(rest):
    rest.account.type = "Trial"
    async with sdk(rest) as client:
        account = await client.api.v2010.accounts(rest.account.sid).fetch_async()
    assert (account.sid, account.status, account.type) == (rest.account.sid, "active", "Trial")


async def test_sdk_ends_a_call_once(rest):
    sid = rest.add_call()
    async with sdk(rest) as client:
        assert (await client.calls(sid).fetch_async()).status == "in-progress"
        assert (await client.calls(sid).update_async(status="completed")).status == "completed"
        assert (await client.calls(sid).fetch_async()).status == "completed"
        with pytest.raises(TwilioRestException) as caught:
            await client.calls(sid).update_async(status="completed")
        assert (caught.value.status, caught.value.code) == (404, 20404)
        with pytest.raises(TwilioRestException) as caught:
            await client.calls(sid).update_async(twiml="<Response/>")
        assert (caught.value.status, caught.value.code) == (400, 21220)


async def test_sdk_gives_a_running_call_another_twiml(rest):
    sid = rest.add_call()
    async with sdk(rest) as client:
        assert (await client.calls(sid).update_async(twiml="<Response/>")).status == "in-progress"
        with pytest.raises(TwilioRestException) as caught:
            await client.calls("CA" + "9" * 32).fetch_async()
        assert (caught.value.status, caught.value.code) == (404, 20404)
    assert rest.asked[0].form == {"Twiml": "<Response/>"}


async def test_sdk_records_a_running_call(rest):
    sid = rest.add_call()
    async with sdk(rest) as client:
        recording = await client.calls(sid).recordings.create_async(recording_channels="dual")
        assert (recording.call_sid, recording.status, recording.channels) == (sid, "in-progress", 2)
        rest.calls[sid]["status"] = "completed"
        with pytest.raises(TwilioRestException) as caught:
            await client.calls(sid).recordings.create_async()
        assert (caught.value.status, caught.value.code) == (400, 21220)
        with pytest.raises(TwilioRestException) as caught:
            await client.calls("CA" + "9" * 32).recordings.create_async()
        assert (caught.value.status, caught.value.code) == (404, 20404)


async def test_sdk_finds_and_changes_numbers(rest):
    for n in range(5):
        rest.add_number(f"+1415555010{n}")
    async with sdk(rest) as client:
        numbers = client.incoming_phone_numbers
        found = [number async for number in await numbers.stream_async(page_size=2)]
        assert [number.phone_number[-1] for number in found] == ["0", "1", "2", "3", "4"]
        assert [asked.path.rpartition("/")[2] for asked in rest.asked] == ["IncomingPhoneNumbers.json"] * 3
        assert [n.phone_number for n in await numbers.list_async(phone_number="+1415*550103")] == [
            "+14155550103"
        ]
        assert await numbers.list_async(phone_number="+49") == []
        await numbers(found[0].sid).update_async(
            voice_url="https://voice.example.com/voice", voice_method="POST", status_callback="https://x/y"
        )
        number = await numbers(found[0].sid).fetch_async()
        assert (number.voice_url, number.status_callback) == (
            "https://voice.example.com/voice",
            "https://x/y",
        )


@pytest.mark.parametrize("login", [("AC" + "1" * 32, "other"), (KEY, "other"), ("SK" + "4" * 32, SECRET)])
async def test_sdk_is_refused_with_wrong_credentials(rest, login):
    async with sdk(rest, *login) as client:
        with pytest.raises(TwilioRestException) as caught:
            await client.calls(rest.add_call()).fetch_async()
    assert (caught.value.status, caught.value.code) == (401, 20003)


async def test_key_may_do_all_but_fetch_the_account(rest):
    rest.add_number("+14155550100")
    async with sdk(rest, KEY, SECRET) as client:
        assert len(await client.incoming_phone_numbers.list_async()) == 1
        with pytest.raises(TwilioRestException) as caught:
            await client.api.v2010.accounts(rest.account.sid).fetch_async()
    assert caught.value.status == 401


async def test_unknown_parameters_are_violations(rest):
    number = rest.add_number("+14155550100")
    path = f"/2010-04-01/Accounts/{rest.account.sid}/IncomingPhoneNumbers/{number}.json"
    form = {"VoiceURL": "https://x", "VoiceMethod": "post"}
    assert (await answer(rest.url, rest, ("POST", path, form)))[0] == 200
    assert rest.violations == ["a number: unknown parameter VoiceURL", "a number: VoiceMethod post"]
    rest.violations.clear()
    path = f"/2010-04-01/Accounts/{rest.account.sid}/Calls/{rest.add_call()}/Recordings.json"
    form = {"Channels": "dual", "RecordingChannels": "stereo"}
    assert (await answer(rest.url, rest, ("POST", path, form)))[0] == 201
    assert rest.violations == ["a recording: Channels dual", "a recording: RecordingChannels stereo"]
    rest.violations.clear()


def requests(rest: TwilioRest) -> list[tuple[str, str, dict[str, str]]]:
    """Every request that the bridge sends."""
    base = f"/2010-04-01/Accounts/{rest.account.sid}"
    call, number = rest.add_call(), rest.add_number("+14155550100")
    form = {
        "VoiceUrl": "https://a.example/voice",
        "VoiceMethod": "POST",
        "StatusCallback": "https://a.example/s",
    }
    return [
        ("GET", f"{base}.json", {}),
        ("GET", f"{base}/Calls/{call}.json", {}),
        ("POST", f"{base}/Calls/{call}.json", {"Twiml": "<Response/>"}),
        ("POST", f"{base}/Calls/{call}.json", {"Status": "completed"}),
        ("GET", f"{base}/IncomingPhoneNumbers.json?PhoneNumber=%2B14155550100&PageSize=1000", {}),
        ("GET", f"{base}/IncomingPhoneNumbers/{number}.json", {}),
        ("POST", f"{base}/IncomingPhoneNumbers/{number}.json", form),
        ("POST", f"{base}/Calls/{rest.add_call()}/Recordings.json", {"RecordingChannels": "dual"}),
    ]


async def answer(
    url: str, rest: TwilioRest, request: tuple[str, str, dict[str, str]], token: str = TOKEN
) -> tuple[int, Any]:
    method, path, form = request
    login = base64.b64encode(f"{rest.account.sid}:{token}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"} if token else {}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.request(method, url + path, data=form or None) as response,
    ):
        return response.status, await response.json()


def names(value: Any) -> Any:
    """The names of an answer at every level but that of maps of URIs."""
    if isinstance(value, list):
        return names(value[0]) if value else None
    if isinstance(value, dict):
        return {name: names(item) for name, item in value.items() if name != "subresource_uris"}
    return None


async def test_answers_have_the_fields_of_the_contract(rest):
    contract = json.loads(CONTRACT.read_text())
    schemas = contract["components"]["schemas"]
    kinds = ("account", "call", "incoming_phone_number", "call.call_recording")
    for kind, request in zip(kinds, (0, 1, 5, 7), strict=True):
        status, fields = await answer(rest.url, rest, requests(rest)[request])
        schema = schemas[f"api.v2010.account{'' if kind == 'account' else '.' + kind}"]["properties"]
        assert status == (201 if "recording" in kind else 200)
        assert fields.keys() == schema.keys()
        for name, value in fields.items():
            rule = schema[name]
            rule = schemas[rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule
            assert value in rule.get("enum", [value]), name
            assert (
                value is None or type(value).__name__.startswith(rule["type"][:3]) or isinstance(value, dict)
            )


async def test_every_request_is_answered_as_by_a_mock_made_from_the_contract(rest, tmp_path):
    async with prism(tmp_path) as url:
        for request in requests(rest):
            ours, theirs = await answer(rest.url, rest, request), await answer(url, rest, request)
            assert (request, ours[0]) == (request, theirs[0])
            assert names(ours[1]) == names(theirs[1]), request
        assert (await answer(url, rest, request, token=""))[0] == 401
        assert (await answer(rest.url, rest, request, token=""))[0] == 401


@contextlib.asynccontextmanager
async def prism(folder: Path) -> AsyncIterator[str]:
    """Stoplight's mock server for Twilio's contract."""
    if PRISM is None:
        pytest.skip(
            "prism is not installed: npm install -g @stoplight/prism-cli"
            if shutil.which("npm")
            else "prism is not installed, and there is no npm to install it"
        )
    port = free_port()
    with (folder / "prism.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(PRISM, "mock", "--host", "127.0.0.1", "--port", str(port), str(CONTRACT)),
            stdout=log,
            stderr=log,
            env={**os.environ, "NO_COLOR": "1"},
        )
    try:
        async with asyncio.timeout(PRISM_S + DEADLINE_S):
            while "Prism is listening" not in (folder / "prism.log").read_text():
                assert process.returncode is None, (folder / "prism.log").read_text()
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()
