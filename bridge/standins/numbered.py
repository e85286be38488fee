"""Frames that carry their own number, so that a receiver detects loss, duplicates, swaps and changes."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from random import Random

MIN_BYTES = 12
# Stream id, number, checksum over both and the filling.
_HEAD = struct.Struct(">III")
_STEP = 251


@cache
def _filling(seed: int) -> bytes:
    return Random(seed).randbytes(2048)


def _checksum(seed: int, n: int, rest: bytes) -> int:
    return zlib.crc32(rest, zlib.crc32(struct.pack(">II", seed, n)))


def make_numbered(n: int, size: int = 160, seed: int = 1) -> bytes:
    """
    Return frame ``n`` of the stream ``seed``.

    Args:
        n: Counts from 0.
        size: Bytes of the frame, at least 12.
        seed: Identifies the stream, 32 bits, so that crossed calls are detected.
    """
    if size < MIN_BYTES:
        raise ValueError(f"size must be at least {MIN_BYTES} bytes, got {size}")
    source = _filling(seed)
    start = n * _STEP % len(source)
    rest = (source[start:] + source * (size // len(source) + 1))[: size - MIN_BYTES]
    return _HEAD.pack(seed, n, _checksum(seed, n, rest)) + rest
