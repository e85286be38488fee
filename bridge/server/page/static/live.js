// The live calls of all workers.

import { fill } from "./table.js";
import { age, milliseconds, plain } from "./words.js";

const element = (id) => document.getElementById(id);
const CELLS = [
  (call) => call.agent || "–",
  (call) => plain(call.state),
  (call) => age(call.duration_s),
  (call) => milliseconds(call.wait_p50_ms),
  (call) => call.interrupts,
  (call) => call.dropped,
  (call) => call.from || "–",
  (call) => call.route || "–",
];

let known = new Set();

// Returns whether a call has ended since the last time.
export function show(found) {
  element("count").textContent = found.count;
  element("no-calls").hidden = found.calls.length > 0;
  element("left-out").hidden = found.is_whole;
  element("left-out").textContent =
    found.count > found.calls.length
      ? `The last ${found.calls.length} are listed.`
      : "Some workers did not answer: their calls are missing.";
  fill(element("calls"), found.calls, CELLS);
  const present = new Set(found.calls.map((call) => call.call_sid));
  const hasEnded = [...known].some((callSid) => !present.has(callSid));
  known = present;
  return hasEnded;
}
