"""Behaviours of the stand-in agent in a call, as functions of the session."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

from bridge.standins.agent.session import AgentSession
from bridge.standins.audio import PTIME_MS, SAMPLE_RATE_HZ, SpeechDetector, frames, speech
from bridge.standins.numbered import make_numbered

Behaviour = Callable[[AgentSession], Awaitable[None]]

# Quiet of the caller before the agent takes its turn.
TURN_QUIET_MS = 500
# Quiet of both sides before the agent says goodbye.
PATIENCE_S = 10.0
# Agents send faster than real time: 200 ms of audio every 100 ms.
BURST_FRAMES = 10
BURST_EVERY_S = 0.1

_GREETING = ("agent_greeting",)
_TURNS: tuple[tuple[str, ...], ...] = (("agent_answer",), ("agent_continues", "agent_goodbye"))


async def silent(session: AgentSession) -> None:
    """Say nothing."""
    await session.closed.wait()


async def echo(session: AgentSession) -> None:
    """Send every frame back."""
    async for audio in session.audio():
        await session.send_audio(audio)


def numbered(*, seed: int = 1, size: int = 160, count: int | None = None, paced: bool = True) -> Behaviour:
    """Return a behaviour that sends numbered frames, ``count`` of them or until the call ends."""

    async def behave(session: AgentSession) -> None:
        numbers = itertools.count() if count is None else range(count)
        await session.send_frames((make_numbered(n, size, seed) for n in numbers), paced=paced)
        await session.closed.wait()

    return behave


async def conversation(session: AgentSession) -> None:
    """
    Greet, answer, continue and say goodbye, one after each turn of the caller.

    The caller's speech interrupts the agent. The agent ends the call after its goodbye.
    """
    await _Conversation(session).run()


class _Conversation:
    def __init__(self, session: AgentSession) -> None:
        self._session = session
        self._turns = iter(_TURNS)
        self._plays_until = 0.0
        self._speaking: asyncio.Task[None] | None = None
        self._has_said_goodbye = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        detector = SpeechDetector()
        self._take_turn(_GREETING)
        try:
            async for audio in self._session.audio():
                if detector.push(audio) and loop.time() < self._plays_until:
                    await self._stop_speaking()
                    self._plays_until = loop.time()
                    await self._session.send_interrupt()
                if detector.has_finished(TURN_QUIET_MS):
                    self._take_turn(next(self._turns, _TURNS[-1]))
                elif loop.time() > self._plays_until + PATIENCE_S and detector.quiet_ms > 1000 * PATIENCE_S:
                    self._take_turn(_TURNS[-1][-1:])
        finally:
            await self._stop_speaking()

    def _take_turn(self, recordings: Sequence[str]) -> None:
        if self._has_said_goodbye or (self._speaking is not None and not self._speaking.done()):
            return
        self._speaking = asyncio.create_task(self._speak(recordings))

    async def _speak(self, recordings: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        for name in recordings:
            self._session.notify(name)
            burst_due = loop.time()
            for index, frame in enumerate(frames(speech(name))):
                if index and index % BURST_FRAMES == 0:
                    burst_due += BURST_EVERY_S
                    await asyncio.sleep(burst_due - loop.time())
                self._plays_until = max(self._plays_until, loop.time()) + len(frame) / SAMPLE_RATE_HZ
                await self._session.send_audio(frame)
        if recordings[-1] == "agent_goodbye":
            self._has_said_goodbye = True
            await self._session.send_call_ended()

    async def _stop_speaking(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.gather(self._speaking, return_exceptions=True)
            self._speaking = None


BEHAVIOURS: dict[str, Behaviour] = {
    "conversation": conversation,
    "echo": echo,
    "silent": silent,
    "numbered": numbered(),
}

# Bursts are faster than real time, so that an interrupt finds unplayed audio.
assert BURST_FRAMES * PTIME_MS > 1000 * BURST_EVERY_S
