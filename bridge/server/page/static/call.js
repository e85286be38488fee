// One call: its picture, its facts, what was said.

import { address, ask } from "./ask.js";
import { draw } from "./picture.js";
import { age, milliseconds, moment, plain, seconds } from "./words.js";

const element = (id) => document.getElementById(id);
// The whole call at once where that leaves a second this wide, else the reader scrolls.
const LEAST_PX_PER_S = 8;
const MOST_PX_PER_S = 80;
// Beyond the last sound, so that it does not stick to the edge.
const MARGIN_S = 0.5;

let callSid = "";
let found = null;
let zoom = 1;
// Whether the picture's right end is in view, and so shall stay while the call goes on.
let follows = true;

export function isShown() {
  return callSid !== "";
}

export function open(sid) {
  if (sid === callSid) return;
  callSid = sid;
  found = null;
  zoom = 1;
  follows = true;
  element("call-parts").replaceChildren();
  element("call-sid").textContent = sid;
  element("record").href = address(`calls/${sid}`);
}

export async function refresh() {
  const asked = callSid;
  // What is over does not change.
  if (found && !found.is_live) return;
  const answer = await ask(`calls/${asked}`);
  if (asked !== callSid) return;
  found = answer;
  show();
}

function show() {
  const { records, is_live: isLive } = found;
  element("call-state").textContent = isLive ? "live" : "over";
  element("call-elsewhere").hidden = records.length > 0;
  const parts = element("call-parts");
  while (parts.children.length > records.length) parts.lastElementChild.remove();
  records.forEach((record, n) => {
    const part = parts.children[n] ?? newPart(parts);
    showPart(part, record, found.loudness[record.attempt], isLive && record.end === null);
    part.querySelector(".part-title").hidden = records.length === 1;
    part.querySelector(".part-title").textContent = `Stream ${n + 1} of ${records.length}`;
  });
}

function newPart(parts) {
  parts.append(element("part").content.cloneNode(true));
  const part = parts.lastElementChild;
  const scroll = part.querySelector(".scroll");
  scroll.addEventListener("scroll", () => {
    follows = scroll.scrollLeft + scroll.clientWidth >= scroll.scrollWidth - 4;
  });
  part.querySelector(".closer").addEventListener("click", () => zoomBy(2));
  part.querySelector(".wider").addEventListener("click", () => zoomBy(0.5));
  return part;
}

function zoomBy(factor) {
  zoom *= factor;
  show();
}

// A record of a release that did not measure turns has none.
function turnsOf(record) {
  return record.turns ?? { count: 0, waits: { p50_ms: null }, last: [] };
}

function sceneOf(record, loudness, isLive) {
  const turns = turnsOf(record).last;
  const interrupts = record.interrupts.last;
  const gaps = { caller: record.gaps?.caller.last ?? [], agent: record.gaps?.agent.last ?? [] };
  const marks = record.marks?.last ?? [];
  const ends = turns.flatMap((turn) => [turn.caller?.until_s ?? 0, turn.agent?.until_s ?? 0]);
  const length = Math.max(record.duration_s, ...ends) + MARGIN_S;
  return { length_s: length, isLive, loudness, turns, interrupts, gaps, marks };
}

function showPart(part, record, loudness, isLive) {
  const scene = sceneOf(record, loudness, isLive);
  const scroll = part.querySelector(".scroll");
  const fitting = Math.min(MOST_PX_PER_S, Math.max(LEAST_PX_PER_S, (scroll.clientWidth - 2) / scene.length_s));
  const pxPerS = Math.min(MOST_PX_PER_S * 4, Math.max(fitting / 8, fitting * zoom));
  const svg = part.querySelector("svg");
  draw(svg, scene, pxPerS);
  svg.setAttribute("aria-label", summary(record));
  part.querySelector(".no-audio").hidden = Boolean(loudness);
  if (isLive && follows) scroll.scrollLeft = scroll.scrollWidth;
  showFacts(part.querySelector("dl"), record);
  showTurns(part.querySelector(".turns"), turnsOf(record));
  showSaid(part.querySelector(".said"), record.transcript);
}

