"""The sides of a call's agents, made in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bridge.agents.agent import CallInfo, StreamInfo
from bridge.agents.sessions import Session
from bridge.call.agent import AgentLeg
from bridge.call.echo import EchoSide
from bridge.call.sides import AgentSide
from bridge.call.state import Call
from bridge.twilio import media

if TYPE_CHECKING:
    from bridge.server.media_socket import MediaSockets


class AgentChain:
    """
    Makes the sides of a call's agents in the order in which they are tried: the call's `Chain`.

    Args:
        start: The stream; agents learn its SIDs.
        session: The session whose first agent gave the credentials.
        has_session: False if that one's session is still to be opened, as it is for the agents after it.
    """

    def __init__(
        self,
        sockets: MediaSockets,
        call: Call,
        info: CallInfo,
        start: media.Start,
        session: Session,
        *,
        has_session: bool,
    ) -> None:
        self._sockets = sockets
        self._call = call
        self._info = info
        self._start = start
        self._session = session
        self._has_session = has_session
        self._names: Iterator[tuple[int, str]] = iter(enumerate(session.agents))
        # Audio that waits for an agent may have to wait for the ones after it too.
        limits = sockets.agent_limits
        self._limits = replace(limits, hold_ms=limits.hold_ms * len(session.agents))

    def next_side(self) -> AgentSide | None:
        """Make the side of the next agent with a socket and enter it; a dialled one waits for `/voice/resume`."""
        sockets = self._sockets
        for n, name in self._names:
            agent = sockets.sessions.agent(name)
            if agent is None:
                continue
            if agent.dial is not None:
                self._names = iter(())
                break
            side: AgentSide
            if agent.dialogue is None:
                side = EchoSide(self._call, sockets.process.clock)
            else:
                has_session = n == 0 and self._has_session
                side = AgentLeg(
                    agent,
                    StreamInfo(
                        self._info,
                        self._start.account_sid,
                        self._start.stream_sid,
                        self._session.credentials if has_session else {},
                        has_session,
                    ),
                    self._call,
                    self._limits,
                    sockets.process,
                    connect_s=sockets.settings.bridge_agent_connect_s,
                    transfer_prefixes=sockets.settings.transfer_prefixes,
                    on_session=partial(sockets.registry.set_credentials, self._info.call_sid),
                )
            sockets.live.set_agent(self._call, side)
            return side
        return None
