from typing import Any

from typing_extensions import disjoint_base

from _codec.owner import Owner
from _codec.socket_reader import SocketReader
from _codec.socket_set import SocketSet

@disjoint_base
class Peer(SocketReader):
    def __new__(
        cls, owner: Owner | None, *, is_client: bool, messages_per_s: int, now: float = 0, **_: Any
    ) -> Peer: ...
    @property
    def ws_frames_in(self) -> int: ...
    @property
    def messages_in(self) -> int: ...
    @property
    def messages_left(self) -> int: ...
    @property
    def stood_still_s(self) -> float: ...
    heard_at: float
    settled_until: float
    def look(self, now: float, socket_set: SocketSet) -> bool: ...
