"""The caller's side of a call whose media socket is lost, until the next one."""

from __future__ import annotations

from _codec import HeldBudget, Wire
from bridge.call.sides import AgentSide, CallerSide, Relayed, SideCounts


class Kept:
    """
    Holds the agent's audio and marks in order; `CallerSide.take_over` moves them to the next media socket.

    Args:
        hold_ms: Audio held at most, as for a caller who does not read.
        budget: Counts the bytes held.
    """

    sent_bytes = 0
    takes_wire = True

    def __init__(self, hold_ms: int, budget: HeldBudget) -> None:
        # Never connected and never ready: it only holds.
        self.wire = Wire(
            None, is_client=False, max_message_bytes=1, budget=budget, messages_per_s=0, hold_ms=hold_ms
        )

    @property
    def held_bytes(self) -> int:
        return self.wire.held_bytes

    def mark_audio(self) -> None:
        """The next socket sets its own marks."""

    def keep(self) -> CallerSide:
        return self

    def take_over(self, other: CallerSide) -> None:
        """What is held here comes from the lost socket."""

    def send_audio(self, payload: bytes) -> None:
        self.wire.send_audio(payload)

    def relay_to(self, other: AgentSide | None) -> None:
        """There is no audio of the caller."""

    def relayed(self) -> Relayed:
        return Relayed(0, 0)

    def counts(self) -> SideCounts:
        wire = self.wire
        return SideCounts(0, wire.dropped_frames, wire.cleared_frames, wire.overflowed_frames)

    def set_unplayed(self, unplayed_s: float) -> None:
        """Nothing goes out, however little has played."""

    def send_clear(self) -> None:
        self.wire.clear_audio(None)

    def send_mark(self, name: str) -> None:
        # Beyond the bound of the ring it is lost, as at a socket.
        self.wire.send_in_order(name)

    def close(self, code: int) -> None:
        self.wire.lose_held()
