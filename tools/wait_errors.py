"""
Prints how far the measured waits of the labelled conversations are from the true ones: ``python -m tools.wait_errors``.

Needs numpy, of the tests' extra. The noise is white, so far below the power of the speech itself.
"""

from __future__ import annotations

import base64
import json
import math
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from _codec.g711 import mulaw_to_pcm16, pcm16_to_mulaw
from _codec.speech_meter import SpeechMeter

CONVERSATIONS = Path(__file__).parents[1] / "tests" / "data" / "conversations"
FRAME_BYTES = 160
BYTES_PER_MS = 8
NOISE_DB = (30, 20, 10)
# Noise that nothing in the meter was chosen on.
SEEDS = range(101, 109)


def main() -> None:
    """Print the errors of each level of noise, and of all together."""
    errors = errors_ms()
    rows = {"clean" if noise_db is None else f"{noise_db} dB": row for noise_db, row in errors.items()}
    rows["all"] = [error for row in errors.values() for error in row]
    for name, row in rows.items():
        median, most = judged(row)
        sys.stdout.write(f"{name:>6}: {len(row):4} waits, median {median:5.1f} ms, 95 % {most:5.1f} ms\n")


def errors_ms() -> dict[int | None, list[float]]:
    """The errors of all waits by the level of noise; None: without any, as often as the others."""
    errors: dict[int | None, list[float]] = {None: len(SEEDS) * wait_errors_ms(None, SEEDS[0])}
    for noise_db in NOISE_DB:
        errors[noise_db] = [error for seed in SEEDS for error in wait_errors_ms(noise_db, seed)]
    return errors


def judged(errors: Iterable[float]) -> tuple[float, float]:
    """The median and the 95 % quantile of the errors' sizes."""
    sizes = sorted(map(abs, errors))
    return statistics.median(sizes), sizes[int(0.95 * len(sizes))]


def wait_errors_ms(noise_db: int | None, seed: int) -> list[float]:
    """The error of each wait of the set; a wait that the segments do not show counts as endless."""
    rng = np.random.default_rng(seed)
    errors = []
    for name, labels in json.loads((CONVERSATIONS / "labels.json").read_text()).items():
        caller, agent = (
            segments_of(noisy((CONVERSATIONS / f"{name}-{side}.ulaw").read_bytes(), noise_db, rng))
            for side in ("caller", "agent")
        )
        for (_, said), (answered, _) in zip(labels["caller"], labels["agent"], strict=True):
            starts = [start for start, _ in agent if start > said]
            ends = [end for _, end in caller if not starts or end < starts[0]]
            if starts and ends:
                errors.append(((starts[0] - ends[-1]) - (answered - said)) / BYTES_PER_MS)
            else:
                errors.append(math.inf)
    return errors


def segments_of(mulaw: bytes) -> list[tuple[int, int]]:
    """The segments of speech that the meter finds."""
    meter = SpeechMeter()
    for start in range(0, len(mulaw), FRAME_BYTES):
        meter.add(base64.b64encode(mulaw[start : start + FRAME_BYTES]))
    meter.skip(2400)
    return meter.take()


def noisy(mulaw: bytes, noise_db: int | None, rng: np.random.Generator) -> bytes:
    """Add noise this far below the power of the speech, its silence left out."""
    if noise_db is None:
        return mulaw
    samples = np.frombuffer(mulaw_to_pcm16(mulaw), "<i2").astype(float)
    power = np.mean(samples[samples != 0] ** 2)
    samples += rng.normal(0, np.sqrt(power / 10 ** (noise_db / 10)), len(samples))
    return pcm16_to_mulaw(np.round(samples).clip(-32768, 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
