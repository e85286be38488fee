"""The stand-ins as commands: an agent service for development, and a caller to try a bridge."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import click

from bridge.standins.agent.behaviours import BEHAVIOURS
from bridge.standins.agent.faults import Faults
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.protocols.retell_calls import SipCall
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import AgentSession
from bridge.standins.audio import SAMPLE_RATE_HZ, UnsupportedWavError, is_loud, read_wav, speech, write_wav
from bridge.standins.inject import Injector
from bridge.standins.twilio.caller import Caller
from bridge.standins.twilio.twiml import TwimlAnswer

# Quiet on both sides that ends a call.
QUIET_S = 3.0
# Time for audio still on its way when the caller stops speaking.
TAIL_S = 1.0
# A newly started bridge needs a moment before it listens.
REACHABLE_WITHIN_S = 10.0
RETRY_S = 0.1


def run_agent(
    *,
    protocol: str,
    audio_format: str,
    host: str,
    port: int,
    behaviour: str,
    key: str,
    inject: str | None,
    open_delay_s: float,
) -> int:
    """Serve until SIGINT or SIGTERM; returns the exit code."""
    service = AgentService(
        protocol=protocol,
        host=host,
        port=port,
        account=Account(
            key=key, agent_id=None, from_caller_format=audio_format, to_caller_format=audio_format
        ),
        behaviour=BEHAVIOURS[behaviour],
        faults=Faults(inject=inject, open_delay_s=open_delay_s),
    )
    try:
        asyncio.run(_serve_agent(service))
    except OSError as error:
        click.echo(f"cannot listen on {host}:{port}: {error.strerror or error}", err=True)
        return 1
    return 0


async def _serve_agent(service: AgentService) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with service:
        if settings := service.environment():
            click.echo(f"stand-in agent service on {service.url}; a bridge uses it with these settings:")
            for name, value in (settings | _made_up_account()).items():
                click.echo(f"  {name}={value}")
        else:
            click.echo(f"stand-in agent service; its socket is {service.ws_url}")
        watcher = asyncio.create_task(_report_calls(service))
        await stopping.wait()
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    for violation in service.violations:
        click.echo(f"fault: {violation}", err=True)


def _made_up_account() -> dict[str, str]:
    """Return a made-up Twilio account and the default address of a bridge on this machine."""
    return {
        "PUBLIC_URL": "http://127.0.0.1:3000",
        "TWILIO_ACCOUNT_SID": "AC" + secrets.token_hex(16),
        "TWILIO_AUTH_TOKEN": secrets.token_hex(16),
    }


async def _report_calls(service: AgentService) -> None:
    async def report(session: AgentSession) -> None:
        name = _name_of(session)
        if isinstance(session, SipCall):
            click.echo(f"{name}: registered; its audio goes over SIP, to nobody here")
            return
        click.echo(f"{name}: the socket is open")
        await session.closed.wait()
        click.echo(
            f"{name}: closed with {session.close_code}; {len(session.received)} frames from the caller, "
            f"{len(session.sent)} to the caller, {len(session.interrupts_at)} interrupts"
        )
        for violation in session.violations:
            click.echo(f"{name}: fault: {violation}", err=True)

    async with asyncio.TaskGroup() as group:
        while True:
            with contextlib.suppress(TimeoutError):
                group.create_task(report(await service.next_session(timeout_s=3600.0)))


def _name_of(session: AgentSession) -> str:
    """Return the CallSid if the bridge sent it, else the service's own name of the call."""
    metadata = session.request.get("metadata")
    call_sid = metadata.get("callSid") if isinstance(metadata, dict) else None
    return call_sid if isinstance(call_sid, str) else session.call_id


def run_call(
    url: str,
    *,
    wav: Path | None,
    out: Path | None,
    public_url: str | None,
    account_sid: str | None,
    seconds: float,
    inject: str | None,
    expect_echo: bool,
) -> int:
    """Make one call and print the result; returns the exit code."""
    try:
        said = read_wav(wav) if wav else speech("caller_question")
    except (UnsupportedWavError, OSError) as error:
        click.echo(str(error), err=True)
        return 2
    auth_token = os.environ.get("TWILIO_AUTH_TOKEN", "").partition(",")[0].strip() or None
    if auth_token and not account_sid:
        click.echo("TWILIO_AUTH_TOKEN is set but TWILIO_ACCOUNT_SID is not: the account is made up", err=True)
    caller = Caller(
        url,
        public_url=public_url,
        account_sid=account_sid,
        auth_token=auth_token,
        inject=Injector(inject) if inject else None,
    )
    try:
        return asyncio.run(_call(caller, said, seconds, out, expect_echo, is_signed=auth_token is not None))
    except aiohttp.WSServerHandshakeError as error:
        click.echo(f"the media socket was refused with status {error.status} (Twilio: 31920)", err=True)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        click.echo(f"{url} cannot be reached: {error or type(error).__name__}", err=True)
        if _is_refused_connection(error):
            click.echo("nothing listens there: look whether bridge serve runs, and on which port", err=True)
    return 1


