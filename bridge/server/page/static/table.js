// Rows of calls. A row stays the same element while its call is there, so that the keyboard's focus stays too.

import { shortSid } from "./words.js";

function makeRow(call) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  const link = document.createElement("a");
  link.href = `#${call.call_sid}`;
  link.textContent = shortSid(call.call_sid);
  link.title = call.call_sid;
  head.append(link);
  row.append(head);
  return row;
}

// cells: for each column behind the call's name a function of the call.
export function fill(table, calls, cells) {
  const body = table.tBodies[0];
  const former = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  calls.forEach((call, n) => {
    const key = `${call.call_sid} ${call.attempt}`;
    const row = former.get(key) ?? makeRow(call);
    former.delete(key);
    row.dataset.key = key;
    cells.forEach((cell, column) => {
      const text = String(cell(call));
      const place = row.cells[column + 1] ?? row.insertCell();
      if (place.textContent !== text) place.textContent = text;
    });
    if (body.rows[n] !== row) body.insertBefore(row, body.rows[n] ?? null);
  });
  for (const row of former.values()) row.remove();
  table.hidden = calls.length === 0;
}
