"""The two sides of a call on one time line: what the caller says, and what he hears."""

from __future__ import annotations

from typing import NamedTuple

# Of mu-law.
SILENCE = b"\xff"
# The caller's audio may lag so far behind its arrival before that counts as a gap: 40 ms.
MOST_LATE_BYTES = 320


class Batch(NamedTuple):
    """
    What came in a while; positions count bytes of mu-law of 8 kHz.

    Attributes:
        until: The moment at which it was taken: nothing that comes later plays before it.
        caller: The caller's audio.
        late_bytes: By how much all of that lags behind its arrival, were there no gap in it; None without audio.
        runs: Audio of the agent, and from where it plays in place of all that would play later.
    """

    until: int
    caller: bytes
    late_bytes: int | None
    runs: list[tuple[int, bytes]]


class Timeline:
    """Puts batches together, with silence where nothing is heard."""

    def __init__(self) -> None:
        # Both sides from here on are unwritten.
        self._position = 0
        self._caller = bytearray()
        self._agent = bytearray()
        # The gaps of the caller's audio so far.
        self._gaps_bytes = 0
        # His audio of the last batch, which is placed with the next one, and by how much it lags behind its arrival.
        self._last, self._last_late_bytes = b"", 0

    @property
    def waiting_bytes(self) -> int:
        """Audio that `take` leaves for later."""
        return len(self._caller) + len(self._agent) + len(self._last)

    def add(self, batch: Batch) -> None:
        """Place a batch behind the former ones."""
        if batch.late_bytes is not None:
            self._add_caller(min(self._last_late_bytes, batch.late_bytes))
            self._last, self._last_late_bytes = batch.caller, batch.late_bytes
        for position, audio in batch.runs:
            self._add_run(max(0, position - self._position), audio)

    def _add_caller(self, late_bytes: int) -> None:
        """Place the audio of the last batch, which is late by this much together with the next one."""
        # Media that is late comes in a burst, which catches up with its time; after a gap, all of it stays late.
        is_first = not self._gaps_bytes and not self._position and not self._caller
        late_bytes -= self._gaps_bytes
        if self._last and late_bytes > (0 if is_first else MOST_LATE_BYTES):
            self._caller += SILENCE * late_bytes
            self._gaps_bytes += late_bytes
        self._caller += self._last

    def _add_run(self, offset: int, audio: bytes) -> None:
        del self._agent[offset:]
        self._agent += SILENCE * (offset - len(self._agent))
        self._agent += audio

    def take(self, until: int) -> bytes:
        """Return all before this position that is settled, as stereo: no clear can change it any more."""
        # The caller's audio arrives late, and is placed later.
        return self._take(min(until - self._position, len(self._caller)))

    def take_rest(self, until: int) -> bytes:
        """Return what is left of a call that ends at this position, as stereo."""
        self._add_caller(self._last_late_bytes)
        self._last = b""
        return self._take(max(until - self._position, len(self._caller)))

    def _take(self, samples: int) -> bytes:
        stereo = bytearray(SILENCE) * (2 * max(0, samples))
        for side, audio in enumerate((self._caller, self._agent)):
            taken = audio[: max(0, samples)]
            stereo[side : 2 * len(taken) : 2] = taken
            del audio[: len(taken)]
        self._position += len(stereo) // 2
        return bytes(stereo)
