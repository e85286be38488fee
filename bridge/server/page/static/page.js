// What the page shows of calls. The live ones are asked for once a second while the page is in view.

import { Problem, ask } from "./ask.js";
import * as finished from "./finished.js";
import * as live from "./live.js";

const EVERY_MS = 1000;
// A record is in the store this long after its call has ended.
const KEPT_MS = 500;
const element = (id) => document.getElementById(id);

async function refresh() {
  try {
    if (live.show(await ask("data"))) setTimeout(finished.onEnded, KEPT_MS);
    element("page-problem").textContent = "";
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    element("page-problem").textContent = error.message;
  }
}

async function keepFresh() {
  if (!document.hidden) await refresh();
  setTimeout(keepFresh, EVERY_MS);
}

finished.start();
keepFresh();
