"""
One phone call as a state machine between its two sides, without I/O and without a clock.

Events come in from the caller's leg, from the agent's leg and from the clock, each with ``now`` in seconds of one
monotonic clock; commands go out to the two sides. `bridge.call.ends` has the table of ends.
"""

from __future__ import annotations

from collections.abc import Callable

from bridge.agents.succession import FailureKind, Memory
from bridge.call.conversation import Conversation
from bridge.call.ends import ENDS, Outcome, Why
from bridge.call.farewell import OVERTIME_S
from bridge.call.heard import Heard, seconds
from bridge.call.limits import CallLimits
from bridge.call.sides import AgentSide, CallerSide, CallObserver, Chain
from bridge.call.talk import NEXT_AGENT_MARK, State, Talk

__all__ = ["PLAYED_MARK", "Call", "State"]

PLAYED_MARK = "played-out"


class Call(Talk):
    """
    Joins the caller's side with the agent's and decides when and how both end.

    Args:
        limits: The deadlines.
        observer: Called when both sides are open, when an agent is replaced, when Twilio must end or transfer the
            call (answer with `on_twilio_answered`), and once when the call is over (answer with `close_caller`).
        now: The time of the media socket's upgrade.
    """

    def __init__(self, limits: CallLimits, observer: CallObserver, now: float) -> None:
        super().__init__(now)
        # Set by the first `end`, with its detail.
        self.why: Why | None = None
        self.detail = ""
        # Set by the verified `start`.
        self.call_sid = ""
        # Set by an agent's transfer.
        self.transfer_to = ""
        # The number that a transfer shows in place of the caller's own; set once the stream is verified.
        self.caller_id: str | None = None
        # Whether Twilio's REST API has been asked to end or transfer the call, which it is once.
        self.has_asked_twilio = False
        self.conversation = Conversation()
        self.opened_at = now
        self._limits = limits
        self._observer = observer
        # The agents that are left to try.
        self._chain: Chain | None = None
        self._agents_replaced = 0
        # When an agent opened for the first time.
        self._bridged_at: float | None = None
        # When the call lost its last open agent, or began.
        self._agentless_since = now
        # While the caller has no socket: when the agent is no longer kept, and how the socket was lost.
        self._grace_until: float | None = None
        self._lost_detail = ""
        # When the present state ends at the latest.
        self._deadline: float | None = now + limits.start_s
        self._frames_at_last_audio = 0
        self._last_audio_at = now

    # From the caller

    def on_start(self, chain: Chain, now: float) -> None:
        """The stream's parameters are verified: connect the first agent of the chain."""
        if self.state is not State.AWAITING_START:
            return
        self.started_at = self._agentless_since = now
        self._last_audio_at = now
        self._chain = chain
        self._enter(State.CONNECTING, now + self._limits.duration_s)
        first = chain.next_side()
        if first is None:
            self.end(Why.AGENT_LOST, now, "no agent of the chain has a socket")
        else:
            self._engage(first, now)

    def _engage(self, agent: AgentSide, now: float) -> None:
        self._agent = agent
        self._is_relayed = False
        if self._caller is not None:
            # Audio that comes before the agent is open waits in the ring of the agent's side.
            self._caller.relay_to(agent)
        if agent.tracks_heard and self._caller is not None and self._heard is None:
            self._heard = Heard(now)
            self._caller.mark_audio()
        if self._heard is not None:
            # Audio of a lost agent, which still plays, is not of this one's turns.
            self._heard.on_next_agent()
        agent.connect()

    def on_mark(self, name: str, now: float) -> None:
        """Twilio has played the audio before this mark, or a clear has discarded it."""
        if name == PLAYED_MARK:
            # The mark may come after its deadline, and Twilio is asked once.
            if self.state is State.PLAYING_OUT and not self.has_asked_twilio:
                self._on_played_out(now)
        elif name.startswith(self._agent_mark):
            if self._agent is not None and self.state in (State.CONNECTING, State.BRIDGED):
                self._agent.on_played(name.removeprefix(self._agent_mark))
        elif self._heard is not None:
            self._heard.on_mark(name, now)

    def on_stop(self, now: float) -> None:
        """The caller hung up, or Twilio stopped the stream."""
        self.end(Why.CALLER_STOPPED, now)

    def on_caller_lost(self, now: float, why: Why = Why.CALLER_LOST, detail: str = "") -> None:
        """
        The caller's socket is gone without a stop, or its peer broke the protocol.

        A caller who only lost the socket comes back: the agent is kept for a grace, which a second call of this
        starts anew.
        """
        if why is not Why.CALLER_LOST or not self.may_go_on:
            self.end(why, now, detail)
            return
        if self._grace_until is None:
            self._keep_agent(now, detail)
        self._grace_until = now + self._limits.grace_s

    @property
    def may_go_on(self) -> bool:
        """Whether a new stream of the caller can go on with this call's agent."""
        return self._agent is not None and self.state in (State.CONNECTING, State.BRIDGED)

    def _keep_agent(self, now: float, detail: str) -> None:
        assert self._caller is not None
        assert self._agent is not None
        self.count_relayed()
        self._advance_playout(now)
        lost = self._caller
        lost_s = max(0.0, self._playout.unplayed_s - seconds(lost.held_bytes))
        if self._heard is not None:
            lost_s = seconds(self._heard.on_lost(lost.sent_bytes, now))
        self._lost_detail = detail
        self._caller = lost.keep()
        if self._is_relayed:
            self._agent.relay_to(self._caller)
        self._playout.restart(self._caller.held_bytes)
        self._observer.on_caller_kept(self, self._caller, lost_s, detail)
        lost.close(ENDS[Why.CALLER_LOST].caller_code)

    def on_caller_back(self, caller: CallerSide, now: float) -> None:
        """
        A new stream of the caller, whose side is ``caller``, goes on with the agent; ask `may_go_on` first.

        A former socket that seems to be open is closed.
        """
        if self._grace_until is None:
            self._keep_agent(now, "replaced by a new stream")
        assert self._caller is not None
        assert self._agent is not None
        self.count_relayed()
        self._advance_playout(now)
        caller.take_over(self._caller)
        self._caller = caller
        self._grace_until = None
        if self._is_relayed:
            self._agent.relay_to(caller)
        caller.relay_to(self._agent)
        if self._heard is not None:
            self._heard.on_next_stream(now)
            caller.mark_audio()
        self._playout.restart(caller.held_bytes)
        self._last_audio_at = now

    # From the agent

    def on_agent_open(self, now: float) -> None:
        """The agent's side is open and takes audio."""
        if self.state is State.CONNECTING:
            self.stats.agent_connect_s = now - self._agentless_since
            self._bridged_at = now if self._bridged_at is None else self._bridged_at
            self._enter(State.BRIDGED, self._deadline)
            assert self._chain is not None
            self._chain.on_open()
            self._observer.on_call_bridged(self)

    def on_agent_hang_up(self, now: float) -> None:
        """The agent ends the phone call."""
        self.end(Why.AGENT_HUNG_UP, now)

    def on_agent_transfer(self, to_number: str, now: float) -> None:
        """The agent transfers the caller to another number after its last words."""
        if self.state is State.BRIDGED:
            self.transfer_to = to_number
            self.end(Why.AGENT_TRANSFERRED, now)

    def on_agent_ended(self, now: float) -> None:
        """The agent ended the conversation; its last words still play."""
        self.end(Why.AGENT_ENDED, now)

    def has(self, agent: object) -> bool:
        """Whether this is the present agent's side: what comes from a replaced one means nothing."""
        return self._agent is agent

    def on_agent_lost(
        self,
        now: float,
        why: Why = Why.AGENT_LOST,
        detail: str = "",
        kind: FailureKind = FailureKind.LOST,
    ) -> None:
        """
        The agent refused, timed out or vanished. After it has ended the call, this changes nothing.

        It is replaced as long as the chain has another side.
        """
        if self.state is State.PLAYING_OUT:
            return
        self.count_relayed()
        self._advance_playout(now)
        if self.is_mid_utterance():
            self.conversation.on_cut()
        new = self._next_side(kind, detail)
        if new is None:
            self.end(why, now, detail)
            return
        try:
            self._replace(new, detail, now)
        except Exception:
            # The new side may not be connecting, and then nobody would report its loss.
            self.end(Why.FAULT, now)
            raise

    def memory(self, now: float) -> Memory:
        """What a successor of the present agent learns."""
        return self.conversation.memory(now, self.is_mid_utterance())

    def _next_side(self, kind: FailureKind, detail: str) -> AgentSide | None:
        if self._chain is None or self._agent is None:
            return None
        self._chain.on_lost(kind, detail)
        if self.stats.agent_connect_s is None:
            return self._chain.next_side()
        return self._chain.successor(kind, self.state is State.BRIDGED)

    def _replace(self, new: AgentSide, detail: str, now: float) -> None:
        old = self._agent
        assert old is not None
        new.take_over(old)
        self._observer.on_agent_replaced(self, old, new, detail)
        self._agents_replaced += 1
        self._agent_mark = NEXT_AGENT_MARK.format(self._agents_replaced)
        if self.state is State.BRIDGED:
            self._agentless_since = now
            self._enter(State.CONNECTING, self._deadline)
        self._engage(new, now)

    # From the clock and the operator

    def on_tick(self, now: float) -> None:
        """Act on what is due; call it a few times a second."""
        if self.state is State.CLOSED:
            return
        self.count_relayed()
        self._advance_playout(now)
        if self._caller is not None:
            self._caller.set_unplayed(self._playout.unplayed_s)
        if self.stats.frames_from_caller != self._frames_at_last_audio:
            self._frames_at_last_audio = self.stats.frames_from_caller
            self._last_audio_at = now
        deadline, grace_until = self._deadline, self._grace_until
        if (
            now - self._last_audio_at >= self._limits.caller_silent_s
            or (deadline is not None and now >= deadline)
            or (grace_until is not None and now >= grace_until)
        ):
            self.on_due(now)

    def on_due(self, now: float) -> None:
        """Act on deadlines that are over; for `on_tick`, which has counted what there was until ``now``."""
        if self._grace_until is not None and now >= self._grace_until:
            self.end(Why.CALLER_LOST, now, self._lost_detail)
        elif self._deadline is not None and now >= self._deadline:
            if self.state is State.PLAYING_OUT:
                self._on_played_out(now)
            elif self._agent is None or not self._agent.is_speaking or now >= self._deadline + OVERTIME_S:
                self.end(Why.NO_START if self.state is State.AWAITING_START else Why.TIME_LIMIT, now)
        elif (
            self._agent is not None
            and self._grace_until is None
            and now - self._last_audio_at >= self._limits.caller_silent_s
        ):
            self.end(Why.SILENT_CALLER, now)

    def end(self, why: Why, now: float, detail: str = "") -> None:
        """
        End the call for the given reason, by its row of `ENDS`; a second end changes nothing.

        While last words play, a further reason cuts them short, and the first one stands. They do not play to a caller
        without a socket.
        """
        if self.state is State.CLOSED:
            return
        if self.state is State.PLAYING_OUT:
            if not ENDS[why].lets_audio_play:
                self._close(now)
            return
        self.why = why
        self.detail = detail
        self.run_each(self.count_relayed, lambda: self._advance_playout(now))
        # The estimate may be a little early: only an end that nobody waits for takes it for nothing.
        is_worth_it = self._playout.unplayed_s > 0 or ENDS[why].outcome is not Outcome.AGENT_LOST
        is_worth_it = is_worth_it and self._grace_until is None
        if ENDS[why].lets_audio_play and is_worth_it and self._caller is not None:
            due_s = min(self._playout.unplayed_s + self._limits.playout_margin_s, self._limits.playout_max_s)
            self._enter(State.PLAYING_OUT, now + due_s)
            self.run_each(self._send_played_mark, self._close_agent)
            return
        self._close(now)

    def was_bridged_s(self, now: float) -> float:
        """How long ago the call's first agent opened; 0 if none did."""
        return now - self._bridged_at if self._bridged_at is not None else 0.0

    def left_s(self, now: float) -> float:
        """How long the call may still go on; of a call that is bridged."""
        return self._deadline - now if self._deadline is not None else 0.0

    def on_twilio_answered(self, now: float) -> None:
        """Twilio has answered the request to end or transfer the call, or the request has failed."""
        if self.state is State.PLAYING_OUT:
            self._close(now)

    def _on_played_out(self, now: float) -> None:
        assert self.why is not None
        if ENDS[self.why].asks_twilio and not self.has_asked_twilio:
            self.has_asked_twilio = True
            self._deadline = now + self._limits.twilio_api_s
            self._observer.on_twilio_asked(self)
        else:
            self._close(now)

    def _enter(self, state: State, deadline: float | None) -> None:
        self._playout.unsettle()
        self.state = state
        self._deadline = deadline

    def _close(self, now: float) -> None:
        is_agent_closed = self.state is State.PLAYING_OUT
        self._enter(State.CLOSED, None)
        self.run_each(lambda: self.hearing.end(now))
        if not is_agent_closed:
            self.run_each(self._close_agent)
        if self._chain is not None:
            self.run_each(self._chain.on_over)
        # The sides refer to the call: this breaks the cycle, so that memory comes back without the collector.
        self._agent = self._chain = None
        if not self.run_each(lambda: self._observer.on_call_closed(self)):
            self.run_each(self.close_caller)

    def run_each(self, *steps: Callable[[], object]) -> bool:
        """
        Take the steps of an end in order; a fault in one is reported, and the others are taken all the same.

        Returns:
            Whether none of them had a fault.
        """
        is_sound = True
        for step in steps:
            try:
                step()
            except Exception as fault:
                is_sound = False
                self._observer.on_fault(self, fault)
        return is_sound

    def _send_played_mark(self) -> None:
        if self._caller is not None:
            self._caller.send_mark(PLAYED_MARK)

    def _close_agent(self) -> None:
        assert self.why is not None
        if self._agent is not None:
            self._agent.close(ENDS[self.why].agent_code)

    @property
    def is_over(self) -> bool:
        """Whether both sides have been closed."""
        return self.state is State.CLOSED and self._caller is None

    def close_caller(self) -> None:
        """
        Close the caller's side of a call that is over; a second time, this changes nothing.

        Twilio asks `/voice/resume` right after it, and by then every process must know how the call ended.
        """
        caller, self._caller = self._caller, None
        if caller is not None and self.why is not None:
            caller.close(ENDS[self.why].caller_code)
