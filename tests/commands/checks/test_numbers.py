"""Numbers whose webhooks are wrong: `bridge check` names each fault."""

from __future__ import annotations

import pytest
from check_setup import NUMBER, rest, start

__all__ = ["rest", "start"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("voice_method", "GET", "its voice URL is asked by GET"),
        ("voice_url", "{public}", "/voice is missing"),
        ("voice_url", "{public}/voice/", "a slash at its end"),
        ("voice_application_sid", "AP1", "belongs to the application AP1"),
        ("trunk_sid", "TK1", "belongs to the SIP trunk TK1"),
        ("voice_receive_mode", "fax", "receives faxes"),
        ("capabilities", {"voice": False}, "takes no calls"),
        ("status_callback", "", "has no status callback"),
        ("status_callback", "{public}/status", "its status callback is"),
        ("status_callback_method", "GET", "its status callback is asked by GET"),
        ("voice_fallback_url", "", "has no fallback URL"),
        ("voice_fallback_url", "{public}/voice", "its fallback URL is this bridge"),
    ],
)
async def test_number_with_a_wrong_field(start, field, value, words):
    setup = await start()
    public = setup.variables["PUBLIC_URL"]
    setup.number[field] = value.replace("{public}", public) if isinstance(value, str) else value
    (line,) = await setup.faults()
    assert f"number {NUMBER}" in line
    assert words in line
    assert f"run bridge number {NUMBER}" in line


async def test_number_with_another_url(start):
    setup = await start()
    setup.number["voice_url"] = "https://demo.twilio.com/welcome/voice/"
    (line,) = await setup.faults()
    assert line.startswith("warning  numbers: none of 1 leads to")
    (line,) = await setup.faults(NUMBER)
    assert "its voice URL is https://demo.twilio.com/welcome/voice/, and this bridge checks" in line


async def test_number_that_the_account_does_not_have(start):
    setup = await start()
    (line,) = await setup.faults("+49301234")
    assert line.startswith("problem  number +49301234: the account has no such number")
