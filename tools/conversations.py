"""
Writes the labelled conversations of ``tests/data/conversations``: needs espeak-ng, and numpy of the tests' extra.

Each side is a file of raw mu-law, 8 kHz. An utterance begins and ends where its samples first and last exceed 2 % of
its peak (34 dB down), so that the labels do not depend on what the bridge measures.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np

from _codec.g711 import pcm16_to_mulaw

RATE_HZ = 8000
PEAK = 12000
EDGE = 0.02
TAIL_MS = 500
VOICES = ("en-gb", "en-us", "en-gb+f2", "en-us+f3", "en-gb+m3", "en-us+m7")
# What the caller and the agent say in turn.
TEXTS = (
    ("I want to book a table for two", "On which day", "Tomorrow at seven", "It is booked"),
    ("Where is my order", "What is its number", "Four one nine", "It arrives today"),
    ("Can you hear me", "Yes I can", "My line is bad", "I hear you well"),
    ("Please cancel my visit", "May I ask why", "I am away", "It is cancelled"),
)
# The agent's wait after the caller, the caller's after the agent, the agent's again.
WAITS_MS = ((700, 400, 950), (450, 600, 1300), (1200, 350, 800))


def spoken(text: str, voice: str) -> np.ndarray:
    """One utterance at 8 kHz, without the silence around it."""
    wav = subprocess.run(  # noqa: S603
        ["espeak-ng", "-v", voice, "-s", "190", "--stdout", text],  # noqa: S607
        capture_output=True,
        check=True,
    ).stdout
    with wave.open(io.BytesIO(wav)) as file:
        rate_hz = file.getframerate()
        # The header of a stream has no length.
        samples = np.frombuffer(file.readframes(1 << 24), "<i2").astype(float)
    count = round(len(samples) * RATE_HZ / rate_hz)
    spectrum = np.fft.rfft(samples)[: count // 2 + 1]
    samples = np.fft.irfft(spectrum, count)
    samples *= PEAK / np.abs(samples).max()
    loud = np.flatnonzero(np.abs(samples) > EDGE * PEAK)
    return samples[loud[0] : loud[-1] + 1]


def conversation(
    texts: tuple[str, ...], waits_ms: tuple[int, ...], voices: tuple[str, str]
) -> tuple[list, list]:
    """The samples of the caller and of the agent, and each utterance's start and end in samples."""
    at = RATE_HZ // 2
    laid = []
    for index, text in enumerate(texts):
        if index > 0:
            at += waits_ms[index - 1] * RATE_HZ // 1000
        samples = spoken(text, voices[index % 2])
        laid.append((index % 2, at, samples))
        at += len(samples)
    sides = np.zeros((2, at + TAIL_MS * RATE_HZ // 1000))
    labels: list[list[tuple[int, int]]] = [[], []]
    for side, start, samples in laid:
        sides[side, start : start + len(samples)] = samples
        labels[side].append((start, start + len(samples)))
    return list(sides), labels


def main(folder: Path) -> None:
    """Write all conversations and their labels."""
    table = {}
    for index in range(len(TEXTS) * len(WAITS_MS)):
        texts, waits_ms = TEXTS[index % len(TEXTS)], WAITS_MS[index // len(TEXTS)]
        voices = VOICES[index % len(VOICES)], VOICES[(index + 1 + index // 4) % len(VOICES)]
        sides, labels = conversation(texts, waits_ms, voices)
        for name, samples in zip(("caller", "agent"), sides, strict=True):
            (folder / f"{index:02}-{name}.ulaw").write_bytes(
                pcm16_to_mulaw(np.round(samples).astype("<i2").tobytes())
            )
        table[f"{index:02}"] = {"caller": labels[0], "agent": labels[1], "voices": voices}
    (folder / "labels.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
