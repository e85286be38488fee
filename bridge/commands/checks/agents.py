"""The agents in use: their addresses, their models and, if that is wanted, a session that gets ready."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Mapping
from itertools import count
from urllib.parse import urlsplit

import aiohttp

from bridge.agents.agent import (
    Agent,
    CallInfo,
    Control,
    Dialogue,
    Failed,
    Reply,
    Resources,
    SessionError,
    StreamInfo,
)
from bridge.agents.directory import FREE, Directory
from bridge.commands.checks.reach import reach
from bridge.commands.checks.shutdowns import SHUTDOWNS
from bridge.commands.finding import Finding, ok, problem, warning
from bridge.settings import Settings
from bridge.tls_files import SOON_DAYS

# A call that nobody makes.
CALL = CallInfo("CA" + 32 * "0", "+15005550006", "+15005550006")
LOOK = "look at the agent's settings and at its service's status page"


async def check_agents(
    settings: Settings, http: aiohttp.ClientSession, tls: ssl.SSLContext, *, opens: bool
) -> list[Finding]:
    """Check every agent that may answer; ``opens``: with a session of each, which may cost money."""
    directory = settings.read_directory()
    resources = Resources(http, settings.bridge_session_s, may_transfer=bool(settings.transfer_prefixes))
    agents = directory.describe(resources)
    names = sorted(directory.names)
    found = await asyncio.gather(*(_check_address(name, directory, tls) for name in names))
    findings: list[Finding] = []
    for name, (of_address, is_reached) in zip(names, found, strict=True):
        findings += of_address + _check_models(name, directory, datetime.date.today())
        if opens and is_reached and name != FREE:
            findings.append(await _check_session(name, agents[name], http, settings))
    return findings


async def _check_address(name: str, directory: Directory, tls: ssl.SSLContext) -> tuple[list[Finding], bool]:
    subject = f"agent {name}"
    hosts = {(parts.scheme, parts.netloc): None for url in directory.urls(name) if (parts := urlsplit(url))}
    if not hosts:
        text = "needs no service" if name == FREE else "names no address that could be looked at"
        return [ok(subject, text)], True
    findings, is_reached = [], True
    for scheme, netloc in hosts:
        reached = await reach(f"{scheme}://{netloc}", tls)
        if reached.fault:
            is_reached = False
            findings.append(problem(subject, reached.fault, reached.todo))
        elif reached.days_left is not None and reached.days_left < SOON_DAYS:
            text = f"the certificate of {netloc} ends in {reached.days_left:.0f} days"
            findings.append(warning(subject, text, "see that it is renewed"))
    return findings or [ok(subject, f"{', '.join(netloc for _, netloc in hosts)} can be reached")], is_reached


def _check_models(name: str, directory: Directory, today: datetime.date) -> list[Finding]:
    findings = []
    for model in directory.models(name):
        if (shutdown := SHUTDOWNS.get(model)) is not None:
            is_over = shutdown.day <= today
            text = f"the model {model} {'was' if is_over else 'will be'} shut down on {shutdown.day}"
            finding = problem if is_over else warning
            findings.append(finding(f"agent {name}", text, f"use {shutdown.replacement}"))
    return findings


async def _check_session(name: str, agent: Agent, http: aiohttp.ClientSession, settings: Settings) -> Finding:
    subject = f"agent {name}"
    if agent.required:
        text = f"needs values of a call, so no session was opened: {', '.join(sorted(agent.required))}"
        return warning(subject, text, "make a call to try it")
    try:
        async with asyncio.timeout(settings.bridge_session_s):
            session = await agent.open_session(CALL)
    except TimeoutError:
        return problem(subject, f"gives no session within {settings.bridge_session_s:g} s", LOOK)
    except SessionError as error:
        return problem(subject, f"gives no session: {error}", LOOK)
    if agent.endpoint is None or agent.dialogue is None:
        return ok(subject, "gives a session; Twilio reaches it by itself, which is not tried")
    try:
        async with asyncio.timeout(settings.bridge_agent_connect_s):
            fault = await _open(agent, session, http, settings.bridge_agent_message_max_bytes)
    except TimeoutError:
        fault = f"is not ready within {settings.bridge_agent_connect_s:g} s"
    except aiohttp.WSServerHandshakeError as error:
        fault = f"refuses its socket: status {error.status}"
    except (aiohttp.ClientError, OSError) as error:
        fault = f"opens no socket: {type(error).__name__}"
    return problem(subject, fault, LOOK) if fault else ok(subject, "opens a socket that gets ready")


async def _open(agent: Agent, session: Mapping[str, str], http: aiohttp.ClientSession, max_bytes: int) -> str:
    """Open the socket as for a call until the agent is ready; returns what goes wrong."""
    assert agent.endpoint is not None and agent.dialogue is not None
    endpoint = agent.endpoint(session, CALL)
    numbers = count(1)
    stream = StreamInfo(CALL, "AC" + 32 * "0", "MZ" + 32 * "0", session, True)
    dialogue = agent.dialogue(stream, lambda: next(numbers))
    async with http.ws_connect(
        endpoint.url,
        headers=endpoint.headers,
        max_msg_size=max_bytes,
        timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
    ) as socket:
        for message in dialogue.opening():
            await socket.send_str(message.decode())
        fault = await _until_ready(socket, dialogue) if dialogue.waits_for_ready else ""
        for message in dialogue.closing() if not fault else ():
            await socket.send_str(message.decode())
        return fault


async def _until_ready(socket: aiohttp.ClientWebSocketResponse, dialogue: Dialogue) -> str:
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.TEXT:
            continue
        for event in dialogue.read(message.data.encode()):
            match event:
                case Control.READY:
                    return ""
                case Failed(detail):
                    return f"refuses the session: {detail}"
                case Reply(answer):
                    await socket.send_str(answer.decode())
    return f"closes its socket before it is ready: code {socket.close_code}"
