"""The caller's audio in larger frames, for agents that want those."""

from __future__ import annotations

from base64 import b64decode, b64encode

BYTES_PER_MS = 8


class Chunks:
    """
    Joins frames of mu-law until there is a whole one of the wanted length.

    Args:
        frame_ms: The length.
    """

    def __init__(self, frame_ms: int) -> None:
        self._frame_bytes = frame_ms * BYTES_PER_MS
        # Less than one frame.
        self._audio = bytearray()
        # Whether audio has come since `is_idle` was asked.
        self._has_grown = False

    def add(self, payload: bytes) -> list[bytes]:
        """
        Add one frame; returns the whole ones, as base64 text.

        Args:
            payload: Base64 text of any length; `_codec.is_base64` must hold.
        """
        self._has_grown = True
        self._audio += b64decode(payload)
        whole = []
        while len(self._audio) >= self._frame_bytes:
            whole.append(b64encode(self._audio[: self._frame_bytes]))
            del self._audio[: self._frame_bytes]
        return whole

    def is_idle(self) -> bool:
        """Whether no audio has come since the last question."""
        is_idle, self._has_grown = not self._has_grown, False
        return is_idle

    def rest(self) -> bytes:
        """Take what is left, as base64 text: the caller's audio has paused, or something else comes next."""
        rest = b64encode(self._audio)
        self._audio.clear()
        return rest
