"""The open calls of the process: their book, their ticks, their counts, and what follows from their events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from _codec import HeldBudget
from bridge.call.caller import CallerLeg
from bridge.call.ends import ENDS, Outcome, Why
from bridge.call.leg import Leg
from bridge.call.record import CallRecord
from bridge.call.sides import AgentSide, CallerSide
from bridge.call.state import Call, State
from bridge.metrics import Metrics, Traffic
from bridge.server.gather import Gather
from bridge.server.open_sides import OpenSides, is_mute, log_end, log_unclaimed
from bridge.server.reconciling import Reconciler
from bridge.server.registry import Registry
from bridge.server.store.agreement import Agreement
from bridge.server.store.transcripts import WRITE_EVERY_S

log = structlog.get_logger()

# After these ends Twilio asks nothing.
CALLER_GONE = frozenset({Why.CALLER_STOPPED, Why.CALL_COMPLETED})
# Each call and leg acts on what is due once in this time.
ROUND_S = 0.5
# A round is taken in slices: all of 500 calls at once would hold up every frame for 10 ms.
SLICES = 25


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The calls, legs and counts of a process at one moment; ``rounds`` counts its rounds of ticks so far."""

    open_calls: tuple[Call, ...]
    caller_legs: tuple[CallerLeg, ...]
    agent_legs: tuple[Leg, ...]
    live: int
    admitted: int
    rounds: int
    held_bytes: int
    traffic: Traffic


