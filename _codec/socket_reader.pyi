from typing import Any

from typing_extensions import disjoint_base

from _codec.frame_writer import FrameWriter
from _codec.owner import Owner

@disjoint_base
class SocketReader(FrameWriter):
    def __new__(cls, owner: Owner | None, *, is_client: bool, **_: Any) -> SocketReader: ...
    @property
    def is_paused(self) -> bool: ...
    def is_wanted(self) -> bool: ...
