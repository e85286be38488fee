"""Who speaks when in a call, as the caller hears it: turns, waits and interrupts, made of segments of speech."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from bridge.call.heard import BYTES_PER_MS
from bridge.call.record import MOST_KEPT, Series

BYTES_PER_S = BYTES_PER_MS * 1000
# Stretches of one side's audio without a gap; speech before the oldest is placed as if it belonged to that one.
MOST_STRETCHES = 256
# A shorter gap in speech is a late message and no pause; the meter joins speech likewise.
PAUSE_S = 0.3


class Side(Enum):
    """Who speaks."""

    CALLER = "caller"
    AGENT = "agent"


@dataclass(slots=True)
class Turn:
    """
    What the caller says and the agent's answer; seconds of the call's clock.

    Attributes:
        caller_began, caller_ended: None if the agent speaks first.
        agent_began, agent_ended: None while the agent has not taken the turn.
        wait_s: From the end of the caller's speech to the agent's first sound after it; None if the agent
            does not answer, or speaks before the caller has finished.
        overlap_s: How long both speak.
        interrupts: How often each side begins while the other one speaks, and the other one gives way.
        vain_interrupts: Likewise, but the other one speaks on.
    """

    caller_began: float | None = None
    caller_ended: float | None = None
    agent_began: float | None = None
    agent_ended: float | None = None
    wait_s: float | None = None
    caller_talk_s: float = 0.0
    agent_talk_s: float = 0.0
    overlap_s: float = 0.0
    interrupts: Counter[Side] = field(default_factory=Counter)
    vain_interrupts: Counter[Side] = field(default_factory=Counter)

    def add_sums(self, other: Turn) -> None:
        """Add the lengths and the counts of another turn."""
        self.caller_talk_s += other.caller_talk_s
        self.agent_talk_s += other.agent_talk_s
        self.overlap_s += other.overlap_s
        self.interrupts.update(other.interrupts)
        self.vain_interrupts.update(other.vain_interrupts)


@dataclass(slots=True)
class _Segment:
    """Speech of one side; ``is_cut``: a clear has ended it."""

    side: Side
    began: float
    ended: float
    is_cut: bool = False


@dataclass(slots=True)
class _Stretch:
    """Audio of one side without a gap from ``began`` on; none of it is heard after ``cut_at``."""

    position: int
    began: float
    cut_at: float = float("inf")

    def time_of(self, position: int) -> float:
        return min(self.cut_at, self.began + (position - self.position) / BYTES_PER_S)


@dataclass(slots=True)
class _Track:
    """
    One side of a call.

    Attributes:
        stretches: Of its audio, the last `MOST_STRETCHES`.
        pending: Segments that are not settled yet, in the order of time.
        settled: The last settled segment.
    """

    stretches: list[_Stretch] = field(default_factory=list)
    pending: list[_Segment] = field(default_factory=list)
    settled: _Segment | None = None


class Turns:
    """
    Makes the turns of one call; all times are seconds of the call's clock.

    Positions count bytes of mu-law of one side since its first. The caller's have the time at which they were spoken.
    The agent's audio plays when it arrives, or behind the audio that is still queued at Twilio.

    Attributes:
        last: The last `MOST_KEPT` turns that are settled, the oldest first; the last one goes on.
        count: All turns that are settled.
        sums: The lengths and the counts of the turns that ``last`` no longer has.
        waits: The caller's waits, each at the agent's first sound.
    """

    def __init__(self) -> None:
        self.last: list[Turn] = []
        self.count = 0
        self.sums = Turn()
        self.waits = Series()
        self._tracks = {side: _Track() for side in Side}

    def wait_s(self, share: float) -> float | None:
        """The least wait that this share of the last `MOST_KEPT` waits does not exceed; None before the first."""
        waits = sorted(length_s for _, length_s in self.waits.last)
        return waits[math.ceil(share * len(waits)) - 1] if waits else None

    def total(self) -> Turn:
        """The lengths and the counts of all turns."""
        total = Turn()
        for turn in (self.sums, *self.last):
            total.add_sums(turn)
        return total

    @property
    def is_pending(self) -> bool:
        """Whether speech is known that `settle` has not made a turn of."""
        return any(track.pending for track in self._tracks.values())

    def time_of(self, side: Side, position: int) -> float:
        """When the audio at a position is spoken or heard; its stretch is known."""
        stretches = self._tracks[side].stretches
        found = [stretch for stretch in stretches if stretch.position <= position]
        return (found[-1] if found else stretches[0]).time_of(position)

    def on_caller_audio(self, position: int, began: float) -> None:
        """The caller's audio from ``position`` on has no gap and was spoken from ``began`` on, as is known by now."""
        self._add_stretch(Side.CALLER, position, began)

    def on_agent_audio(self, position: int, now: float) -> None:
        """The agent's audio from ``position`` on goes to Twilio; needed for the first audio after a gap or a clear."""
        stretches = self._tracks[Side.AGENT].stretches
        if not stretches or stretches[-1].time_of(position) < now:
            self._add_stretch(Side.AGENT, position, now)

    def _add_stretch(self, side: Side, position: int, began: float) -> None:
        stretches = self._tracks[side].stretches
        if stretches and stretches[-1].position == position:
            stretches.pop()
        stretches.append(_Stretch(position, began))
        del stretches[:-MOST_STRETCHES]

    def forget(self, side: Side, position: int) -> None:
        """Nothing before ``position`` is asked for any more."""
        stretches = self._tracks[side].stretches
        while len(stretches) > 1 and stretches[1].position <= position:
            del stretches[0]

    def on_speech(self, side: Side, start: int, end: int) -> None:
        """A segment of speech, by its positions; the audio is known, and that of the agent may be unplayed."""
        pending, stretches = self._tracks[side].pending, self._tracks[side].stretches
        ends = [*(stretch.position for stretch in stretches[1:]), end]
        for index, (stretch, stretch_end) in enumerate(zip(stretches, ends, strict=True)):
            first = start if index == 0 else max(start, stretch.position)
            began, ended = stretch.time_of(first), stretch.time_of(min(end, stretch_end))
            if ended <= began:
                continue
            if pending and not pending[-1].is_cut and began - pending[-1].ended < PAUSE_S:
                pending[-1].ended = ended
            else:
                pending.append(_Segment(side, began, ended))
            pending[-1].is_cut = ended == stretch.cut_at

    def on_clear(self, now: float) -> None:
        """Twilio discards the unplayed audio."""
        track = self._tracks[Side.AGENT]
        if stretches := track.stretches:
            stretches[-1].cut_at = min(stretches[-1].cut_at, now)
        track.pending = [each for each in track.pending if each.began < now]
        for segment in track.pending:
            segment.is_cut |= segment.ended > now
            segment.ended = min(segment.ended, now)

    def settle(self, until: float) -> None:
        """
        Make turns of the segments that ended by then.

        Args:
            until: All segments that begin before have been handed in, and no clear comes before. At the end of a
                call, after `on_clear`, infinity.
        """
        while heads := [track.pending[0] for track in self._tracks.values() if track.pending]:
            segment = min(heads, key=lambda each: each.began)
            if segment.ended > until:
                return
            track = self._tracks[segment.side]
            del track.pending[0]
            self._add(segment)
            track.settled = segment

    def _add(self, segment: _Segment) -> None:
        other = self._tracks[Side.AGENT if segment.side is Side.CALLER else Side.CALLER].settled
        is_over_other = other is not None and segment.began < other.ended
        # A cut comes of the interrupt, even where the one who interrupts says little.
        is_vain = is_over_other and other is not None and segment.ended < other.ended and not other.is_cut
        if not self.last or (
            segment.side is Side.CALLER and self.last[-1].agent_began is not None and not is_vain
        ):
            turn = self._next_turn()
        else:
            turn = self.last[-1]
        if is_over_other and other is not None:
            turn.overlap_s += min(segment.ended, other.ended) - segment.began
            (turn.vain_interrupts if is_vain else turn.interrupts)[segment.side] += 1
        if segment.side is Side.CALLER:
            self._add_caller(turn, segment, is_vain)
        else:
            self._add_agent(turn, segment, is_vain)

    def _next_turn(self) -> Turn:
        self.count += 1
        self.last.append(Turn())
        for turn in self.last[:-MOST_KEPT]:
            self.sums.add_sums(turn)
        del self.last[:-MOST_KEPT]
        return self.last[-1]

    def _add_caller(self, turn: Turn, segment: _Segment, is_vain: bool) -> None:
        turn.caller_talk_s += segment.ended - segment.began
        if is_vain:
            return
        if turn.caller_began is None:
            turn.caller_began = segment.began
        turn.caller_ended = segment.ended

    def _add_agent(self, turn: Turn, segment: _Segment, is_vain: bool) -> None:
        turn.agent_talk_s += segment.ended - segment.began
        if is_vain:
            return
        if turn.agent_began is None:
            turn.agent_began = segment.began
            if turn.caller_ended is not None and segment.began >= turn.caller_ended:
                turn.wait_s = segment.began - turn.caller_ended
                self.waits.add(segment.began, turn.wait_s)
        turn.agent_ended = segment.ended
