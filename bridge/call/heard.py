"""How much of an agent's turns the caller has heard, by the marks that Twilio echoes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from _codec import MARK_NAME
from bridge.agents.turns import HeardTurn

BYTES_PER_MS = 8
# How often a mark is sent: each is a message to Twilio and one back.
MARK_EVERY_BYTES = 200 * BYTES_PER_MS
# Turns that wait to be played; an agent is rarely more than two ahead. Beyond it the oldest are forgotten.
MOST_TURNS = 64


@dataclass(slots=True)
class _Turn:
    """
    A turn of the agent.

    Attributes:
        began: The position at which its audio begins.
        before_bytes: Its audio heard on former streams.
        is_cut: Whether a lost stream took a part of it with it, which nobody hears any more.
    """

    name: str
    began: int
    before_bytes: int = 0
    is_cut: bool = False


class Heard:
    """
    Counts one call's heard audio; *positions* count the bytes of agent audio that were sent, all turns together.

    Twilio echoes a mark once the audio before it has played, and echoes all pending marks on `clear`. Marks echoed by
    a clear carry an older generation and are ignored. Between two marks the audio plays on with the clock, so that
    the estimate is exact to a part of the interval.
    """

    def __init__(self, now: float) -> None:
        self._generation = 0
        self._played_bytes = 0
        self._played_at = now
        # The turns that have not played whole, the oldest first; each ends where the next one begins. The last one is
        # the present turn, played or not.
        self._turns: list[_Turn] = []

    def on_turn(self, name: str, position: int, now: float) -> None:
        """A new turn of the agent begins behind the audio that was sent or is held, which ends at ``position``."""
        heard_bytes = self._heard_bytes(position, now)
        if heard_bytes >= position:
            self._played_bytes = position
            self._played_at = now
        self._turns = [turn for turn, end in self._spans(position) if end > max(turn.began, heard_bytes)]
        self._turns.append(_Turn(name, position))
        del self._turns[:-MOST_TURNS]

    def on_next_agent(self) -> None:
        """Another agent follows: audio sent until its first turn is of none of its turns."""
        self._turns.clear()

    def on_mark(self, name: str, now: float) -> bool:
        """Count an echoed mark; returns whether it is one of the audio's marks."""
        found = MARK_NAME.fullmatch(name)
        if found is None:
            return False
        if int(found[1]) == self._generation:
            self._played_bytes = max(self._played_bytes, int(found[2]))
            self._played_at = now
        return True

    def on_clear(self, sent_bytes: int, held_bytes: int, now: float) -> list[HeardTurn]:
        """
        Twilio discards the unplayed audio, and the bridge what it held.

        Returns:
            The turns that the caller did not hear whole, and the present one; none of a turn without audio.
        """
        heard_bytes = self._heard_bytes(sent_bytes, now)
        heard = []
        for turn, end in self._spans(sent_bytes + held_bytes):
            played_bytes = max(0, min(heard_bytes, end) - turn.began)
            is_all = turn.began + played_bytes >= end and not turn.is_cut
            has_audio = end > turn.began or turn.before_bytes > 0 or turn.is_cut
            if has_audio and (not is_all or turn is self._turns[-1]):
                heard.append(HeardTurn(turn.name, (turn.before_bytes + played_bytes) // BYTES_PER_MS, is_all))
        self._turns.clear()
        self._generation += 1
        self._played_bytes = sent_bytes
        self._played_at = now
        return heard

    def on_lost(self, sent_bytes: int, now: float) -> int:
        """
        The stream is gone with its unplayed audio: from now on positions count the audio sent on the next one.

        Returns:
            The bytes sent since the last echoed mark, of which nobody can know whether they were heard.
        """
        unknown_bytes = sent_bytes - self._played_bytes
        heard_bytes = self._heard_bytes(sent_bytes, now)
        for turn, end in list(self._spans(sent_bytes)):
            turn.is_cut |= min(end, sent_bytes) > max(turn.began, heard_bytes)
            turn.before_bytes += max(0, min(heard_bytes, end) - turn.began)
            # Not below 0: what was sent of the turn is counted; else it begins in the audio held for the next stream.
            turn.began = max(0, turn.began - sent_bytes)
        self._played_bytes = 0
        return unknown_bytes

    def on_next_stream(self, now: float) -> None:
        """The next stream begins, whose marks begin with generation 0."""
        self._generation = 0
        self._played_at = now

    def position(self) -> tuple[int, float]:
        """What echoed marks move: the bytes that have played, and since when that is known."""
        return self._played_bytes, self._played_at

    def set_position(self, played_bytes: int, played_at: float) -> None:
        """Go on from a former `position`."""
        self._played_bytes, self._played_at = played_bytes, played_at

    def state(self) -> tuple[int, list[tuple[str, int, int, bool]]]:
        """All that this object knows but the `position`, for `restore`."""
        turns = [(turn.name, turn.began, turn.before_bytes, turn.is_cut) for turn in self._turns]
        return self._generation, turns

    def restore(self, generation: int, turns: Iterable[tuple[str, int, int, bool]]) -> None:
        """Go on from a former `state`."""
        self._generation = generation
        self._turns = [_Turn(*turn) for turn in turns]

    def _spans(self, end: int) -> Iterator[tuple[_Turn, int]]:
        """The turns, each with the position at which its audio ends; that of the present turn ends at ``end``."""
        ends = [*(turn.began for turn in self._turns[1:]), end]
        return zip(self._turns, ends, strict=False)

    def _heard_bytes(self, sent_bytes: int, now: float) -> int:
        elapsed_bytes = round((now - self._played_at) * 1000 * BYTES_PER_MS)
        return min(self._played_bytes + min(elapsed_bytes, MARK_EVERY_BYTES), sent_bytes)


def seconds(audio_bytes: int) -> float:
    """The length of audio of mu-law, 8 kHz."""
    return audio_bytes / 1000 / BYTES_PER_MS
