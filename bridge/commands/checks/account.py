"""The account at Twilio: its credentials, its kind, its state, and the clock by which both sides are compared."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import aiohttp

from bridge.commands.finding import Finding, ok, problem, warning
from bridge.settings import Settings
from bridge.twilio.rest_numbers import LIST, REPLY_MAX_BYTES, fetch_account
from bridge.twilio.rest_request import RestAccount, RestAnswer, ask

DEADLINE_S = 10.0
# Certificates and a person's logs want a clock that is right; Retell's webhook is refused from 5 minutes on.
CLOCK_DOUBTFUL_S, CLOCK_WRONG_S = 30.0, 300.0
# Source: Twilio's page "Try out Twilio Voice", and its error 13805.
TRIAL = (
    "is a trial account: calls only from verified numbers, at most 10 minutes each, with Twilio's announcement before "
    "them, and some TwiML is blocked"
)


async def check_account(settings: Settings, http: aiohttp.ClientSession) -> list[Finding]:
    """Ask for the account with each auth token, and for a number with the API key."""
    sid, answers = settings.twilio_account_sid, list[RestAnswer]()
    for token in settings.auth_tokens:
        login = RestAccount(settings.api_url, sid, [(sid, token)])
        answers.append(await fetch_account(http, login))
    found = _judge_clock(answers, time.time())
    accepted = [answer for answer in answers if answer.is_done]
    refused = [answer for answer in answers if answer.status == 401]
    if not accepted:
        return [*found, _no_account(settings, answers[0])]
    if refused:
        text = f"Twilio refuses {len(refused)} of {len(answers)} auth tokens"
        found.append(warning("account", text, "remove it from TWILIO_AUTH_TOKEN once no process needs it"))
    found.append(_judge_account(accepted[0]))
    if settings.twilio_api_key_sid:
        found.append(await _check_key(settings, http))
    return found


def _no_account(settings: Settings, answer: RestAnswer) -> Finding:
    if answer.status == 401:
        text = "Twilio refuses TWILIO_ACCOUNT_SID with TWILIO_AUTH_TOKEN (20003), and so every signature fails too"
        region = f"{settings.twilio_region}'s own" if settings.twilio_region else "the account's own"
        return problem("account", text, f"copy both from Twilio's console; the token is {region}")
    todo = "look at the network, at TWILIO_API_URL and at status.twilio.com"
    return problem("account", f"{settings.api_url} gives no account: {answer}", todo)


def _judge_account(answer: RestAnswer) -> Finding:
    status, kind = answer.fields.get("status"), answer.fields.get("type")
    if status != "active":
        todo = "look at Twilio's console; Twilio answers no calls of such an account"
        return problem("account", f"is {str(status)[:20]}", todo)
    if kind == "Trial":
        return warning("account", TRIAL, "upgrade it before others call")
    return ok("account", f"Twilio accepts the auth token; the account is {status}, {str(kind)[:20]}")


def _judge_clock(answers: list[RestAnswer], now: float) -> list[Finding]:
    for answer in answers:
        try:
            ahead_s = now - parsedate_to_datetime(answer.date).timestamp()
        except ValueError:
            continue
        if abs(ahead_s) < CLOCK_DOUBTFUL_S:
            return [ok("clock", "agrees with Twilio's")]
        text = f"is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} Twilio's"
        judged = problem if abs(ahead_s) >= CLOCK_WRONG_S else warning
        return [judged("clock", text, "let NTP set it: certificates and signed webhooks depend on it")]
    return [warning("clock", "could not be compared with Twilio's", "see that NTP sets it")]


async def _check_key(settings: Settings, http: aiohttp.ClientSession) -> Finding:
    account = RestAccount(settings.api_url, settings.twilio_account_sid, settings.api_logins)
    answer = await ask(http, account, "GET", f"{LIST}?PageSize=1", DEADLINE_S, REPLY_MAX_BYTES)
    if answer.is_done:
        return ok("API key", "Twilio accepts it")
    todo = "make a standard key in Twilio's console, in this account and region"
    return problem("API key", f"Twilio refuses TWILIO_API_KEY_SID: {answer}", todo)
