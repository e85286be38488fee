"""Deliberate faults in outgoing frames, to show that the checks detect every kind."""

from __future__ import annotations

from typing import NamedTuple

KINDS = ("drop", "dup", "swap", "corrupt", "late")


class Delivery(NamedTuple):
    """One frame to send, after a wait."""

    audio: bytes
    wait_s: float = 0.0


class Injector:
    """
    Applies a fault to every Nth outgoing frame.

    Args:
        kind: ``drop``, ``dup``, ``swap`` (with the next frame), ``corrupt`` (one bit) or ``late``.
        every: N, counted from 1.
        late_s: Seconds that a late frame is held; the frames behind it wait too, because a socket keeps its order.
    """

    def __init__(self, kind: str, *, every: int = 50, late_s: float = 1.0) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if every < 2:
            raise ValueError(f"every must be at least 2 frames, got {every}")
        self.kind = kind
        self._every = every
        self._late_s = late_s
        self._count = 0
        self._held: bytes | None = None

    def plan(self, audio: bytes) -> list[Delivery]:
        """Return the frames to send in place of this one, in order."""
        self._count += 1
        if self._held is not None:
            held, self._held = self._held, None
            return [Delivery(audio), Delivery(held)]
        if self._count % self._every or not audio:
            return [Delivery(audio)]
        if self.kind == "drop":
            return []
        if self.kind == "dup":
            return [Delivery(audio), Delivery(audio)]
        if self.kind == "swap":
            self._held = audio
            return []
        if self.kind == "late":
            return [Delivery(audio, self._late_s)]
        middle = len(audio) // 2
        return [Delivery(audio[:middle] + bytes([audio[middle] ^ 0x10]) + audio[middle + 1 :])]
