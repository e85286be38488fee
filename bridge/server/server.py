"""
The server: puts the parts together, starts, reloads, drains and stops them.

One process, one event loop, one timer: on its ticks every call and leg acts on what is due, so that nothing on the
way of a frame reads a clock or owns a timer.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from _codec import HeldBudget
from bridge.agents.agent import Resources
from bridge.agents.health import AgentHealth
from bridge.agents.sessions import Sessions
from bridge.agents.slots import Slots
from bridge.call.leg import Process
from bridge.call.limits import Limits
from bridge.call.state import Call
from bridge.http.front import Front
from bridge.metrics import Metrics
from bridge.server.asking_twilio import ask_twilio
from bridge.server.assembly import assemble_paths, expect_ends, expose, open_flights, open_traces
from bridge.server.callers import Callers
from bridge.server.draining import Draining
from bridge.server.gather import Gather
from bridge.server.live import Live, Snapshot
from bridge.server.outgoing import client_tls, http_session, twilio_api
from bridge.server.paths import front_limits
from bridge.server.registry import Phase, Registry
from bridge.server.reloading import reload_directory, reload_numbers, reload_port_tls
from bridge.server.store.opening import open_agreement
from bridge.server.user_events import UserEvents
from bridge.server.workers.worker import Siblings
from bridge.settings import Settings


class Server:
    """
    One bridge process.

    Call `start`, and in the end `stop`; between them `drain` and `drained` let running calls end by themselves.
    """

    def __init__(self, settings: Settings, limits: Limits | None = None) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._limits = limits or Limits()
        # Set when other workers have taken this one's place.
        self.retired = asyncio.Event()
        self._clock = time.monotonic
        opened = open_agreement(settings, self.metrics, self._limits.token_s)
        self._agreement, self._tallies, self._parts = opened
        self._registry = Registry(settings.bridge_max_calls, self._limits.token_s, self._agreement.end)
        self._held = HeldBudget(settings.bridge_held_bytes)
        expose(self.metrics, settings, self._registry, self._held)
        self._gather = Gather(settings.bridge_gather_ms / 1000)
        shared = self._registry, self._agreement, self.metrics, self._held, self._gather
        self._live = Live(*shared, self._ask_twilio, self._clock)
        self._draining = Draining(
            settings, self._registry, self._live, self._agreement, self.metrics, self._clock
        )
        self._siblings: Siblings | None = None
        # What `start` has opened; `stop` closes the last one first.
        self._opened = AsyncExitStack()

    async def start(
        self, sockets: Sequence[socket.socket] = (), channel: socket.socket | None = None
    ) -> None:
        """
        Open the port, or accept on ``sockets`` that are bound; leave nothing open if that fails.

        Args:
            channel: To the parent of a worker.

        Raises:
            OSError: The address cannot be bound, or the certificate cannot be read.
            DirectoryError: A file of agents or routes has become bad since the settings were read.
            StoreTooNewError: A newer version of the bridge uses the store.
        """
        try:
            await self._start(sockets, channel)
        except BaseException:
            await self.stop()
            raise

    async def _start(self, sockets: Sequence[socket.socket], channel: socket.socket | None) -> None:
        settings, limits = self._settings, self._limits
        self._opened.push_async_callback(self._agreement.close)
        if channel is not None:
            owner = self._agreement.owner
            self._siblings = Siblings(channel, owner, self._registry, self.metrics, self.retired.set)
            self._opened.callback(self._siblings.stop)
        tls, session_s = client_tls(), settings.bridge_session_s
        http = await self._opened.enter_async_context(http_session(tls, session_s))
        resources = Resources(http, session_s, may_transfer=bool(settings.transfer_prefixes))
        slots, presence = Slots(self.metrics, self._clock, self._has_call), self._agreement.presence
        slots.renew, slots.renew_soon = presence.renew, presence.renew_soon
        directory = settings.read_directory()
        self._sessions = Sessions(directory, resources, AgentHealth(self.metrics, self._clock), slots)
        expect_ends(self.metrics, directory.names)
        mine = self._agreement.owner, self._registry, self._has_call, self.metrics, self._clock
        self._callers = Callers(settings, self._tallies, *mine)
        self._events = UserEvents(settings, self._parts, self.metrics, http, self._live)
        flights = open_flights(settings, self._parts.seal, self.metrics, self._opened)
        self._opened.push_async_callback(self._events.stop)
        open_traces(self._live, self._opened)
        self._opened.push_async_callback(self._callers.stop)
        self._opened.push_async_callback(self._live.stop)
        self._twilio = twilio_api(settings, http, limits.twilio_api_s)
        process = Process(
            clock=self._clock,
            metrics=self.metrics,
            tls=tls,
            held=self._held,
            sockets=self._gather.sockets,
            on_gone=self._live.on_leg_gone,
        )
        paths = assemble_paths(
            settings,
            limits,
            process,
            self._live,
            self._registry,
            self._agreement,
            self._parts,
            self._sessions,
            self._callers,
            self._siblings,
            flights,
            http,
            self._opened,
        )
        self._front = Front(paths, front_limits(settings), upgraded=lambda: self._live.upgraded)
        self._opened.push_async_callback(self._registry.close)
        self._opened.push_async_callback(self._front.close)
        self._front.set_accepting(self._siblings is None)
        await self._agreement.start()
        port_tls = settings.read_tls()
        await self._front.start(settings.host, settings.port, sockets=sockets, ssl_context=port_tls)
        self._live.start()
        self._callers.start()
        self._events.start()
        # Before the parent of a worker hears that it is ready, and lets others drain.
        await presence.start(self._registry, slots)
        if self._siblings is not None:
            self._siblings.start(self._front)
            self._registry.room_elsewhere = self._siblings.room_elsewhere

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._front.port

    def snapshot(self) -> Snapshot:
        """The calls, legs and counts of this moment."""
        return self._live.snapshot()

    def reload(self) -> None:
        """
        Read the certificate again, for new connections, and the files of agents, routes and numbers, for new calls.

        A bad certificate is refused, and bad files are refused whole: what is in use stays.
        """
        reload_port_tls(self._settings, self._front.set_tls)
        reload_directory(self._settings, self._sessions)
        reload_numbers(self._settings, self._callers)

    def drain(self) -> None:
        """Be no longer ready; `drained` ends the grace for new calls and waits for the running ones."""
        if self.retired.is_set():
            self._front.wind_down()
        self._draining.begin()

    async def drained(self, drain_s: float | None = None) -> None:
        """Wait until all calls are over, at most ``drain_s`` (BRIDGE_DRAIN_S), and the last resume is answered."""
        await self._draining.done(self._settings.bridge_drain_s if drain_s is None else drain_s)

    async def stop(self) -> None:
        """Close every call and socket, within the close deadline, then the port."""
        self._registry.stop_admitting()
        self._draining.leave_admitted()
        await self._live.close_legs(self._limits.close_s)
        # Calls are over once the store has their ends: what hears of them is still open.
        await self._agreement.settled()
        await self._opened.aclose()

    def _has_call(self, call_sid: str) -> bool:
        """Whether a call is being answered here, waits for its media socket, or is live."""
        entry = self._registry.find(call_sid)
        is_open = entry is not None and entry.phase is not Phase.OVER
        return is_open or self._registry.is_being_admitted(call_sid)

    async def _ask_twilio(self, call: Call) -> None:
        await ask_twilio(self._twilio, call)
