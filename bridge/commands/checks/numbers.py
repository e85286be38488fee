"""The phone numbers that lead to this bridge: their webhooks, as Twilio has them."""

from __future__ import annotations

import aiohttp

from bridge.commands.finding import Finding, ok, problem, warning
from bridge.commands.webhooks import is_ours, status_url, voice_url
from bridge.settings import Settings
from bridge.twilio.rest_numbers import Number, RestError, find_number, read_numbers
from bridge.twilio.rest_request import RestAccount


async def check_numbers(settings: Settings, http: aiohttp.ClientSession, wanted: str) -> list[Finding]:
    """Check one number or, without, all whose voice URL is this bridge's."""
    account = RestAccount(settings.api_url, settings.twilio_account_sid, settings.api_logins)
    try:
        if wanted:
            number = await find_number(http, account, wanted)
            if number is None:
                text = "the account has no such number"
                return [problem(f"number {wanted}", text, "write it in E.164, as Twilio's console does")]
            return judge(number, settings)
        numbers, is_all = await read_numbers(http, account)
    except RestError as error:
        return [problem("numbers", f"cannot be read: {error}", "see what is said of the account")]
    ours = [number for number in numbers if is_ours(number.voice_url, settings)]
    found = [finding for number in ours for finding in judge(number, settings)]
    if not ours:
        text = f"none of {len(numbers)} leads to {settings.public_url}"
        found.append(warning("numbers", text, "run bridge number with the one that should"))
    if not is_all:
        text = f"only the first {len(numbers)} were looked at"
        found.append(warning("numbers", text, "check the others with --number"))
    return found


def judge(number: Number, settings: Settings) -> list[Finding]:
    """What is wrong with a number, first with its calls, then with what is beside them."""
    subject = f"number {number.phone_number}"
    fix = f"run bridge number {number.phone_number}"
    if fault := _fault(number, settings):
        return [problem(subject, fault, fix)]
    found = []
    if not number.status_callback:
        text = "has no status callback: a caller who hangs up before the audio flows is noticed late"
        found.append(warning(subject, text, fix))
    elif number.status_callback.partition("#")[0] != status_url(settings):
        theirs = number.status_callback.partition("?")[0]
        text = f"its status callback is {theirs}, and this bridge's is {status_url(settings)}"
        found.append(warning(subject, text, f"{fix} unless that is on purpose"))
    elif number.status_callback_method != "POST":
        found.append(
            warning(subject, f"its status callback is asked by {number.status_callback_method}", fix)
        )
    if not number.voice_fallback_url:
        text = "has no fallback URL: while no bridge answers, callers hear Twilio's error message"
        found.append(warning(subject, text, f"{fix} --fallback-url URL, of a TwiML Bin"))
    elif is_ours(number.voice_fallback_url, settings):
        text = "its fallback URL is this bridge, which Twilio asks when this bridge has not answered"
        found.append(warning(subject, text, f"{fix} --fallback-url URL, of a TwiML Bin"))
    return found or [ok(subject, "its webhooks are those of this bridge")]


def _fault(number: Number, settings: Settings) -> str:
    """Why no call of this number comes to the bridge as it should."""
    base = number.voice_url.partition("#")[0].partition("?")[0]
    mine = voice_url(settings).partition("#")[0]
    if not number.takes_calls:
        return "takes no calls: it has no voice capability"
    if number.voice_receive_mode == "fax":
        return "receives faxes, not calls"
    if number.trunk_sid:
        return f"belongs to the SIP trunk {number.trunk_sid}, and Twilio passes over its voice URL"
    if number.voice_application_sid:
        return (
            f"belongs to the application {number.voice_application_sid}, and Twilio passes over its voice URL"
        )
    if not base:
        return "has no voice URL"
    if base != mine:
        return f"its voice URL is {base}, and this bridge checks signatures for {mine}{_mistake(base, mine)}"
    if number.voice_method != "POST":
        return f"its voice URL is asked by {number.voice_method}, and this bridge answers POST only"
    return ""


def _mistake(base: str, mine: str) -> str:
    if base.replace("http://", "https://", 1) == mine:
        return ": http in place of https"
    if base.rstrip("/") == mine:
        return ": a slash at its end"
    if base.lower() == mine.lower():
        return ": upper case"
    if base.rstrip("/") == mine.removesuffix("/voice"):
        return ": /voice is missing"
    return ""
