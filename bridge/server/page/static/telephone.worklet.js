// The telephone's end in the audio thread: the microphone in frames of 20 ms, and what the caller hears.

import { FRAME_BYTES, RATE_HZ, Resampler, SAMPLES, encode } from "./telephone.audio.js";

// After a silence this much audio is gathered, or waited for, so that a late frame makes no gap.
const GATHERED_S = 0.06;

class Telephone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.fromMicrophone = new Resampler(sampleRate, RATE_HZ);
    this.toSpeaker = new Resampler(RATE_HZ, sampleRate);
    this.frame = new Uint8Array(FRAME_BYTES);
    this.filled = 0;
    this.loudest = { said: 0, heard: 0 };
    this.queue = []; // Audio as bytes, and marks as texts, as they came.
    this.at = 0; // The next byte of the first one.
    this.queued = 0; // Bytes in the queue.
    this.isPlaying = false;
    this.playsAt = 0;
    this.played = []; // Marks whose audio is on its way to the ear.
    this.latencyS = 0;
    this.port.onmessage = ({ data }) => this.onMessage(data);
  }

  onMessage({ audio, mark, isClear, latencyS }) {
    if (audio?.length) {
      if (!this.isPlaying && !this.queued) this.playsAt = currentTime + GATHERED_S;
      this.queue.push(audio);
      this.queued += audio.length;
    }
    if (mark !== undefined) this.queue.push(mark);
    if (isClear) this.clear();
    if (latencyS !== undefined) this.latencyS = latencyS;
  }

  clear() {
    const marks = [...this.played.map(({ name }) => name), ...this.queue.filter((item) => typeof item === "string")];
    this.queue = [];
    this.played = [];
    this.at = this.queued = 0;
    this.isPlaying = false;
    if (marks.length) this.port.postMessage({ marks });
  }

  process([[microphone]], [[speaker]]) {
    for (let n = 0; n < speaker.length; n += 1) this.hear(microphone ? microphone[n] : 0);
    this.isPlaying ||= this.queued >= GATHERED_S * RATE_HZ || (this.queued > 0 && currentTime >= this.playsAt);
    for (let n = 0; n < speaker.length; n += 1) {
      while (this.toSpeaker.missing) this.toSpeaker.put(this.next());
      speaker[n] = this.toSpeaker.take();
    }
    const due = this.played.filter(({ at }) => at <= currentTime);
    if (due.length) {
      this.played.splice(0, due.length);
      this.port.postMessage({ marks: due.map(({ name }) => name) });
    }
    return true;
  }

  hear(sample) {
    this.fromMicrophone.put(sample);
    while (!this.fromMicrophone.missing) {
      const taken = this.fromMicrophone.take();
      this.loudest.said = Math.max(this.loudest.said, Math.abs(taken));
      this.frame[this.filled] = encode(taken);
      this.filled += 1;
      if (this.filled === FRAME_BYTES) this.send();
    }
  }

  send() {
    this.port.postMessage({ frame: this.frame.slice(), ...this.loudest });
    this.filled = 0;
    this.loudest = { said: 0, heard: 0 };
  }

  next() {
    for (;;) {
      const [first] = this.queue;
      if (typeof first === "string") {
        this.queue.shift();
        this.played.push({ name: first, at: currentTime + this.latencyS });
      } else if (first === undefined || !this.isPlaying) {
        this.isPlaying = false;
        return 0;
      } else {
        const sample = SAMPLES[first[this.at]];
        this.loudest.heard = Math.max(this.loudest.heard, Math.abs(sample));
        this.at += 1;
        this.queued -= 1;
        if (this.at === first.length) {
          this.queue.shift();
          this.at = 0;
        }
        return sample;
      }
    }
  }
}

registerProcessor("telephone", Telephone);
