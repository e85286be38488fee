// One call as a picture: both sides' audio over time, turns, waits, interrupts, and the end.

const SVG = "http://www.w3.org/2000/svg";
const TOP = 40;
const TRACK = 84;
const BETWEEN = 30;
const AXIS = 24;
const BAR = 5;
const CALLER_Y = TOP;
const AGENT_Y = TOP + TRACK + BETWEEN;
const BOTTOM = AGENT_Y + TRACK;
const HEIGHT = BOTTOM + AXIS;
const SIDES = [
  ["caller", CALLER_Y],
  ["agent", AGENT_Y],
];
const TICKS_S = [1, 2, 5, 10, 30, 60, 120, 300, 600];
const TICK_PX = 64;
// About what a character takes at the size of the labels.
const CHARACTER_PX = 6.6;
const MARK_PX = 8;

// The loudest sample of each piece of time is sent as sign-less mu-law without its last two bits.
const LOUDNESS = Array.from({ length: 32 }, (_, code) => {
  const mantissa = ((code & 3) << 2) | 2;
  const sample = (((mantissa << 3) + 132) << (code >> 2)) - 132;
  // Quiet speech must be seen beside loud speech.
  return code === 0 ? 0 : (sample / 32124) ** 0.6;
});

function make(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

// Closed outlines through the middles of the pieces, mirrored at the middle of the track. Silence is left out, so that a
// quiet side costs nothing.
function outline(peaks, y, xOf) {
  const middle = y + TRACK / 2;
  const half = TRACK / 2 - BAR;
  const outlines = [];
  for (let begin = 0; begin < peaks.length; begin += 1) {
    if (!LOUDNESS[peaks[begin]]) continue;
    let end = begin;
    while (end < peaks.length && LOUDNESS[peaks[end]]) end += 1;
    const above = [];
    const below = [];
    for (let n = begin; n < end; n += 1) {
      const x = xOf(n + 0.5).toFixed(1);
      const height = Math.max(0.5, LOUDNESS[peaks[n]] * half);
      above.push(`${x},${(middle - height).toFixed(1)}`);
      below.push(`${x},${(middle + height).toFixed(1)}`);
    }
    const [left, right] = [begin, end].map((n) => `${xOf(n).toFixed(1)},${middle}`);
    outlines.push(`M${[left, ...above, right, ...below.reverse()].join("L")}Z`);
    begin = end;
  }
  return outlines.join("");
}

// Writes each text where it does not cover the one before it.
class Row {
  constructor(y, kind, width) {
    Object.assign(this, { y, kind, width, free: 0, texts: [] });
  }

  add(center, text) {
    const half = (text.length * CHARACTER_PX) / 2;
    const x = Math.min(Math.max(center, half), this.width - half);
    if (x - half < this.free) return false;
    this.free = x + half + CHARACTER_PX;
    this.texts.push(make("text", { x, y: this.y, class: this.kind, "text-anchor": "middle" }, text));
    return true;
  }
}

function audio(loudness, xOf) {
  if (!loudness) return [];
  const x = (n) => xOf(loudness.at_s + (n * loudness.piece_ms) / 1000);
  return [["cleared", AGENT_Y], ...SIDES].map(([side, y]) =>
    make("path", { class: side, d: outline(bytesOf(loudness[side]), y, x) }),
  );
}

function axis(length, width, xOf) {
  const step = TICKS_S.find((s) => xOf(s) - xOf(0) >= TICK_PX) ?? TICKS_S.at(-1);
  const found = [];
  for (let s = 0; s <= length; s += step) {
    const x = xOf(s);
    found.push(make("line", { class: "grid", x1: x, x2: x, y1: TOP, y2: BOTTOM }));
    if (x + 3 * CHARACTER_PX < width) {
      const text = step < 60 ? `${s} s` : `${s / 60} min`;
      found.push(make("text", { x: x + 3, y: BOTTOM + 16, class: "tick" }, text));
    }
  }
  for (const y of [CALLER_Y, AGENT_Y]) {
    found.push(make("line", { class: "middle", x1: 0, x2: width, y1: y + TRACK / 2, y2: y + TRACK / 2 }));
  }
  return found;
}

function bar(kind, begin, end, y, xOf) {
  const width = Math.max(1, xOf(end) - xOf(begin));
  return make("rect", { class: kind, x: xOf(begin), y, width, height: BAR, rx: 2 });
}

function wait(begin, end, xOf) {
  const [from, to, y] = [xOf(begin), xOf(end), CALLER_Y + TRACK + 10];
  return make("path", { class: "wait", d: `M${from},${y - 4}V${y + 4}M${from},${y}H${to}M${to},${y - 4}V${y + 4}` });
}

// scene: length_s, isLive, loudness, turns, interrupts, gaps, marks; its times are seconds since the media stream began.
export function draw(svg, scene, pxPerS) {
  const width = Math.max(1, Math.ceil(scene.length_s * pxPerS));
  const xOf = (s) => s * pxPerS;
  svg.setAttribute("width", width);
  svg.setAttribute("height", HEIGHT);
  svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  const waits = new Row(CALLER_Y + TRACK + 26, "wait", width);
  const notes = [new Row(14, "interrupt", width), new Row(30, "interrupt", width)];
  const parts = [...axis(scene.length_s, width, xOf), ...audio(scene.loudness, xOf)];
  for (const turn of scene.turns) {
    for (const [side, y] of SIDES) {
      if (turn[side]) parts.push(bar(side, turn[side].at_s, turn[side].until_s, y + TRACK - BAR, xOf));
    }
    if (turn.wait_ms !== null) {
      const heard = turn.agent.at_s;
      parts.push(wait(heard - turn.wait_ms / 1000, heard, xOf));
      waits.add(xOf(heard - turn.wait_ms / 2000), `${(turn.wait_ms / 1000).toFixed(2)} s`);
    }
  }
  for (const [side, y] of SIDES) {
    for (const { at_s, ms } of scene.gaps[side]) parts.push(bar("gap", at_s, at_s + ms / 1000, y, xOf));
  }
  for (const { at_s, ms } of scene.interrupts) {
    parts.push(make("line", { class: "interrupt", x1: xOf(at_s), x2: xOf(at_s), y1: TOP - 6, y2: BOTTOM }));
    const text = `interrupt, clear in ${ms.toFixed(1)} ms`;
    notes.some((row) => row.add(xOf(at_s), text));
  }
  for (const at_s of scene.marks) {
    parts.push(make("path", { class: "mark", d: `M${xOf(at_s)},${BOTTOM - MARK_PX}l-${MARK_PX / 2},${MARK_PX}h${MARK_PX}z` }));
  }
  if (!scene.isLive) {
    parts.push(make("line", { class: "end", x1: width - 1, x2: width - 1, y1: TOP, y2: BOTTOM }));
  }
  svg.replaceChildren(...parts, ...waits.texts, ...notes.flatMap((row) => row.texts));
}
