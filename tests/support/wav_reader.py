"""Reads WAV files chunk by chunk, independently of what writes them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

MULAW = 7


class Stereo(NamedTuple):
    """The two channels of a mu-law file."""

    left: bytes
    right: bytes


def chunks(data: bytes) -> dict[str, bytes]:
    """The chunks of a RIFF file; its own length and theirs are checked."""
    kind, length, form = struct.unpack("<4sI4s", data[:12])
    assert (kind, form) == (b"RIFF", b"WAVE")
    assert length == len(data) - 8
    found, at = {}, 12
    while at < len(data):
        name, length = struct.unpack("<4sI", data[at : at + 8])
        found[name.decode()] = data[at + 8 : at + 8 + length]
        assert len(found[name.decode()]) == length
        at += 8 + length + length % 2
    return found


def read_stereo(path: Path, *, is_whole: bool = True) -> Stereo:
    """
    The audio of a stereo file of mu-law at 8 kHz.

    Args:
        is_whole: False for a file whose process was killed, which may have audio that its header does not count.
    """
    data = path.read_bytes()
    if not is_whole:
        data = data[: 8 + struct.unpack("<I", data[4:8])[0]]
    found = chunks(data)
    assert list(found) == ["fmt ", "fact", "data"]
    assert struct.unpack("<HHIIHHH", found["fmt "]) == (MULAW, 2, 8000, 16000, 2, 8, 0)
    audio = found["data"]
    assert struct.unpack("<I", found["fact"]) == (len(audio) // 2,)
    return Stereo(audio[::2], audio[1::2])
