"""What is heard in one call: its audio becomes turns, waits and gaps, a few times a second."""

from __future__ import annotations

from collections.abc import Callable

from _codec import CallAudio
from bridge.call.record import Series
from bridge.call.turns import Side, Turns

# Speech is known this long after it has begun: three blocks of 10 ms above the noise, and a message.
ONSET_S = 0.05
# A caller whose audio is later than that has none for now.
MOST_LATE_S = 1.0
# Beyond it speech that has not ended is not waited for.
MOST_WAITED_S = 60.0
# More than speech needs to end, in bytes of mu-law.
SILENCE_BYTES = 4000


class Hearing:
    """
    Follows one call over all its media sockets and agents.

    Times are seconds of `time.monotonic`, by which the audio is measured.

    Attributes:
        audio: What passes the caller's wire.
        gaps: Stretches in which a side's audio is missing: of the agent's in mid-speech, of the caller's at any time.
        on_wait: Called with each of the caller's waits, in seconds, once the answer has been heard.
    """

    def __init__(self) -> None:
        self.audio = CallAudio()
        self.turns = Turns()
        self.gaps = {side: Series() for side in Side}
        self.on_wait: Callable[[float], None] = lambda wait_s: None
        self._meters = {Side.CALLER: self.audio.caller, Side.AGENT: self.audio.agent}
        self._waits_reported = 0

    def poll(self, now: float) -> None:
        """Take what is heard by now."""
        if self.audio.follow(now) or self.turns.is_pending:
            self._take(now)
            self._settle(self._known_until(now))

    def end(self, now: float) -> None:
        """The call is over: unplayed audio is not heard, and nothing follows."""
        self.audio.cut(now)
        self.audio.caller.skip(SILENCE_BYTES)
        self._take(now)
        self._settle(float("inf"))

    def _take(self, now: float) -> None:
        for kind, position, at, gap_s in self.audio.poll(now):
            if kind == "cut":
                self.turns.on_clear(at)
            elif kind == "agent":
                self.turns.on_agent_audio(position, at)
            else:
                self.turns.on_caller_audio(position, at)
            if gap_s > 0:
                self.gaps[Side(kind)].add(at - gap_s, gap_s)
        if (since := self.audio.caller_since) is not None:
            self.turns.on_caller_audio(*since)
        for side, meter in self._meters.items():
            for start, end in meter.take():
                self.turns.on_speech(side, start, end)
            self.turns.forget(side, meter.next_from_bytes)

    def _known_until(self, now: float) -> float:
        """Until when all speech of both sides is known."""
        known_until = [now - ONSET_S]
        spoken_until = self.audio.caller_until
        if spoken_until is not None and now - spoken_until < MOST_LATE_S:
            known_until.append(spoken_until - ONSET_S)
        for side, meter in self._meters.items():
            if (position := meter.open_since_bytes) is not None:
                known_until.append(self.turns.time_of(side, position))
        return max(min(known_until), now - MOST_WAITED_S)

    def _settle(self, until: float) -> None:
        self.turns.settle(until)
        new = self.turns.waits.count - self._waits_reported
        self._waits_reported += new
        for _, wait_s in self.turns.waits.last[-new:] if new else ():
            self.on_wait(wait_s)
