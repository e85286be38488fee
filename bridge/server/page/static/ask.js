// Asks the bridge for data.

const PREFIX = document.documentElement.dataset.prefix;

// The text says what is wrong and what to do.
export class Problem extends Error {}

export function address(path) {
  return `${PREFIX}/page/${path}`;
}

/** The fields of an answer; `options` are those of `fetch`. */
export async function ask(path, options) {
  let response;
  try {
    response = await fetch(address(path), options);
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
