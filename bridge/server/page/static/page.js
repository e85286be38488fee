// What the page shows of the live calls, asked for once a second while the page is in view.

const PREFIX = document.documentElement.dataset.prefix;
const EVERY_MS = 1000;
const element = (id) => document.getElementById(id);

class Problem extends Error {}

async function ask(path) {
  let response;
  try {
    response = await fetch(`${PREFIX}/page/${path}`);
  } catch {
    throw new Problem("The bridge does not answer.");
  }
  if (response.status === 401) {
    location.reload(); // The login form is there now.
    throw new Problem("Your login has ended.");
  }
  if (response.status === 403) {
    throw new Problem(
      "The bridge refuses this page. Open it at the bridge's own address: http://localhost and its port on the " +
        "machine that it runs on or, with BRIDGE_PAGE_PASSWORD, its PUBLIC_URL.",
    );
  }
  const fields = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(fields.problem ?? `The bridge answers ${response.status}.`);
  return fields;
}

function age(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function wait(milliseconds) {
  return milliseconds === null ? "" : `${(milliseconds / 1000).toFixed(2)} s`;
}

function show(calls) {
  element("count").textContent = calls.length;
  element("no-calls").hidden = calls.length > 0;
  element("calls").hidden = calls.length === 0;
  const rows = calls.map((call) => {
    const row = document.createElement("tr");
    const cells = [call.agent, call.state, age(Math.floor(call.duration_s)), wait(call.wait_p50_ms), call.interrupts, call.dropped, call.from, call.call_sid];
    for (const text of cells) row.insertCell().textContent = text;
    return row;
  });
  element("calls").tBodies[0].replaceChildren(...rows);
}

async function refresh() {
  if (!document.hidden) {
    try {
      show((await ask("data")).calls);
      element("page-problem").textContent = "";
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      element("page-problem").textContent = error.message;
    }
  }
  setTimeout(refresh, EVERY_MS);
}

refresh();