class Live:
    """
    The open calls of one process, from the upgrade of the media socket to the end of the last socket.

    It is the `CallObserver` of each of them.

    Args:
        held: What the legs of the process hold.
        gather: Learns how many calls are open.
        ask_twilio: Ends or transfers a call by Twilio's REST API; does not raise.
        clock: Seconds, monotonic.

    Attributes:
        last_close_at: When the last call ended that Twilio may ask about.
        on_started: Each gets what is known of each call that starts, and must not wait.
        on_ended: Each gets the document of each call that is over, and must not wait.
    """

    def __init__(
        self,
        registry: Registry,
        agreement: Agreement,
        metrics: Metrics,
        held: HeldBudget,
        gather: Gather,
        ask_twilio: Callable[[Call], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._agreement = agreement
        self._metrics = metrics
        self._held = held
        self._gather = gather
        self._ask_twilio = ask_twilio
        self._clock = clock
        # Entered by `open`, left by `on_call_closed`.
        self._calls: dict[Call, OpenSides] = {}
        # Entered with their call's sides, left by `on_leg_gone`, which may come after the call's end.
        self._legs: set[Leg] = set()
        # How many of them are callers'; asked at every accept.
        self._caller_legs = 0
        # The counts of calls that are over.
        self._past = Traffic()
        # Requests to Twilio and questions to the store that are under way.
        self._tasks: set[asyncio.Task[None]] = set()
        self._reconciler = Reconciler(registry, agreement, clock())
        # Its present run.
        self._reconciling: asyncio.Task[None] | None = None
        self.last_close_at = float("-inf")
        self.on_started: list[Callable[[dict[str, Any]], None]] = []
        self.on_ended: list[Callable[[dict[str, Any]], None]] = []
        # Set by each tick and each end of a call, cleared by `changed`.
        self._changed = asyncio.Event()
        self._no_legs = asyncio.Event()
        self._ticking: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        # What is left of the present round, and how much of it a tick takes.
        self._round: list[Call | Leg] = []
        self._slice_size = 0
        self._rounds = 0
        metrics.watch_traffic(self.traffic)

    # The book

    @property
    def book(self) -> Mapping[Call, OpenSides]:
        """The open calls, each with its sides."""
        return self._calls

    def open(self, call: Call, media_id: str, caller: CallerLeg) -> None:
        """Enter a call whose media socket is being upgraded."""
        self._calls[call] = OpenSides(media_id, caller)
        self._legs.add(caller)
        self._caller_legs += 1

    def identify(self, call: Call, record: CallRecord) -> None:
        """Enter what the verified ``start`` says of a call, before its first agent."""
        self._calls[call].record = record

    def set_agent(self, call: Call, side: AgentSide, name: str) -> None:
        """Enter the side of the agent of this name, which is tried now."""
        self._calls[call].set_agent(side, name)
        if isinstance(side, Leg):
            self._legs.add(side)

    def move(self, leg: CallerLeg, kept: Call, stream_sid: str, attempt: int) -> None:
        """Enter a new media socket with the call that it goes on with; the call of its upgrade never was one."""
        sides = self._calls[kept]
        sides.media_id = self._calls.pop(leg.call).media_id
        sides.set_caller(leg)
        sides.record.stream_sid, sides.record.attempt = stream_sid, attempt
        self._metrics.callers_back.inc()

    def on_leg_gone(self, leg: Leg) -> None:
        """Forget a leg whose socket is closed for good."""
        if leg in self._legs:
            self._legs.remove(leg)
            self._caller_legs -= isinstance(leg, CallerLeg)
        if not self._legs:
            self._no_legs.set()

    @property
    def is_open(self) -> bool:
        """Whether any call has a media socket, or an agent that is kept for the next one."""
        return bool(self._calls)

    @property
    def upgraded(self) -> int:
        """Media sockets that the HTTP front does not count any more."""
        return self._caller_legs

    def snapshot(self) -> Snapshot:
        """The calls, legs and counts of this moment."""
        return Snapshot(
            open_calls=tuple(self._calls),
            caller_legs=tuple(leg for leg in self._legs if isinstance(leg, CallerLeg)),
            agent_legs=tuple(leg for leg in self._legs if not isinstance(leg, CallerLeg)),
            live=self._registry.live,
            admitted=self._registry.admitted,
            rounds=self._rounds,
            held_bytes=self._held.used_bytes,
            traffic=self.traffic(),
        )

    # Life

    def start(self) -> None:
        """Start ticking."""
        self._tick_due = self._clock()
        self._on_tick()

    async def changed(self) -> None:
        """Wait for the next tick, or the next end of a call."""
        self._changed.clear()
        await self._changed.wait()

    def end_all(self) -> None:
        """End all calls for a drain."""
        now = self._clock()
        for call in tuple(self._calls):
            call.end(Why.DRAINED, now)
        if self._registry.give_up_admitted(Outcome.HANDED_OVER, now):
            self.last_close_at = now

    async def close_legs(self, close_s: float) -> None:
        """End all calls, wait for their sockets at most ``close_s`` and a round, then abort them."""
        self.end_all()
        if self._legs:
            self._no_legs.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(close_s + 2 * ROUND_S):
                    await self._no_legs.wait()
        for leg in tuple(self._legs):
            leg.abort()

    async def stop(self) -> None:
        """Stop ticking and cancel the requests to Twilio and the questions to the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._ticking is not None:
            self._ticking.cancel()
        self._gather.set_calls(0)

    # The events of a call

    def on_call_bridged(self, call: Call) -> None:
        """Both sides are open."""
        assert call.stats.agent_connect_s is not None
        record = self._calls[call].record
        self._metrics.agent_connect_s.labels(record.agent.name).observe(call.stats.agent_connect_s)
        log.info(
            "call bridged",
            call_sid=call.call_sid,
            route=record.route,
            agent=record.agent.name,
            agent_connect_s=round(call.stats.agent_connect_s, 4),
        )

    def on_agent_replaced(self, call: Call, old: AgentSide, new: AgentSide, detail: str) -> None:
        """The next agent is tried in place of an unavailable one; `set_agent` has entered it."""
        # The failed agent's service has no say about this call any more.
        self._registry.set_credentials(call.call_sid, {})
        record = self._calls[call].record
        lost = record.agents[-2]
        lost.why_lost = detail
        self._metrics.agents_replaced.labels(lost.name).inc()
        log.warning(
            "agent unavailable, trying next",
            call_sid=call.call_sid,
            agent=lost.name,
            next=record.agent.name,
            detail=detail,
        )

    def on_caller_kept(self, call: Call, kept: CallerSide, lost_s: float, detail: str) -> None:
        """The caller's socket is lost, and the agent waits for the next one."""
        self._calls[call].set_caller(kept)
        self._metrics.callers_kept.inc()
        self._metrics.lost_audio_s.inc(lost_s)
        self._calls[call].record.lost_audio_s += lost_s
        log.info(
            "caller's socket lost, agent kept", call_sid=call.call_sid, lost_s=round(lost_s, 3), detail=detail
        )

    def on_twilio_asked(self, call: Call) -> None:
        """The agent wants the phone call ended or transferred."""
        self._start(self._ask(call), "ask Twilio")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("fault in a task", task=task.get_name(), exc_info=fault)

    async def _ask(self, call: Call) -> None:
        try:
            await self._ask_twilio(call)
        finally:
            call.on_twilio_answered(self._clock())

    def on_call_closed(self, call: Call) -> None:
        """The call is over: its caller's socket closes once all processes can know how it ended."""
        # Another process may go on with it at once.
        call.run_each(partial(self._keep_said, call, self._clock(), every_s=0.0))
        if not call.run_each(partial(self._finish, call)):
            self._after_end(call, is_kept=False)

    def on_fault(self, call: Call, fault: Exception) -> None:
        """A step of the call's end has failed."""
        log.error("fault while a call ended", call_sid=call.call_sid, exc_info=fault)

    def _finish(self, call: Call) -> None:
        assert call.why is not None
        outcome = ENDS[call.why].outcome
        # A socket that ends before a verified `start` leaves the call admitted: another one may come.
        if call.call_sid and outcome is not None:
            self._registry.finish(call.call_sid, outcome, self._clock(), call.transfer_to)
        self._agreement.after_end(call.call_sid, partial(self._after_end, call))

    def _after_end(self, call: Call, is_kept: bool) -> None:
        if not call.run_each(partial(self._hang_up_or_close, call, is_kept)):
            self._close(call)

    def _hang_up_or_close(self, call: Call, is_kept: bool) -> None:
        assert call.why is not None
        is_last = ENDS[call.why].outcome is Outcome.ENDED and call.why not in CALLER_GONE
        if is_last and not is_kept and call.call_sid and not call.has_asked_twilio:
            # No other process would know that the call has ended: Twilio must not ask one.
            self._start(self._hang_up(call), "hang up")
        else:
            self._close(call)

    async def _hang_up(self, call: Call) -> None:
        try:
            await self._ask_twilio(call)
        finally:
            self._close(call)

    def _close(self, call: Call) -> None:
        """Close the caller's socket and take the call out of the book; a second time, this changes nothing."""
        sides = self._calls.pop(call, None)
        if sides is not None:
            give_back, count = partial(self._registry.give_back, call), partial(self._count, call, sides)
            call.run_each(call.close_caller, sides.on_closed, give_back, count, self._changed.set)

    def _count(self, call: Call, sides: OpenSides) -> None:
        """Count and log a call that is over, and hand its document on."""
        assert call.why is not None
        now, agent = self._clock(), sides.record.agent.name
        self._past.add(sides.traffic(call))
        if call.call_sid:
            self.last_close_at = now
            self._metrics.calls_ended.labels(call.why.value, agent).inc()
        if call.stats.first_agent_audio_s is not None:
            self._metrics.first_agent_audio_s.labels(agent).observe(call.stats.first_agent_audio_s)
        elif is_mute(call, now):
            self._metrics.calls_without_agent_audio.labels(agent).inc()
            log.warning("agent sent no audio in the whole call", call_sid=call.call_sid)
        call_sid = call.call_sid or self._registry.admitted_at(sides.media_id) or ""
        ended = sides.document(call, call_sid, now)
        log_end(call, ended)
        if call.call_sid:
            call.run_each(*(partial(take, ended) for take in self.on_ended))

    # The clock

    def _on_tick(self) -> None:
        now = self._clock()
        self._metrics.loop_lag_s.observe(max(0.0, now - self._tick_due))
        # Armed first: after a fault below, the other deadlines of the process stay.
        # Without a call, a round in one tick: an idle process sleeps.
        slices = SLICES if self._calls or self._legs else 1
        self._tick_due = max(self._tick_due + ROUND_S / slices, now)
        self._ticking = asyncio.get_running_loop().call_later(self._tick_due - now, self._on_tick)
        self._gather.set_calls(len(self._calls))
        if not self._round:
            self._rounds += 1
            if self._reconciler.is_due(now) and (self._reconciling is None or self._reconciling.done()):
                self._reconciling = self._start(self._reconciler.run(now), "reconcile with the store")
            self._round = [*self._calls, *self._legs]
            self._slice_size = -(-len(self._round) // SLICES)
        for _ in range(min(self._slice_size, len(self._round))):
            self._tick(self._round.pop(), now)
        if unclaimed := self._registry.on_tick(now):
            self._metrics.calls_refused.labels("not_claimed").inc(len(unclaimed))
            log_unclaimed(unclaimed)
        self._changed.set()

    def _tick(self, due: Call | Leg, now: float) -> None:
        if isinstance(due, Leg):
            if due.call.state is State.CLOSED and due.call not in self._calls:
                # Unless it closes already, a fault has left it open.
                due.guard(due.close, 1011)
            due.on_tick(now)
        elif due.is_over:
            # A fault has kept it in the book, or it has left since the round began.
            self._close(due)
        elif not due.is_settled(now) and (sides := self._calls.get(due)) is not None:
            try:
                sides.on_tick(due, now)
                self._keep_said(due, now)
            except Exception:
                log.exception("fault on a tick", call_sid=due.call_sid)
                due.end(Why.FAULT, now)

    def _keep_said(self, call: Call, now: float, every_s: float = WRITE_EVERY_S) -> None:
        """Give the store what was said, if that is new or soon forgotten there."""
        sides = self._calls.get(call)
        if sides is not None and call.call_sid and sides.must_keep_said(call, now, every_s):
            self._agreement.transcripts.keep(call.call_sid, call.memory(now))

    # Counts

    def traffic(self) -> Traffic:
        """The counts of all calls since the start."""
        total = Traffic()
        total.add(self._past)
        for call, sides in self._calls.items():
            call.count_relayed()
            total.add(sides.traffic(call))
        return total
