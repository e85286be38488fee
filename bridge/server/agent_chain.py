"""The sides of a call's agents, made in the order in which they are tried."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from bridge.agents.agent import Agent, CallInfo, StreamInfo
from bridge.agents.agent_breaker import Stage
from bridge.agents.failure_hints import hint_of
from bridge.agents.health import AgentHealth
from bridge.agents.max_calls import key_of_agent, key_of_route
from bridge.agents.sessions import Session
from bridge.agents.succession import FailureKind
from bridge.call.agent import AgentLeg
from bridge.call.echo import EchoSide
from bridge.call.sides import AgentSide
from bridge.call.state import Call
from bridge.server.telephone_calls import is_of_page

if TYPE_CHECKING:
    from bridge.server.media_socket import MediaSockets

log = structlog.get_logger()

# New sessions of the same agent in one call: a service that loses every session must not be asked for ever.
SESSIONS_AGAIN = 2


class AgentChain:
    """
    Makes the sides of a call's agents in the order in which they are tried: the call's `Chain`.

    Args:
        account_sid, stream_sid: Of the stream, for the agents.
        session: The session whose first agent gave the credentials.
        is_successor: Whether the call has talked with an agent at another media socket; then no session is open.
    """

    def __init__(
        self,
        sockets: MediaSockets,
        call: Call,
        info: CallInfo,
        account_sid: str,
        stream_sid: str,
        session: Session,
        *,
        is_successor: bool,
    ) -> None:
        self._sockets = sockets
        self._call = call
        self._info = info
        self._account_sid = account_sid
        self._stream_sid = stream_sid
        self._session = session
        self._is_successor = is_successor
        # The places in ``session.agents`` that are left to try, of the present agent, and of the one that another
        # session may help.
        self._left = iter(range(len(session.agents)))
        self._present = -1
        # Those among them that fail lately: the last resort.
        self._failing: list[int] = []
        # When the present agent opened; None before that.
        self._opened_at: float | None = None
        self._again: int | None = None
        self._again_left = SESSIONS_AGAIN
        self._limits = limits = sockets.agent_limits
        if len(session.agents) > 1:
            # Audio that waits for an agent may have to wait for the ones after it too.
            self._limits = replace(limits, hold_ms=limits.hold_ms * len(session.agents))
        sessions = sockets.sessions
        sessions.slots.hold(info.call_sid, key_of_route(session.route), is_checked=False)

    def on_open(self) -> None:
        self._opened_at = self._sockets.process.clock()
        self._health.on_open(self._name, self._info.call_sid)

    def on_lost(self, kind: FailureKind, detail: str) -> None:
        now = self._sockets.process.clock()
        talk_s = now - self._opened_at if self._opened_at is not None else 0.0
        self._health.on_failure(self._name, self._info.call_sid, detail, kind, talk_s)
        if kind.is_final:
            log.warning(
                "agent refuses the call",
                call_sid=self._info.call_sid,
                agent=self._name,
                reason=detail,
                hint=hint_of(kind),
            )

    def on_over(self) -> None:
        if self._present >= 0:
            self._health.on_left(self._name, self._info.call_sid)
        self._health.on_passed_over(self._session.agents[n] for n in self._failing)

    def next_side(self) -> AgentSide | None:
        """Make the side of the next agent with a socket and enter it; a dialled one waits for `/voice/resume`."""
        for n in self._left:
            agent = self._agent(n)
            if agent is None:
                continue
            if agent.hand_over is not None:
                self._left = iter(())
                return None
            if self._may_try(n):
                return self._side(n, agent)
        return self._last_resort()

    def successor(self, kind: FailureKind, was_open: bool) -> AgentSide | None:
        """Make the side that takes over in mid-call; a dialled agent is passed over, because the socket is there."""
        self._is_successor = True
        if was_open:
            self._again = self._present
        if kind.is_final and self._again == self._present:
            self._again = None
        for n in self._left:
            agent = self._agent(n)
            if agent is not None and agent.hand_over is None and self._may_try(n):
                return self._side(n, agent)
        if self._again is None or not self._again_left:
            return self._last_resort()
        self._again_left -= 1
        agent = self._agent(self._again)
        return self._side(self._again, agent) if agent is not None else None

    @property
    def _health(self) -> AgentHealth:
        return self._sockets.sessions.health

    @property
    def _name(self) -> str:
        """The present agent's."""
        return self._session.agents[self._present]

    def _may_try(self, n: int) -> bool:
        if not self._health.admits(self._session.agents[n], self._info.call_sid):
            self._failing.append(n)
            return False
        return self._has_slot(n)

    def _has_slot(self, n: int) -> bool:
        """Take a slot at an agent, if it has one; the first agent of a call has given it before the media socket."""
        name, call_sid = self._session.agents[n], self._info.call_sid
        is_first = n == 0 and self._present < 0
        if self._sockets.sessions.slots.hold(call_sid, key_of_agent(name), is_checked=not is_first):
            return True
        self._health.on_full(name, call_sid)
        return False

    def _last_resort(self) -> AgentSide | None:
        """Make the side of an agent that fails lately: nobody else is left, and the caller is on the line."""
        while self._failing:
            n = self._failing.pop(0)
            if (agent := self._agent(n)) is not None and self._has_slot(n):
                return self._side(n, agent)
        return None

    def _agent(self, n: int) -> Agent | None:
        """The agent at a place of the chain; None if a reload has removed it, or this call lacks a value for it."""
        agent = self._sockets.sessions.agent(self._session.agents[n])
        return agent if agent is not None and agent.required <= self._info.values.keys() else None

    def _side(self, n: int, agent: Agent) -> AgentSide:
        sockets = self._sockets
        deadlines, memory = sockets.agent_deadlines, None
        if self._is_successor:
            deadlines = replace(deadlines, connect_s=min(deadlines.connect_s, sockets.successor_s))
            memory = self._call.memory(sockets.process.clock())
        # The webhook of a new call opened one session, of the first agent.
        has_session = n == 0 and self._present < 0 and not self._is_successor
        self._present, self._opened_at = n, None
        self._health.begin(self._name, self._info.call_sid, Stage.SOCKET)
        side: AgentSide
        if agent.dialogue is None:
            side = EchoSide(self._call, sockets.process.clock)
        else:
            side = AgentLeg(
                agent,
                StreamInfo(
                    self._info,
                    self._account_sid,
                    self._stream_sid,
                    self._session.credentials if has_session else {},
                    has_session,
                    memory,
                ),
                self._call,
                self._limits,
                sockets.process,
                agent_limits=deadlines,
                transfer_prefixes=()
                if is_of_page(self._info.call_sid)
                else sockets.settings.transfer_prefixes,
                on_session=partial(sockets.registry.set_credentials, self._info.call_sid),
            )
        sockets.live.set_agent(self._call, side, self._session.agents[n])
        return side
