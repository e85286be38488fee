from collections.abc import Mapping
from typing import Self, final

@final
class SpanFinder:
    def __new__(
        cls,
        payload: str,
        equal: Mapping[str, str | int],
        absent_or_equal: Mapping[str, str | int] | None = None,
    ) -> Self: ...
    def with_value(self, path: str, value: str | int) -> SpanFinder: ...
    def find(self, message: bytes) -> tuple[int, int] | None: ...

@final
class Envelope:
    def __new__(cls, prefix: bytes, suffix: bytes) -> Self: ...
    def wrap_payload(self, payload: bytes) -> bytes: ...
