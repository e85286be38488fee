from re import Pattern
from typing import Any

from typing_extensions import disjoint_base

from _codec.held_budget import HeldBudget
from _codec.owner import Owner
from _codec.websocket import WebSocket

MARK_NAME: Pattern[str]

@disjoint_base
class AudioWriter(WebSocket):
    def __new__(
        cls,
        owner: Owner | None,
        *,
        is_client: bool,
        max_message_bytes: int,
        budget: HeldBudget,
        messages_per_s: int,
        now: float = 0,
        **_: Any,
    ) -> AudioWriter: ...
    @property
    def audio_out_frames(self) -> int: ...
    @property
    def audio_out_bytes(self) -> int: ...
    def set_marks(self, prefix: bytes, suffix: bytes, every_bytes: int) -> None: ...
    def next_number(self) -> int: ...
