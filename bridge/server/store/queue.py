"""What waits in the store for somebody else: texts in lanes, each lane in order and leased to one process at a time."""

from __future__ import annotations

from typing import NamedTuple, Protocol

# A text that left the queue is known by its ID for this long: a push that comes again, because its answer was lost,
# changes nothing.
KNOWN_S = 600.0


class Queued(NamedTuple):
    """
    The first text of a lane.

    Attributes:
        text: Empty if its time is over.
        tries: How often it was taken, this time included.
    """

    lane: str
    id: str
    text: str
    tries: int


class Length(NamedTuple):
    """The number of texts in all lanes, and the Unix time at which the oldest came; 0 without any."""

    texts: int
    oldest_at: float


class Queue(Protocol):
    """
    Keeps texts in lanes. Times are Unix times, by the clock of the process that asks.

    A method may take any time, and raises `StoreError` if the store cannot answer; `Breaker` bounds both.
    """

    async def push(self, lane: str, id: str, text: str, now: float, until: float, most: int) -> bool:
        """
        Put a text behind the others of its lane; one whose ID is known changes nothing.

        Args:
            until: When the text itself is forgotten; its place stays until it is taken.
            most: How many texts all lanes together may have.

        Returns:
            False if there are as many.
        """
        ...

    async def take(self, now: float, until: float, lease: str, most: int) -> list[Queued]:
        """
        Lease the first text of each lane that is due, the longest due first.

        Args:
            until: When the lane is due again for all processes, unless `finish` or `postpone` comes before.
            lease: A new name, by which they know that the lease is still good.
            most: How many lanes.
        """
        ...

    async def finish(self, lane: str, id: str, lease: str, now: float) -> bool:
        """Remove a leased text; the next one of its lane is due. False if the lease is not good any more."""
        ...

    async def postpone(self, lane: str, id: str, lease: str, due: float) -> bool:
        """Give a lease back: the lane is due then. False if the lease is not good any more."""
        ...

    async def blank(self, lane: str) -> bool:
        """Forget the texts of a lane; each keeps its place until it is taken. False if there was no text."""
        ...

    async def length(self) -> Length:
        """How many texts wait, and since when."""
        ...
