"""The agents in use, and a session with the first of a call's that can be had."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from bridge.agents.agent import Agent, CallInfo, Resources, SessionError
from bridge.agents.directory import Directory
from bridge.server.registry import Session

log = structlog.get_logger()


class Sessions:
    """
    Opens sessions.

    Args:
        tools: What agents are lent; ``session_s`` is also for all that are tried for a call together.
    """

    def __init__(self, directory: Directory, tools: Resources) -> None:
        self._tools = tools
        self.replace(directory)

    def replace(self, directory: Directory) -> None:
        """From now on calls go by another directory; those that are up keep what they have."""
        agents = directory.describe(self._tools)
        self._directory, self._agents = directory, agents

    def agent(self, name: str) -> Agent | None:
        """The agent of a name; None if there is no such one any more."""
        return self._agents.get(name)

    def chain(self, call: CallInfo) -> tuple[str, ...]:
        """Who is tried for a call, in order."""
        return self._directory.chain(call.call_sid, call.to_number, call.from_number)

    async def open(self, call: CallInfo, chain: Sequence[str]) -> Session:
        """
        Ask the agents of a chain in turn.

        Raises:
            SessionError: None of them gave a session.
        """
        reasons: list[str] = []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._tools.session_s
        for n, name in enumerate(chain):
            agent = self.agent(name)
            if agent is None:
                reasons.append(f"{name}: there is no such agent any more")
                continue
            left_s = deadline - loop.time()
            # One that hangs leaves time for those after it.
            share_s = left_s if n == len(chain) - 1 else left_s / 2
            try:
                async with asyncio.timeout(share_s):
                    return Session(tuple(chain[n:]), await agent.open_session(call))
            except TimeoutError:
                reason = f"no session within {share_s:.3g} s"
            except SessionError as error:
                reason = str(error)
            except Exception as error:
                # One agent that cannot be asked must not keep the others from it.
                log.exception("fault while an agent was asked", call_sid=call.call_sid, agent=name)
                reason = type(error).__name__
            reasons.append(f"{name}: {reason}")
            log.warning("agent gave no session", call_sid=call.call_sid, agent=name, reason=reason)
        raise SessionError("; ".join(reasons))

    def from_dialled(self, chain: Sequence[str]) -> tuple[str, ...]:
        """The rest of a chain from its first agent that has no media socket, which `/voice/resume` tries."""
        for n, name in enumerate(chain):
            agent = self.agent(name)
            if agent is not None and agent.dial is not None:
                return tuple(chain[n:])
        return ()

    def sip_uri(self, opened: Session) -> str | None:
        """Where a session is dialled; None if its audio goes through a media socket."""
        agent = self.agent(opened.agents[0])
        return agent.dial(opened.session) if agent is not None and agent.dial is not None else None
