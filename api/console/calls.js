// The calls to the service: one function, its errors, and what this tab keeps.

const KEY = "key";
const UNREADABLE = -2; // in place of a status
const LONGEST_WAIT = 60; // seconds before what was refused is tried again

// What a tab keeps is in sessionStorage. A browser may be told to keep nothing; then it is kept here
// until the page is left.
const here = new Map();

/** Return a text that this tab keeps; null if there is none. */
export function kept(name) {
  try {
    return sessionStorage.getItem(name) ?? here.get(name) ?? null;
  } catch {
    return here.get(name) ?? null;
  }
}

/** Keep a text for this tab; with an empty one, keep none. */
export function keep(name, text) {
  here.delete(name);
  try {
    if (text) sessionStorage.setItem(name, text);
    else sessionStorage.removeItem(name);
  } catch {
    if (text) here.set(name, text);
  }
}

/** The answer to a call that was refused. Status 0: there was no answer; -2: one that cannot be read. */
export class Refused extends Error {
  constructor(status, detail, seconds = 1) {
    super(detail);
    this.status = status;
    this.seconds = seconds; // when to try again
  }
}

export const key = () => kept(KEY) ?? "";
export const useKey = (value) => keep(KEY, value);

/** Whether a text can be a key at all. Other characters cannot stand in a header. */
export const canBeKey = (text) => /^[!-~]{16,256}$/.test(text);

/**
 * Return the answer of a call, as JSON or as text.
 *
 * Addresses are relative to the page, so that it works under any prefix. A parameter whose value is
 * null is left out, and one whose value is a list is repeated. With `body` the call is a POST. Throws Refused for every answer but 200.
 */
export async function call(path, params = {}, { body, method, text = false } = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined) query.append(name, one);
  }
  const headers = key() ? { "X-API-Key": key() } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(query.size ? `${path}?${query}` : path, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
    });
  } catch {
    throw new Refused(0, "The service does not answer. It may be restarting.");
  }
  if (answer.ok) {
    try {
      const found = await (text ? answer.text() : answer.json());
      if (found !== null) return found;
    } catch {
      // said below
    }
    throw new Refused(UNREADABLE, "It was cut off, or comes from something in between, such as a proxy that wants you to log in.");
  }
  let detail = answer.statusText || "no reason was given";
  try {
    const said = (await answer.json()).detail;
    if (typeof said === "string") detail = said;
  } catch {
    // a proxy answered with something else than JSON
  }
  const seconds = Math.min(Number(answer.headers.get("Retry-After")) || 1, LONGEST_WAIT);
  throw new Refused(answer.status, detail, seconds);
}
