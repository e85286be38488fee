"""Base of the calls that consist of utterances of the agent."""

from __future__ import annotations

import asyncio
from typing import Any

from bridge.standins.agent.session import AgentSession


class TurnSession(AgentSession):
    """
    A call in utterances. Audio begins one, a pause ends it.

    Attributes:
        turn_pause_s: Length of the pause, in seconds.
        transcript: What the utterances that begin from now on say.
    """

    def __init__(self, call_id: str, request: Any) -> None:
        super().__init__(call_id, request)
        self.turn_pause_s = 0.4
        self.transcript = ""
        self._speaking = asyncio.Event()
        self._last_audio_at = 0.0

    async def begin_turn(self) -> None:
        """Begin an utterance; the current one ends."""
        await self.end_turn()
        self._last_audio_at = self._now()
        self._speaking.set()
        await self._write_turn()

    async def end_turn(self, *, is_cut: bool = False) -> None:
        """End the current utterance, if there is one; ``is_cut``: an interrupt ends it."""
        if self._speaking.is_set():
            self._speaking.clear()
            await self._write_turn_end(is_cut)

    async def _write_turn(self) -> None:
        """Send the messages before the audio of an utterance."""

    async def _write_turn_end(self, is_cut: bool) -> None:
        """Send the messages after the audio of an utterance."""

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        if not self._speaking.is_set():
            await self.begin_turn()
        self._last_audio_at = self._now()
        await self._write_audio_of_turn(wire, fields)

    async def _write_audio_of_turn(self, wire: bytes, fields: dict[str, Any]) -> None:
        raise NotImplementedError

    async def _beside(self) -> None:
        while True:
            await self._speaking.wait()
            wait_s = self._last_audio_at + self.turn_pause_s - self._now()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            else:
                await self.end_turn()
