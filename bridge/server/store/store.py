"""What the processes of one bridge share: texts under keys, each changed only by who has seen its last change."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from bridge.server.store.queue import Queue
from bridge.server.store.shelf import Shelf


class StoreError(Exception):
    """The store did not answer as it should; the text says why, without secrets."""


class Kept(NamedTuple):
    """A text in the store; ``version`` counts its changes from 1 on."""

    version: int
    text: str


class Store(Protocol):
    """
    Keeps texts under keys.

    A method may take any time, and raises `StoreError` if the store cannot answer; `Breaker` bounds both. No
    connection is needed before the first question, and a lost one is opened again by a later question.
    """

    @property
    def queue(self) -> Queue:
        """What waits there for somebody else."""
        ...

    @property
    def shelf(self) -> Shelf:
        """What can be looked at later."""
        ...

    async def read(self, key: str) -> Kept | None:
        """The text under a key; None if there is none, or if its time is over."""
        ...

    async def write(self, key: str, text: str, ttl_s: float, after: int) -> bool:
        """
        Keep a text, if the one before it still has the version ``after``; 0 if there must be none.

        Returns:
            False if another process was faster: read again.
        """
        ...

    async def beat(self, owner: str, text: str, ttl_s: float) -> dict[str, str]:
        """
        Keep the text of a process in place of its former one; with a time of 0 the process is gone.

        Returns:
            The texts of all processes whose time is not over, by owner.
        """
        ...

    async def close(self) -> None:
        """Give everything back; the last call."""
        ...


async def remove(store: Store, key: str) -> bool:
    """
    Remove the text under a key; returns whether there was one.

    Raises:
        StoreError: The store does not answer.
    """
    while (kept := await store.read(key)) is not None:
        if await store.write(key, "", 0.0, kept.version):
            return True
    return False
