// The telephone's audio: G.711 mu-law at 8 kHz, and the way to and from the rate of the sound card.

export const RATE_HZ = 8000;
export const FRAME_BYTES = 160;

// Zero crossings on each side of the filter, the middle of its edge as a part of 4 kHz, and Kaiser's beta for 60 dB:
// flat up to 3.4 kHz, nothing from 4 kHz on.
const CROSSINGS = 24;
const EDGE = 0.925;
const BETA = 5.65;
const BIAS = 132;
const LARGEST = 32635;

/** The samples, from -1 to 1, of the 256 bytes of mu-law. */
export const SAMPLES = Float32Array.from({ length: 256 }, (_, byte) => {
  const bits = ~byte & 0xff;
  const size = (((bits & 15) << 3) + BIAS) << ((bits >> 4) & 7);
  return (bits & 128 ? BIAS - size : size - BIAS) / 32768;
});

/** The byte of a sample, which is from -1 to 1. */
export function encode(sample) {
  const whole = Math.round(sample * 32768);
  const size = Math.min(Math.abs(whole), LARGEST) + BIAS;
  const exponent = 24 - Math.clz32(size);
  return ~((whole < 0 ? 128 : 0) | (exponent << 4) | ((size >> (exponent + 3)) & 15)) & 0xff;
}

/** Samples at one rate become samples at another, some 3 ms later: `put` those that are `missing`, then `take` one. */
export class Resampler {
  constructor(fromHz, toHz) {
    const common = divisor(fromHz, toHz);
    const scale = Math.min(1, toHz / fromHz);
    const half = Math.ceil(CROSSINGS / scale);
    this.up = toHz / common;
    this.down = fromHz / common;
    this.missing = 1;
    this.phase = 0; // Of the next sample: how far it is behind the last one put, in parts of `up`.
    this.length = 2 * half;
    this.past = new Float32Array(2 * this.length); // Each sample twice, so that the last ones are in a row.
    this.at = 0;
    this.filters = Array.from({ length: this.up }, (_, phase) => filter(half, phase / this.up, scale * EDGE));
  }

  put(sample) {
    this.past[this.at] = this.past[this.at + this.length] = sample;
    this.at = (this.at + 1) % this.length;
    this.missing -= 1;
  }

  take() {
    const filter = this.filters[this.phase];
    let sum = 0;
    for (let n = 0; n < this.length; n += 1) sum += filter[n] * this.past[this.at + n];
    this.phase += this.down;
    this.missing = Math.floor(this.phase / this.up);
    this.phase %= this.up;
    return sum;
  }
}

function divisor(a, b) {
  return b ? divisor(b, a % b) : a;
}

/** A low-pass whose middle lies `part` of a sample behind the first half. */
function filter(half, part, edge) {
  const weights = Float64Array.from({ length: 2 * half }, (_, n) => {
    const away = n - half + 1 - part;
    const angle = Math.PI * edge * away;
    const window = bessel(BETA * Math.sqrt(Math.max(0, 1 - (away / half) ** 2)));
    return (angle ? Math.sin(angle) / angle : 1) * window;
  });
  const sum = weights.reduce((one, other) => one + other);
  return Float32Array.from(weights, (weight) => weight / sum);
}

/** The modified Bessel function of the first kind, of order 0. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let n = 1; term > 1e-12 * sum; n += 1) {
    term *= (x / (2 * n)) ** 2;
    sum += term;
  }
  return sum;
}
