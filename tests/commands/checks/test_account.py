"""The account at Twilio and the clock, as `bridge check` finds them."""

from __future__ import annotations

import pytest
from check_setup import rest, start
from haproxy import free_port

__all__ = ["rest", "start"]


async def test_wrong_token(start):
    setup = await start()
    account, *_ = await setup.faults(TWILIO_AUTH_TOKEN="another")
    assert account.startswith("problem  account: Twilio refuses TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN")


async def test_token_that_is_on_its_way_out(start):
    setup = await start()
    token = setup.rest.account.auth_tokens[0]
    (line,) = await setup.faults(TWILIO_AUTH_TOKEN=f"{token},older")
    assert "Twilio refuses 1 of 2 auth tokens" in line


async def test_wrong_api_key(start):
    setup = await start()
    setup.rest.account.keys = {"SK" + "1" * 32: "right"}
    key, numbers = await setup.faults(TWILIO_API_KEY_SID="SK" + "1" * 32, TWILIO_API_KEY_SECRET="wrong")
    assert key.startswith("problem  API key: Twilio refuses TWILIO_API_KEY_SID: status 401, code 20003")
    assert numbers.startswith("problem  numbers: cannot be read")
    assert await setup.faults(TWILIO_API_KEY_SID="SK" + "1" * 32, TWILIO_API_KEY_SECRET="right") == []


async def test_trial_account(start):
    setup = await start()
    setup.rest.account.type = "Trial"
    (line,) = await setup.faults()
    assert line.startswith("warning  account: is a trial account: calls only from verified numbers")
    assert "10 minutes" in line


async def test_suspended_account(start):
    setup = await start()
    setup.rest.account.status = "suspended"
    (line,) = await setup.faults()
    assert line.startswith("problem  account: is suspended")


async def test_api_of_twilio_that_cannot_be_reached(start):
    setup = await start()
    found = await setup.faults(TWILIO_API_URL=f"http://127.0.0.1:{free_port()}")
    assert any("gives no account: ClientConnectorError" in line for line in found)
    assert any("clock: could not be compared" in line for line in found)


@pytest.mark.parametrize(
    ("ahead_s", "words"), [(-60, "warning  clock: is 60 s ahead"), (400, "problem  clock")]
)
async def test_clock_that_is_wrong(start, ahead_s, words):
    setup = await start()
    setup.rest._clock_ahead_s = ahead_s
    (line,) = await setup.faults()
    assert line.replace("is 59 s", "is 60 s").replace("is 61 s", "is 60 s").startswith(words)
