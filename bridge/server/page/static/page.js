// What the page shows: all calls, or the one that the address names. Live ones are asked for once a second while the
// page is in view.

import { Problem, ask } from "./ask.js";
import * as call from "./call.js";
import * as finished from "./finished.js";
import * as live from "./live.js";

const EVERY_MS = 1000;
// A record is in the store this long after its call has ended.
const KEPT_MS = 500;
const element = (id) => document.getElementById(id);

async function refresh() {
  try {
    if (call.isShown()) {
      await call.refresh();
    } else if (live.show(await ask("data"))) {
      setTimeout(finished.onEnded, KEPT_MS);
    }
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

function route(event) {
  const wasShown = call.isShown();
  call.open(/^#CA[0-9a-f]{32}$/.test(location.hash) ? location.hash.slice(1) : "");
  element("lists").hidden = call.isShown();
  element("call").hidden = !call.isShown();
  // A click on a call leads to its heading; who opens the page on a call begins at the top.
  if (call.isShown() && event) element("call-title").focus();
  else if (wasShown && !call.isShown()) finished.show();
  refresh();
}

addEventListener("hashchange", route);
finished.start();
route();
keepFresh();
