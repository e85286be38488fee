"""A queue in the memory of one process."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from bridge.server.store.queue import KNOWN_S, Length, Queued


@dataclass(slots=True)
class _Text:
    id: str
    text: str
    pushed_at: float
    until: float
    tries: int = 0


@dataclass(slots=True)
class _Lane:
    texts: deque[_Text] = field(default_factory=deque)
    due: float = 0.0
    lease: str = ""


class MemoryQueue:
    """Keeps texts until the process ends."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        # When each lane is due. Of several entries of a lane, the one with its present time counts.
        self._due: list[tuple[float, str]] = []
        # The texts in all lanes, with the time at which each came; the oldest is first.
        self._waiting: OrderedDict[str, float] = OrderedDict()
        # Those that left, with the time until which each is known; the oldest is first.
        self._known: OrderedDict[str, float] = OrderedDict()

    async def push(self, lane: str, id: str, text: str, now: float, until: float, most: int) -> bool:
        while self._known and next(iter(self._known.values())) <= now:
            self._known.popitem(last=False)
        if id in self._waiting or id in self._known:
            return True
        if len(self._waiting) >= most:
            return False
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = _Lane()
            self._set_due(lane, found, now)
        found.texts.append(_Text(id, text, now, until))
        self._waiting[id] = now
        return True

    async def take(self, now: float, until: float, lease: str, most: int) -> list[Queued]:
        taken: list[Queued] = []
        while self._due and self._due[0][0] <= now and len(taken) < most:
            due, name = heapq.heappop(self._due)
            lane = self._lanes.get(name)
            if lane is None or lane.due != due:
                continue
            lane.lease = lease
            self._set_due(name, lane, until)
            first = lane.texts[0]
            first.tries += 1
            taken.append(Queued(name, first.id, first.text if first.until > now else "", first.tries))
        return taken

    async def finish(self, lane: str, id: str, lease: str, now: float) -> bool:
        found = self._leased(lane, id, lease)
        if found is None:
            return False
        found.texts.popleft()
        del self._waiting[id]
        self._known[id] = now + KNOWN_S
        if found.texts:
            found.lease = ""
            self._set_due(lane, found, now)
        else:
            del self._lanes[lane]
        return True

    async def postpone(self, lane: str, id: str, lease: str, due: float) -> bool:
        found = self._leased(lane, id, lease)
        if found is None:
            return False
        found.lease = ""
        self._set_due(lane, found, due)
        return True

    async def blank(self, lane: str) -> bool:
        found = self._lanes.get(lane)
        kept = [text for text in found.texts if text.text] if found is not None else []
        for text in kept:
            text.text = ""
        return bool(kept)

    async def length(self) -> Length:
        return Length(len(self._waiting), next(iter(self._waiting.values()), 0.0))

    def _leased(self, lane: str, id: str, lease: str) -> _Lane | None:
        found = self._lanes.get(lane)
        is_good = found is not None and found.lease == lease and found.texts[0].id == id
        return found if is_good else None

    def _set_due(self, name: str, lane: _Lane, due: float) -> None:
        lane.due = due
        heapq.heappush(self._due, (due, name))
