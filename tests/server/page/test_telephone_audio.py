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
  const { rate, said, heard } = %s;
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const text = (array) => btoa(Array.from(array, (byte) => String.fromCharCode(byte)).join(""));
  const samples = floats(said);
  const context = new OfflineAudioContext(1, samples.length, rate);
  await context.audioWorklet.addModule("/page/telephone.worklet.js");
  const node = new AudioWorkletNode(context, "telephone", { outputChannelCount: [1] });
  const frames = [];
  node.port.onmessage = ({ data }) => data.frame && frames.push(...data.frame);
  const buffer = context.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(node).connect(context.destination);
  source.start();
  // Between two pieces the audio thread takes messages.
  for (let at = 0.1; at < 1; at += 0.1) {
    context.suspend(at).then(() => {
      if (at === 0.1) node.port.postMessage({ audio: bytes(heard) });
      context.resume();
    });
  }
  const rendered = (await context.startRendering()).getChannelData(0);
  const expected = 160 * Math.floor((samples.length * 8000) / rate / 160);
  const next = () => new Promise((done) => node.port.addEventListener("message", done, { once: true }));
  while (frames.length < expected) await next();
  return { sent: text(frames), heard: text(new Uint8Array(rendered.buffer)) };
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


@pytest.mark.parametrize("rate_hz", [48000, 44100, 16000, 96000])
async def test_sound_is_kept_at_every_rate_of_a_sound_card(live_server, browser, rate_hz):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        said = recording(rate_hz)[: 2 * rate_hz].astype(np.float32)
        heard = recording(RATE_HZ)[:RATE_HZ]
        mulaw = encode_mulaw((heard * 32768).round().astype(int))
        values = {
            "rate": rate_hz,
            "said": base64.b64encode(said.tobytes()).decode(),
            "heard": base64.b64encode(mulaw).decode(),
        }
        found = await page.evaluate(RENDER % json.dumps(values))
        sent = decoded(base64.b64decode(found["sent"]))
        assert len(sent) >= 1.9 * RATE_HZ
        assert quality_db(sent[RATE_HZ // 2 : RATE_HZ], RATE_HZ) > 30
        played = floats(found["heard"])
        begin = int(np.argmax(np.abs(played) > 0.01))
        assert quality_db(played[begin + rate_hz // 4 : begin + rate_hz // 2], rate_hz) > 30


async def test_tones_above_the_telephones_band_are_left_out(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        tone = 0.5 * np.sin(2 * np.pi * 5000 * np.arange(48000) / 48000)
        values = {
            "rate": 48000,
            "said": base64.b64encode(tone.astype(np.float32).tobytes()).decode(),
            "heard": "",
        }
        found = await page.evaluate(RENDER % json.dumps(values))
        sent = decoded(base64.b64decode(found["sent"]))
        assert np.abs(sent[800:]).max() < 0.5 / 500


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
