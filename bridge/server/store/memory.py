"""A store in the memory of one process."""

from __future__ import annotations

import time
from collections import OrderedDict

from bridge.server.store.memory_queue import MemoryQueue
from bridge.server.store.memory_shelf import MemoryShelf
from bridge.server.store.store import Kept

MOST_KEYS = 100_000


class MemoryStore:
    """Keeps the newest `MOST_KEYS` texts until the process ends."""

    def __init__(self) -> None:
        # What is kept under each key, and the Unix time at which it ends; the last change is last.
        self._kept: OrderedDict[str, tuple[Kept, float]] = OrderedDict()
        # The text of each process, with the Unix time at which it ends.
        self._processes: dict[str, tuple[str, float]] = {}
        self.queue = MemoryQueue()
        self.shelf = MemoryShelf()

    async def read(self, key: str) -> Kept | None:
        kept, until = self._kept.get(key, (None, 0.0))
        return kept if until > time.time() else None

    async def write(self, key: str, text: str, ttl_s: float, after: int) -> bool:
        now = time.time()
        kept, until = self._kept.get(key, (None, 0.0))
        if after != (kept.version if kept is not None and until > now else 0):
            return False
        self._kept[key] = Kept(after + 1, text), now + ttl_s
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_KEYS:
            self._kept.popitem(last=False)
        return True

    async def beat(self, owner: str, text: str, ttl_s: float) -> dict[str, str]:
        now = time.time()
        self._processes[owner] = text, now + ttl_s
        self._processes = {name: kept for name, kept in self._processes.items() if kept[1] > now}
        return {name: text for name, (text, _) in self._processes.items()}

    async def close(self) -> None:
        self._kept.clear()
