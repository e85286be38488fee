"""A shelf in the memory of one process."""

from __future__ import annotations

from collections import OrderedDict


class MemoryShelf:
    """Keeps texts until the process ends."""

    def __init__(self) -> None:
        # The texts of each name by part, and until when they are there; the last name is last.
        self._names: OrderedDict[str, tuple[dict[int, str], float]] = OrderedDict()

    async def put(self, name: str, part: int, text: str, now: float, until: float, most: int) -> None:
        self._names[name] = {**self._parts(name, now), part: text}, until
        self._names.move_to_end(name)
        while len(self._names) > most or next(iter(self._names.values()))[1] <= now:
            self._names.popitem(last=False)

    async def find(self, name: str, now: float) -> list[str]:
        return [text for _, text in sorted(self._parts(name, now).items())]

    async def newest(self, now: float, most: int, skip: int = 0) -> list[str]:
        found: list[str] = []
        for name in reversed(self._names):
            found += [text for _, text in sorted(self._parts(name, now).items(), reverse=True)]
            if len(found) >= skip + most:
                break
        return found[skip : skip + most]

    async def remove(self, name: str) -> bool:
        return self._names.pop(name, None) is not None

    def _parts(self, name: str, now: float) -> dict[int, str]:
        parts, until = self._names.get(name, ({}, 0.0))
        return parts if until > now else {}
