"""The telephone's audio in Chromium: mu-law, and the way to and from the rates of sound cards."""

import base64
import contextlib
import json

import numpy as np
import pytest
from chromium import tab
from recording import RATE_HZ, decoded, quality_db, recording

from bridge.standins.audio import decode_mulaw, encode_mulaw

DEVELOPMENT = {"BRIDGE_VALIDATE_SIGNATURES": "0", "BRIDGE_AGENT": "echo"}
RENDER = """
(async () => {
  const { rate, said, heard, latencyS } = %s;
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const text = (array) => btoa(Array.from(array, (byte) => String.fromCharCode(byte)).join(""));
  const samples = floats(said);
  const context = new OfflineAudioContext(1, samples.length, rate);
  await context.audioWorklet.addModule("/page/telephone.worklet.js");
  const node = new AudioWorkletNode(context, "telephone", { outputChannelCount: [1] });
  const frames = [];
  let marked = null; // The bytes that were sent before the mark.
  node.port.onmessage = ({ data }) => {
    if (data.frame) frames.push(...data.frame);
    if (data.marks) marked = frames.length;
  };
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(node).connect(context.destination);
  source.start();
  // Between two pieces the audio thread takes messages.
  for (let at = 0.1; at < 1; at += 0.1) {
    context.suspend(at).then(() => {
      if (at === 0.1) {
        node.port.postMessage({ audio: bytes(heard) });
        node.port.postMessage({ mark: "played", latencyS });
      }
      context.resume();
    });
  }
  const rendered = (await context.startRendering()).getChannelData(0);
  const expected = 160 * Math.floor((samples.length * 8000) / rate / 160);
  const next = () => new Promise((done) => node.port.addEventListener("message", done, { once: true }));
  while (frames.length < expected) await next();
  return { sent: text(frames), heard: text(new Uint8Array(rendered.buffer)), marked };
})()
"""


@contextlib.asynccontextmanager
async def page_of(live, browser):
    async with tab(browser) as page:
        await page.open(f"{live.url}/")
        await page.until("document.readyState === 'complete'")
        yield page
        assert page.console == []


def floats(text):
    return np.frombuffer(base64.b64decode(text), np.float32)


async def rendered(page, rate_hz, said, heard=b"", latency_s=0.0):
    """What the telephone sends and plays, both as samples, and how many samples it has sent before a mark."""
    values = {
        "rate": rate_hz,
        "said": base64.b64encode(said.astype(np.float32).tobytes()).decode(),
        "heard": base64.b64encode(heard).decode(),
        "latencyS": latency_s,
    }
    found = await page.evaluate(RENDER % json.dumps(values))
    return decoded(base64.b64decode(found["sent"])), floats(found["heard"]), found["marked"]


@pytest.mark.parametrize("rate_hz", [48000, 44100, 16000, 96000])
async def test_sound_is_kept_at_every_rate_of_a_sound_card(live_server, browser, rate_hz):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        heard = encode_mulaw((recording(RATE_HZ)[:RATE_HZ] * 32768).round().astype(int))
        sent, played, _ = await rendered(page, rate_hz, recording(rate_hz)[: 2 * rate_hz], heard)
        assert len(sent) >= 1.9 * RATE_HZ
        assert quality_db(sent[RATE_HZ // 2 : RATE_HZ], RATE_HZ) > 30
        begin = int(np.argmax(np.abs(played) > 0.01))
        assert quality_db(played[begin + rate_hz // 4 : begin + rate_hz // 2], rate_hz) > 30


async def test_tones_above_the_telephones_band_are_left_out(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        sent, _, _ = await rendered(page, 48000, 0.5 * np.sin(2 * np.pi * 5000 * np.arange(48000) / 48000))
        assert np.abs(sent[800:]).max() < 0.5 / 500


@pytest.mark.parametrize("latency_s", [0.0, 0.4])
async def test_mark_comes_when_the_ear_has_heard_the_audio_before_it(live_server, browser, latency_s):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        heard = encode_mulaw((recording(RATE_HZ)[: RATE_HZ // 5] * 32768).round().astype(int))
        _, played, marked = await rendered(page, 48000, np.zeros(2 * 48000), heard, latency_s)
        end_s = (np.flatnonzero(np.abs(played) > 0.01)[-1]) / 48000
        # By whole frames.
        assert marked / RATE_HZ == pytest.approx(end_s + latency_s, abs=0.03)


async def test_mu_law_is_that_of_g711(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        samples, encoded = await page.evaluate(
            "import('/page/telephone.audio.js').then(({ SAMPLES, encode }) => [[...SAMPLES],"
            "Array.from({ length: 65536 }, (_, n) => encode((n - 32768) / 32768))])"
        )
        assert [round(sample * 32768) for sample in samples] == list(decode_mulaw(bytes(range(256))))
        assert bytes(encoded[32768:]) == encode_mulaw(range(32768))
        # Symmetric; -32768 has no counterpart.
        assert encoded[32767:0:-1] == [byte ^ 0x80 for byte in encoded[32769:]]
