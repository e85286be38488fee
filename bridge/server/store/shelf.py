"""What the store keeps to be looked at later: texts under names, of which the last ones can be listed."""

from __future__ import annotations

from typing import Protocol


class Shelf(Protocol):
    """
    Keeps the texts of a bounded number of names. Times are Unix times, by the clock of the process that asks.

    A method may take any time, and raises `StoreError` if the store cannot answer; `Breaker` bounds both.
    """

    async def put(self, name: str, part: int, text: str, now: float, until: float, most: int) -> None:
        """
        Keep a text, in place of the one of this name and part; its name is the last one now.

        Args:
            until: When the texts of the name are forgotten.
            most: How many names there may be; the first ones leave.
        """
        ...

    async def find(self, name: str, now: float) -> list[str]:
        """The texts of a name, by part."""
        ...

    async def newest(self, now: float, most: int, skip: int = 0) -> list[str]:
        """
        At most so many texts, those of the last name first, each name's by part from the last one.

        Args:
            skip: How many of them to leave out at the beginning.
        """
        ...

    async def remove(self, name: str) -> bool:
        """Forget a name; False if there is none."""
        ...