function summary(record) {
  const { count, waits } = turnsOf(record);
  return (
    `Audio of both sides over ${seconds(record.duration_s)}: ${counted(count, "turn")}, ` +
    counted(record.interrupts.count, "interrupt") +
    (waits.p50_ms === null ? "." : `, the caller waits ${milliseconds(waits.p50_ms)} in the median.`)
  );
}

function counted(count, what) {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

function closing(closed) {
  return closed ? [closed.by && `by the ${closed.by}`, closed.code, closed.reason].filter(Boolean).join(" ") : "";
}

function factsOf(record) {
  const { times, end, drops, frames } = record;
  const agents = record.agents.map((agent) => agent.name + (agent.why_lost ? ` (lost: ${agent.why_lost})` : ""));
  return [
    ["Agent", agents.join(", then ") || "–"],
    ["Route", record.route || "–"],
    ["From", record.from || "–"],
    ["To", record.to || "–"],
    ["Start", moment(times.start)],
    ["Duration", age(record.duration_s)],
    ["Agent connected in", seconds(record.agent_connect_s)],
    ["Agent's first audio after", seconds(record.first_agent_audio_s)],
    ["Caller waits, median", milliseconds(turnsOf(record).waits.p50_ms)],
    ["Interrupts", record.interrupts.count],
    ["Frames", `${frames.from_caller} from the caller, ${frames.from_agent} from the agent`],
    ["Dropped", `${drops.to_agent} to the agent, ${drops.to_caller} to the caller, ${drops.cleared} cleared`],
    ["Marks given back", record.marks?.count ?? "–"],
    ["Keys", record.keys],
    ["End", end ? [plain(end.why), end.detail].filter(Boolean).join(": ") : "not yet"],
    ["Media socket closed", closing(end?.caller_closed) || "–"],
    ["Notes", record.notes.join("; ") || "none"],
  ];
}

function showFacts(list, record) {
  factsOf(record).forEach(([name, value], n) => {
    const group = list.children[n] ?? list.appendChild(document.createElement("div"));
    if (!group.firstChild) group.append(document.createElement("dt"), document.createElement("dd"));
    if (group.firstChild.textContent !== name) group.firstChild.textContent = name;
    if (group.lastChild.textContent !== String(value)) group.lastChild.textContent = value;
  });
}

function fromTo(speech) {
  return speech ? `${speech.at_s.toFixed(2)} to ${speech.until_s.toFixed(2)} s` : "–";
}

function whoInterrupts({ interrupts, vain_interrupts: vain }) {
  const named = ["caller", "agent"].flatMap((side) => [
    interrupts[side] && `${side}${interrupts[side] > 1 ? ` ${interrupts[side]} times` : ""}`,
    vain[side] && `${side} in vain${vain[side] > 1 ? ` ${vain[side]} times` : ""}`,
  ]);
  return named.filter(Boolean).join(", ") || "–";
}

function showTurns(table, { count, last }) {
  table.closest("details").hidden = last.length === 0;
  const rows = last.map((turn, n) => {
    const row = document.createElement("tr");
    const overlap = turn.overlap_s ? seconds(turn.overlap_s) : "–";
    const number = count - last.length + n + 1;
    const cells = [number, fromTo(turn.caller), milliseconds(turn.wait_ms), fromTo(turn.agent), overlap, whoInterrupts(turn)];
    for (const text of cells) row.insertCell().textContent = text;
    return row;
  });
  table.tBodies[0].replaceChildren(...rows);
}

function showSaid(list, transcript) {
  list.closest("details").hidden = transcript.length === 0;
  const items = transcript.map((said) => {
    const item = document.createElement("li");
    const who = document.createElement("strong");
    who.textContent = `${said.at_s.toFixed(1)} s ${said.speaker}: `;
    item.append(who, said.text);
    return item;
  });
  list.replaceChildren(...items);
}

addEventListener("resize", () => found && show());
