from collections.abc import Mapping
from typing import Self, final

def is_base64(text: bytes) -> bool: ...

@final
class SpanFinder:
    def __new__(
        cls,
        payload: str,
        equal: Mapping[str, str | int],
        absent_or_equal: Mapping[str, str | int] | None = None,
    ) -> Self: ...
    def find(self, message: bytes) -> tuple[int, int] | None: ...

@final
class Envelope:
    def __new__(cls, prefix: bytes, suffix: bytes) -> Self: ...
    def wrap(self, message: bytes, start: int, end: int) -> bytes: ...
    def wrap_payload(self, payload: bytes) -> bytes: ...
