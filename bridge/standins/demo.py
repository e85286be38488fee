"""
``bridge demo``: one whole call on this machine, through the real server, without an account.

The server runs as a subprocess with signatures on. The stand-in agent service and caller run here, so both ends
of the call have one clock, and all sent audio is compared with the received audio byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from bridge.standins import accounting
from bridge.standins.agent.faults import Faults
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import AgentSession
from bridge.standins.audio import SAMPLE_RATE_HZ, SILENCE, SPOKEN, speech, write_wav
from bridge.standins.inject import Injector
from bridge.standins.process import BridgeError, BridgeProcess, free_port
from bridge.standins.twilio.caller import Caller
from bridge.standins.twilio.twiml import TwimlAnswer

STEP_TIMEOUT_S = 15.0
CALL_TIMEOUT_S = 30.0
# A person waits a moment before answering, and needs a moment to interrupt.
REACTION_S = 0.4
INTERRUPT_AFTER_S = 2.5
# How often the demo looks whether a server that stays still runs.
LOOK_EVERY_S = 1.0

_WORDS = {
    **{name: f'"{text}"' for name, text in SPOKEN.items()},
    "interrupt": "hears the caller: interrupt, discard unplayed audio",
    "call_ended": "ends the call",
}


class DemoError(Exception):
    """The call failed; the text says how."""


def run(out: Path, *, inject: str | None = None, page: bool = False) -> int:
    """
    Make the call, write the files, print the result.

    Args:
        out: Folder, created if missing.
        inject: Kind of fault for both stand-ins; the demo must then fail.
        page: Whether the bridge shows its page, and stays after the call until SIGINT or SIGTERM.

    Returns:
        The exit code: 0 if no audio is lost or changed and nobody warns.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_Demo(out, inject, page).run())
    except (DemoError, BridgeError, OSError) as error:
        click.echo(f"the demo failed: {error}", err=True)
    return 1


