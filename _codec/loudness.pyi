from typing import final

from _codec.call_audio import AudioTap

@final
class Loudness(AudioTap):
    @property
    def last_piece(self) -> int | None: ...
    def pieces(self, side: str, first: int, count: int) -> bytes: ...
