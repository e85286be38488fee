// The finished calls: a search, and pages.

import { Problem, ask } from "./ask.js";
import { fill } from "./table.js";
import { age, milliseconds, moment, plain } from "./words.js";

const element = (id) => document.getElementById(id);
const CELLS = [
  (call) => moment(call.ended),
  (call) => call.agent || "–",
  (call) => age(call.duration_s),
  (call) => milliseconds(call.wait_p50_ms),
  (call) => call.interrupts,
  (call) => call.dropped,
  (call) => plain(call.why),
  (call) => call.from || "–",
  (call) => call.to || "–",
  (call) => call.route || "–",
];

let words = "";
// Where each page begins, up to the one that is shown.
let begins = [0];
let next = null;
// Counts the questions: an answer that a later question has overtaken is not shown.
let asked = 0;

export async function show() {
  asked += 1;
  const mine = asked;
  try {
    const found = await ask(`finished?words=${encodeURIComponent(words)}&skip=${begins.at(-1)}`);
    if (mine !== asked) return;
    next = found.next;
    fill(element("finished"), found.calls, CELLS);
    element("no-finished").hidden = found.calls.length > 0;
    element("no-finished").textContent = words ? "No finished call has these words." : "No finished call is kept.";
    element("finished-problem").textContent = "";
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (mine !== asked) return;
    element("finished-problem").textContent = error.message;
  }
  element("newer").disabled = begins.length === 1;
  element("older").disabled = next === null;
  element("pages").hidden = begins.length === 1 && next === null;
  element("page-number").textContent = `Page ${begins.length}`;
}

// The first page changes whenever a call ends; the others are left alone under the reader's eyes.
export function onEnded() {
  if (begins.length === 1) show();
}

function turnTo(pages) {
  begins = pages;
  next = null;
  return show();
}

export function start() {
  element("search").addEventListener("submit", (event) => {
    event.preventDefault();
    words = element("words").value.trim();
    turnTo([0]);
  });
  element("newer").addEventListener("click", () => turnTo(begins.slice(0, -1)));
  // Unknown while a page is asked for.
  element("older").addEventListener("click", () => next !== null && turnTo([...begins, next]));
  return show();
}