@dataclass
class _Demo:
    out: Path
    inject: str | None
    page: bool = False
    events: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    began: float = 0.0

    async def run(self) -> int:
        self.began = _now()
        account_sid, auth_token = "AC" + secrets.token_hex(16), secrets.token_hex(16)
        agent = AgentService(
            account=Account(key="key_" + secrets.token_hex(12)), faults=Faults(inject=self.inject)
        )
        async with agent:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            # As the bridge wants it: 12 characters.
            password = secrets.token_urlsafe(9)
            settings = {
                **({"BRIDGE_PAGE_PASSWORD": password} if self.page else {}),
                "HOST": "127.0.0.1",
                "PORT": str(port),
                "PUBLIC_URL": url,
                "TWILIO_ACCOUNT_SID": account_sid,
                "TWILIO_AUTH_TOKEN": auth_token,
                **agent.environment(),
            }
            with (
                tempfile.TemporaryDirectory(prefix="bridge-demo-") as folder,
                BridgeProcess(Path(folder), settings) as server,
            ):
                await asyncio.to_thread(server.wait_ready, url)
                self.show("bridge", f"serves on {url}, signatures on; agent service on {agent.url}")
                caller = Caller(
                    url,
                    account_sid=account_sid,
                    auth_token=auth_token,
                    inject=Injector(self.inject) if self.inject else None,
                )
                if self.page:
                    # Not among the events, which are written to a file.
                    click.echo(f"the page: {url}/#{caller.call_sid}, password {password}")
                async with caller:
                    result = await self.call(agent, caller, server)
                if self.page:
                    await self.leave_open(server)
                exit_code = await asyncio.to_thread(server.stop)
                self.show("bridge", f"stopped with exit code {exit_code}")
                if exit_code != 0:
                    self.problems.append(f"the server ended with exit code {exit_code}:\n{server.log_tail()}")
        return self.finish(result)

    async def leave_open(self, server: BridgeProcess) -> None:
        """Wait for a signal, or the end of the server."""
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        click.echo("the page stays open on this call; Ctrl-C ends it")
        while not stopping.is_set() and server.exit_code is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), LOOK_EVERY_S)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    async def call(self, agent: AgentService, caller: Caller, server: BridgeProcess) -> dict[str, Any]:
        """Make the call from the webhook to the last callback; returns the numbers."""
        began = _now()
        self.show("caller", "dials; Twilio posts the signed webhook")
        answer = await caller.post_voice()
        webhook_ms = 1000 * (_now() - began)
        if answer.problems or answer.stream_url is None:
            raise DemoError(f"the caller would hear {answer.describe()}\n{server.log_tail()}")
        self.show("bridge", f"answers in {webhook_ms:.0f} ms: open a media stream")
        agent.on_session = self.on_session
        caller.on_message = lambda item: self.on_event_to_caller(item.message.event)
        await caller.open_stream()
        caller.open_line()
        try:
            session = await agent.next_session(STEP_TIMEOUT_S)
        except TimeoutError as error:
            violations = "; ".join(agent.violations) or "no reason known here"
            raise DemoError(
                f"the agent's socket was not opened ({violations})\n{server.log_tail()}"
            ) from error
        await self.post_callback(caller, "stream-started")
        await self.talk(caller, session)
        self.show("bridge", f"has closed the caller's socket with {caller.close_code}")
        await asyncio.wait_for(session.closed.wait(), STEP_TIMEOUT_S)
        await self.post_callback(caller, "stream-stopped")
        last = await caller.follow_redirect() if answer.redirect_url else None
        if last is None or last.verbs != ["Hangup"]:
            self.problems.append(f"behind the stream Twilio got {last.describe() if last else 'nothing'}")
        else:
            self.show("bridge", "tells Twilio to hang up")
        return self.count(agent, caller, session, webhook_ms)

    async def talk(self, caller: Caller, session: AgentSession) -> None:
        """Let the caller listen, ask, interrupt and listen to the end."""

        async def until(is_reached: Callable[[], bool], what: str) -> None:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                # Playout has no events: it depends on time alone.
                while not is_reached():
                    if caller.closed.is_set():
                        raise DemoError(f"the bridge closed with {caller.close_code} before {what}")
                    await asyncio.sleep(0.01)

        def has_heard(frames: int) -> bool:
            caller.playout.advance(_now())
            return len(caller.received_audio) >= frames and caller.playout.buffered_bytes == 0

        try:
            greeting = _frames("agent_greeting") - self.frames_spoilt("agent_greeting")
            await until(lambda: has_heard(greeting), "the greeting was heard")
            await asyncio.sleep(REACTION_S)
            self.show("caller", _WORDS["caller_question"])
            heard_before = len(caller.received_audio)
            await caller.say(speech("caller_question"))
            await until(lambda: len(caller.received_audio) > heard_before, "the answer began")
            await asyncio.sleep(INTERRUPT_AFTER_S)
            self.show("caller", f"interrupts: {_WORDS['caller_interruption']}")
            await caller.say(speech("caller_interruption"))
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await caller.closed.wait()
        except TimeoutError as error:
            raise DemoError("the call did not go on in time") from error

    def frames_spoilt(self, recording: str) -> int:
        """Return the number of frames of a first recording that an injected fault may hold back."""
        return _frames(recording) // 50 if self.inject in ("drop", "swap") else 0

    def on_session(self, session: AgentSession) -> None:
        session.on_event = lambda event: self.show("agent", _WORDS[event])
        self.show("bridge", "has opened the agent's socket")

    def on_event_to_caller(self, event: str) -> None:
        if event == "clear":
            self.show("bridge", "clear: the caller hears no more of it")

    async def post_callback(self, caller: Caller, event: str) -> None:
        answer: TwimlAnswer | None = caller.answer
        if answer is not None and answer.status_callback:
            got = await caller.post_stream_status(event)
            if not 200 <= got.status < 300:
                self.problems.append(f"the callback {event} was answered with {got.status}")

    def count(
        self, agent: AgentService, caller: Caller, session: AgentSession, webhook_ms: float
    ) -> dict[str, Any]:
        """Compare both ends; write the recordings and the picture."""
        to_agent = accounting.caller_to_agent(caller, session)
        to_caller = accounting.agent_to_caller(session, caller)
        first = next((item.at for item in caller.received if item.message.event == "media"), None)
        interrupts = accounting.interrupt_to_clear_ms(session, caller)
        caller.playout.advance(caller.closed_at)
        warnings = [*caller.warnings, *session.violations, *agent.violations]
        for name, direction in (("caller to agent", to_agent), ("agent to caller", to_caller)):
            if not direction.is_sound:
                self.problems.append(f"{name}: {direction.summary()}")
        if len(interrupts) != 1:
            self.problems.append(f"{len(interrupts)} interrupts became a clear, not 1")
        if caller.close_code != 1000:
            self.problems.append(f"the caller's socket was closed with {caller.close_code}, not 1000")
        if caller.playout.buffered_bytes:
            unheard_s = caller.playout.buffered_bytes / SAMPLE_RATE_HZ
            self.problems.append(
                f"the last {unheard_s:.2f} s were not heard: the socket was closed too early"
            )
        self.problems += warnings
        self.write_recordings(caller, session)
        self.draw(caller, session, to_agent, to_caller)
        return {
            "webhook_ms": round(webhook_ms, 3),
            "first_agent_audio_ms": None if first is None else round(1000 * (first - caller.opened_at), 3),
            "interrupt_to_clear_ms": interrupts[0] if interrupts else None,
            "close_code": caller.close_code,
            "caller_to_agent": to_agent.summary(),
            "agent_to_caller": to_caller.summary(),
            "frames_cleared_by_bridge": to_caller.dropped,
            "cleared_from_playout_ms": round(1000 * caller.playout.cleared_bytes / SAMPLE_RATE_HZ),
            "call_s": round(caller.closed_at - caller.opened_at, 3),
            "warnings": warnings,
        }

    def write_recordings(self, caller: Caller, session: AgentSession) -> None:
        write_wav(self.out / "caller-heard.wav", caller.heard())
        # Both recordings start when the stream opens.
        lead_s = session.received[0].at - caller.opened_at if session.received else 0.0
        heard = SILENCE * round(lead_s * SAMPLE_RATE_HZ) + b"".join(item.audio for item in session.received)
        write_wav(self.out / "agent-heard.wav", heard)

    def draw(
        self,
        caller: Caller,
        session: AgentSession,
        to_agent: accounting.Direction,
        to_caller: accounting.Direction,
    ) -> None:
        if importlib.util.find_spec("matplotlib") is None:
            click.echo('no picture: matplotlib is missing (pip install "voice-bridge[demo]")')
            return
        from bridge.standins.picture import draw_call

        draw_call(self.out / "call.png", caller, session, to_agent, to_caller)

    def finish(self, result: dict[str, Any]) -> int:
        result = {"ok": not self.problems, **result, "problems": self.problems, "events": self.events}
        (self.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        click.echo()
        for name in ("caller_to_agent", "agent_to_caller"):
            way = result[name]
            equal = "byte for byte equal" if way["byte_equal"] else "NOT equal"
            click.echo(
                f"{name.replace('_', ' ')}: {way['frames_received']} of {way['frames_sent']} frames, {equal}, "
                f"delay p50 {way['delay_p50_ms']} ms, p99 {way['delay_p99_ms']} ms, max {way['delay_max_ms']} ms"
            )
        click.echo(
            f"interrupt to clear: {result['interrupt_to_clear_ms']} ms; "
            f"webhook: {result['webhook_ms']:.0f} ms; close code {result['close_code']}"
        )
        for problem in self.problems:
            click.echo(f"problem: {problem}", err=True)
        click.echo(
            f"{'nothing was lost' if not self.problems else 'the demo failed'}; see {self.out}{os.sep}"
        )
        return 1 if self.problems else 0

    def show(self, who: str, what: str) -> None:
        """Print and record an event, with the time since the webhook."""
        at_s = round(_now() - self.began, 3)
        self.events.append({"at_s": at_s, "who": who, "what": what})
        click.echo(f"{at_s:6.2f} s  {who:<7} {what}")


def _frames(recording: str) -> int:
    return -(-len(speech(recording)) // 160)


def _now() -> float:
    return asyncio.get_running_loop().time()
