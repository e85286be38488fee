"""Recordings of speech as WAV files, and what is heard of them once they are Opus."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from recording import decoded

from bridge.server.records.wav import WavFile
from bridge.standins.audio import SPOKEN, speech

RATE_HZ = 8000


def write_speech(path: Path, *, is_old: bool = False, repeats: int = 1) -> np.ndarray:
    """
    Write a conversation, the caller left and the agent right; returns its samples.

    Args:
        is_old: It has not changed for half an hour.
    """
    parts = [(speech(name), name.startswith("caller")) for name in SPOKEN] * repeats
    audio = bytearray()
    for said, is_caller in parts:
        stereo = bytearray(b"\xff") * (2 * len(said))
        stereo[0 if is_caller else 1 :: 2] = said
        audio += stereo
    file = WavFile(path)
    file.write(bytes(audio))
    file.close()
    if is_old:
        at = time.time() - 1800
        os.utime(path, (at, at))
    return decoded(bytes(audio)).reshape(-1, 2)


class Heard(NamedTuple):
    """How a channel differs from the original: later by so much, louder by so much."""

    late_s: float
    louder_db: float


def heard(original: np.ndarray, path: Path) -> tuple[Heard, Heard]:
    """Compare both channels of an Opus file; it may be longer or shorter by 30 ms."""
    found, rate_hz = soundfile.read(path)
    assert rate_hz == RATE_HZ
    assert found.shape[1] == 2
    assert abs(len(found) - len(original)) <= 0.03 * RATE_HZ
    count = max(len(found), len(original))
    results = []
    for channel in (0, 1):
        was, is_now = original[:, channel], found[:, channel]
        spectrum = np.fft.rfft(was, 2 * count).conj() * np.fft.rfft(is_now, 2 * count)
        late = int(np.argmax(np.fft.irfft(spectrum)))
        late -= 2 * count * (late > count)
        louder_db = 10 * np.log10(np.square(is_now).sum() / np.square(was).sum())
        results.append(Heard(late / RATE_HZ, louder_db))
    return results[0], results[1]
