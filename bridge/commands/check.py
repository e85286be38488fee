"""``bridge check``: whether a set-up can carry calls, part by part, each in a line that says what to do."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Mapping, Sequence

import aiohttp
import click
import orjson
import structlog

from bridge.commands.checks.account import check_account
from bridge.commands.checks.agents import check_agents
from bridge.commands.checks.machine import check_certificate, check_descriptors, check_settings
from bridge.commands.checks.numbers import check_numbers
from bridge.commands.checks.own_webhooks import ANSWER, EVENTS, check_own_webhook
from bridge.commands.checks.public_url import check_public_url
from bridge.commands.checks.signature import check_signature
from bridge.commands.checks.store import check_store
from bridge.commands.finding import Finding, Level, ok, problem
from bridge.settings import Settings, SettingsError, load_settings

FINE, PROBLEMS, SETTINGS = 0, 1, 2
# For one part, whose requests have deadlines of their own.
PART_S = 60.0


def run(
    overrides: Mapping[str, str],
    *,
    number: str,
    opens_agents: bool,
    as_json: bool,
    signature: Sequence[str],
) -> int:
    """
    Check, and print what was found.

    Args:
        number: The phone number to look at; empty: all that lead to this bridge.
        opens_agents: Whether a session of each agent is opened, which may cost money.
        signature: URL, header and form of a request whose signature alone is checked; empty: everything else is.

    Returns:
        The exit code: 1 with problems, 2 if the settings are wrong.
    """
    # The findings say what a log line would.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        settings = load_settings(overrides)
    except SettingsError as error:
        _print([problem("settings", text) for text in error.problems], as_json)
        return SETTINGS
    if signature:
        try:
            found = check_signature(settings, *signature)
        except ValueError as error:
            click.echo(f"--signature: {error}", err=True)
            return SETTINGS
    else:
        found = asyncio.run(check_all(settings, number, opens_agents=opens_agents))
    _print(found, as_json)
    return PROBLEMS if any(finding.level is Level.PROBLEM for finding in found) else FINE


async def check_all(settings: Settings, number: str = "", *, opens_agents: bool = False) -> list[Finding]:
    """Every part of a set-up, at the same time; the arguments are those of `run`."""
    tls = ssl.create_default_context()
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        parts: dict[str, Awaitable[list[Finding]]] = {"store": check_store(settings)}
        if settings.bridge_validate_signatures:
            parts["account"] = check_account(settings, http)
            parts["numbers"] = check_numbers(settings, http, number)
            parts["PUBLIC_URL"] = check_public_url(settings, http, tls)
        own = {ANSWER: settings.bridge_answer_url, EVENTS: settings.bridge_events_url}
        for subject, url in own.items():
            if url:
                parts[subject] = check_own_webhook(subject, url, tls)
        parts["agents"] = check_agents(settings, http, tls, opens=opens_agents)
        found = await asyncio.gather(*(_guarded(subject, part) for subject, part in parts.items()))
    findings = [*check_settings(settings), *check_certificate(settings), *check_descriptors(settings)]
    findings += [finding for of_part in found for finding in of_part]
    if not settings.bridge_validate_signatures:
        findings.append(ok("Twilio", "is not asked while signatures are off"))
    return findings


async def _guarded(subject: str, part: Awaitable[list[Finding]]) -> list[Finding]:
    """What a part finds; a fault in one must not hide the others."""
    try:
        async with asyncio.timeout(PART_S):
            return await part
    except TimeoutError:
        text = f"is not checked within {PART_S:g} s"
        return [problem(subject, text, "look at the network, and check again")]
    except Exception as error:
        text = f"could not be checked: {type(error).__name__}"
        return [problem(subject, text, "report this as a fault of bridge check")]


def _print(findings: Sequence[Finding], as_json: bool) -> None:
    if as_json:
        fields = [
            {
                "level": finding.level.value,
                "subject": finding.subject,
                "text": finding.text,
                "todo": finding.todo,
            }
            for finding in findings
        ]
        click.echo(orjson.dumps({"findings": fields}, option=orjson.OPT_INDENT_2).decode())
        return
    for finding in findings:
        click.echo(str(finding))
