// A telephone in the page: it plays Twilio's part at the real media socket.
// Source of the messages: twilio.com/docs/voice/media-streams/websocket-messages.

import { Problem, address, ask } from "./ask.js";

// Of audio that the network does not take: 3 s. What comes beyond it is left out.
const UNSENT_BYTES_MAX = 40_000;
const FRAME_MS = 20;
const ENDS = {
  1000: "The call has ended.",
  1001: "The bridge is shutting down. Call again in a moment.",
  1008: "The bridge refuses the call. Call again.",
  1011: "The agent is unavailable. The bridge's log says why.",
};
const MICROPHONE_PROBLEMS = {
  NotFoundError: "No microphone is there. Connect one and call again.",
  NotAllowedError: "The browser may not use the microphone. Allow it in the address bar and call again.",
  NotReadableError: "The microphone does not work, or another program has it. Close that program and call again.",
};

const element = (name) => document.getElementById(`telephone-${name}`);
const keys = [...element("keys").children];

async function openMicrophone(isProcessed) {
  if (!navigator.mediaDevices) {
    throw new Problem(
      "The browser gives no microphone to this page, because it is not https. Open it at an https address or, on the " +
        "bridge's own machine, at http://localhost and its port.",
    );
  }
  const audio = { echoCancellation: isProcessed, noiseSuppression: isProcessed, autoGainControl: isProcessed };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { ...audio, channelCount: 1 } });
  } catch (error) {
    throw new Problem(MICROPHONE_PROBLEMS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
}

/** Twilio's messages of one stream. */
class Writer {
  constructor(call) {
    this.call = call;
    this.streamSid = `MZ${crypto.randomUUID().replaceAll("-", "")}`;
    this.number = 0;
    this.chunk = 0;
  }

  connected() {
    return JSON.stringify({ event: "connected", protocol: "Call", version: "1.0.0" });
  }

  start() {
    const mediaFormat = { encoding: "audio/x-mulaw", sampleRate: 8000, channels: 1 };
    return this.numbered("start", {
      accountSid: this.call.account_sid,
      streamSid: this.streamSid,
      callSid: this.call.call_sid,
      tracks: ["inbound"],
      mediaFormat,
      customParameters: this.call.parameters,
    });
  }

  media(frame, timestampMs) {
    this.chunk += 1;
    return this.numbered("media", {
      track: "inbound",
      chunk: String(this.chunk),
      timestamp: String(timestampMs),
      payload: btoa(String.fromCharCode(...frame)),
    });
  }

  mark(name) {
    return this.numbered("mark", { name });
  }

  dtmf(digit) {
    return this.numbered("dtmf", { track: "inbound_track", digit });
  }

  stop() {
    return this.numbered("stop", { accountSid: this.call.account_sid, callSid: this.call.call_sid });
  }

  numbered(event, body) {
    this.number += 1;
    return JSON.stringify({ event, sequenceNumber: String(this.number), [event]: body, streamSid: this.streamSid });
  }
}

/** One call, from the press of the button to its end; `onState` gets its state in words, `onEnd` why it is over. */
class Call {
  constructor({ onState, onEnd, onFrame }) {
    this.onState = onState;
    this.onEnd = onEnd;
    this.onFrame = onFrame;
    this.frames = 0;
    this.isOver = false;
    // In the event of the click: browsers play no sound otherwise.
    this.context = window.AudioContext && new AudioContext({ latencyHint: "interactive" });
  }

  async dial(agent, isProcessed) {
    this.onState("Waiting for the microphone…");
    this.microphone = await openMicrophone(isProcessed);
    if (this.isOver) return this.release();
    this.microphone.getAudioTracks()[0].onended = () => this.end("", "The microphone is gone.");
    await this.openAudio();
    this.onState(`Calling ${agent}…`);
    const body = JSON.stringify({ agent });
    const call = await ask("call", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!this.isOver) this.openSocket(call);
  }

  async openAudio() {
    await this.context.audioWorklet.addModule(address("telephone.worklet.js"));
    if (this.isOver) return;
    await this.context.resume();
    this.node = new AudioWorkletNode(this.context, "telephone", {
      channelCount: 1,
      channelCountMode: "explicit",
      outputChannelCount: [1],
    });
    this.node.port.onmessage = ({ data }) => this.onAudio(data);
    this.node.onprocessorerror = () => this.end("", "The browser's audio has failed. Load the page again.");
    this.context.createMediaStreamSource(this.microphone).connect(this.node).connect(this.context.destination);
  }

  openSocket(call) {
    this.writer = new Writer(call);
    this.socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}${call.path}`);
    this.socket.onopen = () => {
      this.socket.send(this.writer.connected());
      this.socket.send(this.writer.start());
      this.onState("The call is up.");
    };
    this.socket.onmessage = ({ data }) => this.onMessage(JSON.parse(data));
    this.socket.onclose = ({ code }) => {
      if (ENDS[code]) this.end(ENDS[code]);
      else this.end("", "The connection to the bridge is lost. Call again.");
    };
  }

  get isUp() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  onMessage({ event, media, mark }) {
    const { port } = this.node;
    if (event === "media") port.postMessage({ audio: Uint8Array.from(atob(media.payload), (c) => c.charCodeAt(0)) });
    else if (event === "mark") port.postMessage({ mark: mark.name, latencyS: this.context.outputLatency || 0 });
    else if (event === "clear") port.postMessage({ isClear: true });
  }

  onAudio({ frame, said, heard, marks }) {
    if (!this.isUp) return;
    for (const name of marks ?? []) this.socket.send(this.writer.mark(name));
    if (!frame) return;
    if (this.socket.bufferedAmount < UNSENT_BYTES_MAX) {
      this.socket.send(this.writer.media(frame, FRAME_MS * this.frames));
    }
    this.frames += 1;
    this.onFrame(said, heard, (this.frames * FRAME_MS) / 1000);
  }

  press(digit) {
    if (this.isUp) this.socket.send(this.writer.dtmf(digit));
  }

  hangUp() {
    if (this.isUp) this.socket.send(this.writer.stop());
    this.end("You have hung up.");
  }

  end(words, problem = "") {
    if (this.isOver) return;
    this.isOver = true;
    this.release();
    this.onEnd(words || "The call has ended.", problem);
  }

  release() {
    this.microphone?.getTracks().forEach((track) => track.stop());
    if (this.context && this.context.state !== "closed") this.context.close();
    this.socket?.close(1000);
  }
}

let present = null;

function setIdle(isIdle) {
  element("call").hidden = !isIdle;
  element("hang-up").hidden = isIdle;
  element("agent").disabled = element("processing").disabled = !isIdle;
  for (const key of keys) key.disabled = isIdle;
}

function showLevels(said, heard) {
  // The ear hears by ratios: 60 dB fill the meter.
  const part = (level) => (level > 0.001 ? 1 + Math.log10(level) / 3 : 0);
  element("said").value = part(said);
  element("heard").value = part(heard);
}

function onEnd(words, problem) {
  present = null;
  const hadFocus = document.getElementById("telephone").contains(document.activeElement);
  element("state").textContent = words;
  element("problem").textContent = problem;
  setIdle(true);
  showLevels(0, 0);
  if (hadFocus) element("call").focus();
}

function onFrame(said, heard, lengthS) {
  showLevels(said, heard);
  const seconds = Math.floor(lengthS);
  const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  if (element("time").textContent !== text) element("time").textContent = text;
}

async function dial() {
  const onState = (words) => {
    element("state").textContent = words;
  };
  const call = new Call({ onState, onEnd, onFrame });
  present = call;
  element("problem").textContent = element("time").textContent = "";
  setIdle(false);
  element("hang-up").focus();
  try {
    await call.dial(element("agent").value, element("processing").checked);
  } catch (error) {
    call.end("No call.", error instanceof Problem ? error.message : `The call has failed: ${error.message}`);
  }
}

async function showAgents() {
  const { agents } = await ask("agents");
  const options = agents.map(({ name, problem }) => {
    const option = new Option(problem ? `${name} (${problem})` : name, name);
    option.disabled = Boolean(problem);
    return option;
  });
  element("agent").replaceChildren(...options);
  const first = agents.findIndex(({ problem }) => !problem);
  element("agent").selectedIndex = first;
  element("agent").disabled = element("call").disabled = first < 0;
  if (first < 0) throw new Problem("The telephone can call none of the agents in use.");
}

element("call").onclick = dial;
element("hang-up").onclick = () => present?.hangUp();
element("keys").onclick = ({ target }) => present?.press(target.value);
document.addEventListener("keydown", (event) => {
  const isTyped = event.target.closest("input, select, textarea");
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || isTyped) return;
  const key = keys.find(({ value }) => value === event.key);
  if (key) present?.press(key.value);
});

try {
  await showAgents();
} catch (error) {
  element("problem").textContent = error.message;
}
