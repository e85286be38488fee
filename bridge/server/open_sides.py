"""The two sides of an open call in the book, with the counts of those that were there before them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from bridge.call.agent import AgentLeg
from bridge.call.document import document, live_summary
from bridge.call.ends import ENDS, Outcome, Why
from bridge.call.leg import Leg
from bridge.call.record import AgentRecord, CallRecord
from bridge.call.sides import AgentSide, CallerSide, SideCounts
from bridge.call.state import Call
from bridge.metrics import Traffic
from bridge.server.records.recordings import Recording
from bridge.server.store.transcripts import REFRESH_S

log = structlog.get_logger()

# An agent that says nothing for this long is not one whose caller hangs up early.
MUTE_S = 5.0
# Of calls that are given up at once, as after a loss of the network.
UNCLAIMED_LINES = 5
# What the log says of the agent of a call without one.
NO_AGENT = {"name": "", "session_id": "", "closed": None}
# For how long looks take the place of a call's ticks. Twilio's bound on queued audio is minutes away, and a silent
# caller is given many seconds.
SETTLED_S = 2.0


@dataclass(slots=True)
class OpenSides:
    """The two sides of an open call; ``replaced`` and ``lost`` sum the counts of those before the present ones."""

    media_id: str
    caller: CallerSide
    agent: AgentSide | None = None
    replaced: SideCounts = field(default_factory=SideCounts)
    lost: SideCounts = field(default_factory=SideCounts)
    record: CallRecord = field(default_factory=CallRecord)
    # From the verified `start` on, if the call is recorded here.
    recording: Recording | None = None
    # The changes of the conversation that the store has, whether an utterance was under way, and when it got them.
    said_changes: int = 0
    said_mid_utterance: bool = False
    said_at: float = float("-inf")

    def to_agent(self) -> SideCounts:
        """The counts of all agents of the call together."""
        now = self.agent.counts() if self.agent is not None else SideCounts()
        return _sum(self.replaced, now)

    def to_caller(self) -> SideCounts:
        """The counts of all media sockets of the call together."""
        return _sum(self.lost, self.caller.counts())

    def set_agent(self, side: AgentSide, name: str) -> None:
        """Enter the side of the agent that is tried now."""
        self.replaced = self.to_agent()
        self._note_agent()
        self.agent = side
        self.record.agents.append(AgentRecord(name))

    def document(self, call: Call, call_sid: str, now: float) -> dict[str, Any]:
        """All that is known of the call."""
        self._note_caller()
        self._note_agent()
        if self.recording is not None:
            self.record.recording = self.recording.name
            self.record.recording_ended = self.recording.why_early
        return document(call, call_sid, self.record, self.traffic(call), now, time.time())

    def on_tick(self, call: Call, now: float) -> None:
        """Let the recording and the call go on; without ticks for a while, if neither they nor the store need any."""
        if self.recording is not None:
            self.recording.on_tick()
        call.on_tick(now)
        if (
            self.recording is None
            and not call.conversation.changes
            and isinstance(self.caller, Leg)
            and isinstance(self.agent, Leg)
        ):
            call.settle(now + min(SETTLED_S, call.left_s(now)), self.caller.wire, self.agent.wire)

    def on_closed(self) -> None:
        """The call is over."""
        if self.recording is not None:
            self.recording.finish()

    def _note_caller(self) -> None:
        if isinstance(self.caller, Leg):
            self.record.caller_closed = self.caller.how_closed

    def _note_agent(self) -> None:
        if isinstance(self.agent, AgentLeg):
            self.record.agent.session_id = self.agent.session_id
            self.record.agent.how_closed = self.agent.how_closed
            self.record.agent.billed_s = self.agent.used_s

    def set_caller(self, caller: CallerSide) -> None:
        """Enter the caller's present side."""
        self.lost = self.to_caller()
        self._note_caller()
        self.caller = caller

    def must_keep_said(self, call: Call, now: float, every_s: float) -> bool:
        """Whether the store needs what was said: it is new for ``every_s`` seconds, or soon forgotten there."""
        changes = call.conversation.changes
        if not changes:
            return False
        has_ended = self.said_mid_utterance and not call.is_mid_utterance()
        is_new = changes != self.said_changes or has_ended
        if now - self.said_at < (every_s if is_new else REFRESH_S):
            return False
        self.said_changes, self.said_mid_utterance, self.said_at = changes, call.is_mid_utterance(), now
        return True

    def summary(self, call: Call, now: float) -> dict[str, Any]:
        """What a list of live calls shows of the call."""
        call.count_relayed()
        return live_summary(call, call.call_sid, self.record, self.traffic(call), now, time.time())

    def traffic(self, call: Call) -> Traffic:
        """The counts of the call, all its sockets and agents together."""
        to_agent, to_caller = self.to_agent(), self.to_caller()
        return Traffic(
            from_caller=call.stats.frames_from_caller,
            to_agent=to_agent.sent_frames,
            from_agent=call.stats.frames_from_agent,
            to_caller=to_caller.sent_frames,
            dropped_to_agent=to_agent.dropped_frames,
            dropped_to_caller=to_caller.dropped_frames,
            overflowed_to_agent=to_agent.overflowed_frames,
            overflowed_to_caller=to_caller.overflowed_frames,
            cleared_to_caller=to_caller.cleared_frames,
            interrupts=call.stats.interrupts,
            dtmf=call.stats.dtmf,
        )


