"""A caller's audio at an agent that gets silence in its gaps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise

from bridge.standins.agent.session import AgentSession
from bridge.standins.audio import SILENT_FRAME

# A longer time between two steps of a task that sleeps for 2 ms is a stall of the process.
STALL_S = 0.01


def words(session: AgentSession) -> bytes:
    """The caller's audio, without frames of silence."""
    return b"".join(item.audio for item in session.received if item.audio != SILENT_FRAME)


def silent_frames(session: AgentSession) -> int:
    return sum(item.audio == SILENT_FRAME for item in session.received)


@contextlib.asynccontextmanager
async def steps() -> AsyncIterator[list[float]]:
    """Times at which this process ran: where two lie apart, it stood still, and the bridge and the stand-ins in it."""
    times: list[float] = []

    async def note() -> None:
        while True:
            times.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.002)

    noting = asyncio.create_task(note())
    try:
        yield times
    finally:
        noting.cancel()


def own_gaps(session: AgentSession, times: Sequence[float]) -> Iterator[float]:
    """The gaps between the frames at the agent, without the time in which the process stood still."""
    stalls = [(a, b) for a, b in pairwise(times) if b - a > STALL_S]
    for before, after in pairwise(item.at for item in session.received):
        yield after - before - sum(max(0.0, min(after, b) - max(before, a)) for a, b in stalls)