async def _call(
    caller: Caller, said: bytes, seconds: float, out: Path | None, expect_echo: bool, *, is_signed: bool
) -> int:
    async with caller:
        answer, took_s = await _first_answer(caller, asyncio.get_running_loop().time)
        click.echo(f"{caller.call_sid}: the webhook answered in {1000 * took_s:.0f} ms")
        for problem in answer.problems:
            click.echo(f"Twilio would not accept the answer: {problem}", err=True)
        if answer.problems or answer.stream_url is None:
            click.echo(f"the caller would hear: {answer.describe()}", err=True)
            if answer.status == 403:
                click.echo(_why_forbidden(caller.endpoint.public_url, is_signed), err=True)
            return 1
        await caller.open_stream()
        caller.open_line()
        saying = asyncio.create_task(caller.say(said))
        try:
            await _watch(caller, saying, seconds)
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
        await caller.close_line()
        if not caller.closed.is_set():
            await _wait_for_tail(caller)
        closed_by_bridge = caller.closed.is_set()
        await caller.hang_up()
    return _report(caller, out, expect_echo, closed_by_bridge)


async def _first_answer(caller: Caller, clock: Callable[[], float]) -> tuple[TwimlAnswer, float]:
    """Post the webhook, with retries while nothing listens; returns the answer, and the seconds that it alone took."""
    give_up_at = clock() + REACHABLE_WITHIN_S
    while True:
        began = clock()
        try:
            return await caller.post_voice(), clock() - began
        except aiohttp.ClientConnectorError as error:
            if not _is_refused_connection(error) or clock() >= give_up_at:
                raise
        await asyncio.sleep(RETRY_S)


def _is_refused_connection(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ConnectionRefusedError
    )


def _why_forbidden(public_url: str, is_signed: bool) -> str:
    """What to change where a bridge refuses the webhook."""
    if not is_signed:
        return "nothing was signed: set TWILIO_AUTH_TOKEN and TWILIO_ACCOUNT_SID in the environment to the bridge's own"
    return (
        "TWILIO_AUTH_TOKEN or TWILIO_ACCOUNT_SID is not the bridge's own, or its PUBLIC_URL is not "
        f"{public_url} (--public-url): its log says which, in the line request refused"
    )


async def _watch(caller: Caller, saying: asyncio.Task[None], seconds: float) -> None:
    """Show progress until the call ends, its time is over, or both sides are quiet."""
    loop = asyncio.get_running_loop()
    began = last_sound = loop.time()
    seen = shown = 0
    bar = click.progressbar(length=int(seconds), label="in the call", show_eta=False, width=0)
    is_terminal = sys.stdout.isatty()
    with bar if is_terminal else contextlib.nullcontext():
        while not caller.closed.is_set() and loop.time() - began < seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await caller.closed.wait()
            now = loop.time()
            new, seen = caller.received_audio[seen:], len(caller.received_audio)
            if not saying.done() or any(map(is_loud, new)):
                last_sound = now
            last_sound = max(last_sound, min(now, _plays_until(caller, last_sound)))
            elapsed = int(now - began)
            if elapsed > shown:
                if is_terminal:
                    bar.update(elapsed - shown)
                else:
                    click.echo(f"{elapsed:3} s: {len(caller.sent)} frames sent, {seen} received")
                shown = elapsed
            if now - last_sound > QUIET_S:
                return


def _plays_until(caller: Caller, last_sound: float) -> float:
    """Return when the buffered audio ends; a little echoed silence does not count."""
    caller.playout.advance(asyncio.get_running_loop().time())
    waits_s = caller.playout.buffered_bytes / SAMPLE_RATE_HZ
    return caller.playout.plays_until() if waits_s > TAIL_S else last_sound


async def _wait_for_tail(caller: Caller) -> None:
    """Wait until no more messages arrive, with a deadline."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TAIL_S):
            count = -1
            while count != len(caller.received):
                count = len(caller.received)
                await asyncio.sleep(TAIL_S / 4)


def _report(caller: Caller, out: Path | None, expect_echo: bool, closed_by_bridge: bool) -> int:
    heard = caller.received_audio
    media = [item for item in caller.received if item.message.event == "media"]
    clears = sum(item.message.event == "clear" for item in caller.received)
    click.echo(f"frames sent: {len(caller.sent)}, received: {len(heard)}, clears: {clears}")
    if media:
        click.echo(f"first audio: {1000 * (media[0].at - caller.opened_at):.0f} ms after the stream opened")
    ended = f"the bridge, code {caller.close_code}" if closed_by_bridge else "the caller"
    click.echo(f"ended by: {ended}")
    for warning in caller.warnings:
        click.echo(f"warning: {warning}", err=True)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_wav(out, caller.heard())
        click.echo(f"heard: {out}")
    failed = bool(caller.warnings)
    if not heard:
        click.echo("nothing was heard", err=True)
        failed = True
    if expect_echo:
        failed |= not _is_echo([item.audio for item in caller.sent], heard)
    return 1 if failed else 0


def _is_echo(sent: list[bytes], heard: list[bytes]) -> bool:
    if sent == heard:
        click.echo("the echo is byte for byte what was said")
        return True
    same = next((n for n, (a, b) in enumerate(zip(sent, heard, strict=False)) if a != b), None)
    where = f"frame {same} is the first that differs" if same is not None else "one is shorter"
    click.echo(f"the echo is not what was said: {len(sent)} and {len(heard)} frames, {where}", err=True)
    return False
