// The calls to the service: one function, its errors, and the key that this tab sends along.

const KEY = "key"; // in sessionStorage, which a browser keeps for one tab only

/** The answer to a call that was refused. Status 0: there was no answer. */
export class Refused extends Error {
  constructor(status, detail, seconds = 1) {
    super(detail);
    this.status = status;
    this.seconds = seconds; // when to try again
  }
}

export const key = () => sessionStorage.getItem(KEY) ?? "";

export function useKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

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
  if (answer.ok) return text ? answer.text() : answer.json();
  let detail = answer.statusText || "no reason was given";
  try {
    detail = (await answer.json()).detail ?? detail;
  } catch {
    // a proxy answered with something else than JSON
  }
  throw new Refused(answer.status, detail, Number(answer.headers.get("Retry-After")) || 1);
}
