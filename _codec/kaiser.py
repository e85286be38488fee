"""Designs the low-pass filters of the resamplers, for the compiled codec and for its twin in Python."""

import math
import struct
from functools import cache

BASE_HZ = 8000
FACTORS = {16000: 2, 24000: 3, 48000: 6}

# Half the filter's length in samples at 8 kHz. It gives a delay of 2 ms, a transition band from 3.4 to 4.6 kHz and a
# stop-band attenuation of at least 70 dB for every factor.
HALF_LENGTH = 16
TAPS_PER_PHASE = 2 * HALF_LENGTH
PASS_HZ = 3400
STOP_HZ = 4600


def ratio(from_hz: int, to_hz: int) -> tuple[int, bool]:
    """
    Return the factor between two rates, and whether the rate goes up.

    Raises:
        ValueError: If the pair is not 8000 with one of FACTORS.
    """
    if from_hz == BASE_HZ and to_hz in FACTORS:
        return FACTORS[to_hz], True
    if to_hz == BASE_HZ and from_hz in FACTORS:
        return FACTORS[from_hz], False
    rates = ", ".join(map(str, FACTORS))
    raise ValueError(
        f"rates must be 8000 and one of {rates} Hz, in either direction, got {from_hz} to {to_hz}"
    )


def bessel_i0(x: float) -> float:
    """Return the modified Bessel function of order zero, summed until a term no longer changes the sum."""
    total = term = 1.0
    k = 0
    while term > total * 1e-17:
        k += 1
        term *= (x / (2 * k)) ** 2
        total += term
    return total


def single(value: float) -> float:
    """Round to single precision, in which the resamplers compute."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


@cache
def phases(factor: int, up: bool) -> tuple[tuple[float, ...], ...]:
    """
    Return the taps of a linear-phase low-pass filter, split into ``factor`` phases.

    Tap ``q`` of phase ``p`` is ``h[q * factor + p]`` of a filter that runs at the higher rate. Its pass-band gain is
    1 on the way down and ``factor`` on the way up, which compensates for the zeros inserted between samples.

    The cut-off of exactly 4 kHz makes every ``factor``-th tap zero except the centre, so phase 0 is a pure delay: on
    the way up, samples that both rates share pass unchanged. All taps are rounded to single precision.

    Source: J. F. Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", 1974:
    beta = 0.1102 (A - 8.7) and length - 1 = (A - 8) / (2.285 * transition in radians).
    """
    centre = HALF_LENGTH * factor
    transition = 2 * math.pi * (STOP_HZ - PASS_HZ) / (BASE_HZ * factor)
    beta = 0.1102 * (2 * centre * 2.285 * transition + 8 - 8.7)
    gain = 1.0 if up else 1.0 / factor

    def tap(n: int) -> float:
        distance = n - centre
        if distance % factor == 0:
            return gain if distance == 0 else 0.0
        angle = math.pi * distance / factor
        window = bessel_i0(beta * math.sqrt(1 - (distance / centre) ** 2)) / bessel_i0(beta)
        return gain * math.sin(angle) / angle * window

    return tuple(tuple(single(tap(q * factor + p)) for q in range(TAPS_PER_PHASE)) for p in range(factor))