def log_unclaimed(call_sids: Sequence[str]) -> None:
    """Log the calls whose media socket never came, with what may be the reason; many in one tick have one line."""
    for call_sid in call_sids[:UNCLAIMED_LINES]:
        log.warning(
            "media socket never came",
            call_sid=call_sid,
            others=max(0, len(call_sids) - UNCLAIMED_LINES),
            hint="unless the caller hung up at once, wss to PUBLIC_URL does not get here: look for a proxy without "
            "WebSockets, a wrong certificate or a firewall. bridge check tries it; Twilio's debugger has 31901 to "
            "31904, 31910 or 31920",
        )


def is_mute(call: Call, now: float) -> bool:
    """Whether no agent of a call that is over has sent audio, although one was open for a while."""
    return call.stats.first_agent_audio_s is None and call.was_bridged_s(now) >= MUTE_S


def log_end(call: Call, ended: Mapping[str, Any]) -> None:
    """Log that a call is over, with all facts of its document that help to find a fault, and no texts."""
    assert call.why is not None
    *former, agent = ended["agents"] or [NO_AGENT]
    end, drops = ended["end"], ended["drops"]
    is_trouble = call.why is Why.REFUSED or ENDS[call.why].outcome is Outcome.AGENT_LOST
    (log.warning if is_trouble else log.info)(
        "call ended",
        call_sid=ended["call_sid"],
        route=ended["route"],
        agent=agent["name"],
        fallen_back_from=[f"{one['name']}: {one['why_lost']}" for one in former],
        session=agent["session_id"],
        from_number=ended["from"],
        to_number=ended["to"],
        why=end["why"],
        detail=end["detail"],
        duration_s=ended["duration_s"],
        agent_connect_s=ended["agent_connect_s"],
        first_agent_audio_s=ended["first_agent_audio_s"],
        turns=ended["turns"]["count"],
        wait_p50_ms=ended["turns"]["waits"]["p50_ms"],
        wait_p95_ms=ended["turns"]["waits"]["p95_ms"],
        **ended["frames"],
        dropped_to_agent=drops["to_agent"],
        dropped_to_caller=drops["to_caller"],
        dropped_full=drops["full"],
        cleared=drops["cleared"],
        interrupts=ended["interrupts"]["count"],
        keys=ended["keys"],
        caller_closed=_words_of(end["caller_closed"]),
        agent_closed=_words_of(agent["closed"]),
    )


def _words_of(closed: Mapping[str, Any] | None) -> str:
    """How a socket closed, in words; empty if that is not known."""
    return " ".join(str(part) for part in closed.values() if part) if closed is not None else ""


def _sum(one: SideCounts, other: SideCounts) -> SideCounts:
    return SideCounts(*(before + after for before, after in zip(one, other, strict=True)))
