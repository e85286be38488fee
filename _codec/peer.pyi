from typing import Any

from typing_extensions import disjoint_base

from _codec.owner import Owner
from _codec.socket_reader import SocketReader

@disjoint_base
class Peer(SocketReader):
    def __new__(cls, owner: Owner | None, *, is_client: bool, messages_per_s: int, **_: Any) -> Peer: ...
    @property
    def ws_frames_in(self) -> int: ...
    @property
    def messages_in(self) -> int: ...
    @property
    def messages_left(self) -> int: ...
    def renew(self, messages: int, most: int) -> None: ...
