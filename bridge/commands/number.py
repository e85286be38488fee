"""``bridge number``: points a phone number at Twilio to this bridge."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import aiohttp
import click

from bridge.commands.webhooks import is_ours, status_url, voice_url
from bridge.settings import Settings, SettingsError, load_settings
from bridge.twilio.rest_numbers import Number, RestError, change_number, find_number
from bridge.twilio.rest_request import RestAccount

DONE, FAILED, WRONG = 0, 1, 2
URL = re.compile(r"https?://[^\s]+")


def run(overrides: Mapping[str, str], number: str, *, fallback_url: str | None, is_confirmed: bool) -> int:
    """
    Show what changes of a number and, if that is confirmed, change it.

    Args:
        fallback_url: What Twilio asks while no bridge answers; None leaves it as it is.

    Returns:
        The exit code: 1 if Twilio does not do it, 2 if settings or arguments are wrong.
    """
    try:
        settings = load_settings(overrides)
    except SettingsError as error:
        for text in error.problems:
            click.echo(text, err=True)
        return WRONG
    for text in settings.warnings:
        click.echo(f"warning: {text}", err=True)
    if (fault := _fault(settings, fallback_url)) is not None:
        click.echo(fault, err=True)
        return WRONG
    try:
        return asyncio.run(_change(settings, number, fallback_url, is_confirmed))
    except RestError as error:
        click.echo(f"Twilio does not do that: {error}", err=True)
        return FAILED


def _fault(settings: Settings, fallback_url: str | None) -> str | None:
    if not settings.api_logins or not settings.public_url:
        return "PUBLIC_URL, TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN are needed"
    if fallback_url is None:
        return None
    if not URL.fullmatch(fallback_url):
        return "--fallback-url: must begin with http:// or https://"
    if is_ours(fallback_url, settings):
        return (
            "--fallback-url: is this bridge, and Twilio asks it when this bridge has not answered: "
            "use one elsewhere, such as a TwiML Bin"
        )
    return None


async def _change(settings: Settings, text: str, fallback_url: str | None, is_confirmed: bool) -> int:
    account = RestAccount(settings.api_url, settings.twilio_account_sid, settings.api_logins)
    async with aiohttp.ClientSession() as http:
        number = await find_number(http, account, text)
        if number is None:
            click.echo(
                f"the account has no number {text}; write it in E.164, as Twilio's console does", err=True
            )
            return FAILED
        form = _differences(number, settings, fallback_url)
        if not form:
            click.echo(f"{text}: nothing to change")
            return DONE
        if not is_confirmed:
            click.echo("nothing is changed yet: --yes does it")
            return DONE
        await change_number(http, account, number.sid, form)
    click.echo(f"{text}: changed")
    return DONE


def _differences(number: Number, settings: Settings, fallback_url: str | None) -> dict[str, str]:
    """What to send to Twilio; each difference is shown."""
    fields = [
        ("VoiceUrl", "voice URL", number.voice_url, voice_url(settings)),
        ("VoiceMethod", "its method", number.voice_method, "POST"),
        ("StatusCallback", "status callback", number.status_callback, status_url(settings)),
        ("StatusCallbackMethod", "its method", number.status_callback_method, "POST"),
        # Either of them would make Twilio pass over the voice URL.
        ("VoiceApplicationSid", "application", number.voice_application_sid, ""),
        ("TrunkSid", "SIP trunk", number.trunk_sid, ""),
    ]
    if fallback_url is not None:
        fields.append(("VoiceFallbackUrl", "fallback URL", number.voice_fallback_url, fallback_url))
    form: dict[str, str] = {}
    for parameter, name, now, then in fields:
        if now != then:
            form[parameter] = then
            click.echo(f"{number.phone_number}: {name}: {now or 'none'} -> {then or 'none'}")
    return form
