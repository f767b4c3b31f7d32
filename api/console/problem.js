// Views of what went wrong, each with what can be done, and the entry of a key.

import { call, canBeKey, key, useKey } from "./calls.js";
import { h } from "./dom.js";

const TITLES = {
  [-2]: "The answer cannot be read",
  0: "The service does not answer",
  400: "This cannot be looked up",
  401: "A key is needed",
  403: "This is not open to you",
  404: "There is no such thing here",
  409: "The release was refused",
  413: "That is too much at once",
  429: "Too many requests",
  503: "Nothing can be served right now",
};

/** Return the view of an error; `retry` does again what failed. */
export function problemView(error, retry) {
  const status = error.status ?? -1;
  const again = h("button", { type: "button", class: "primary", click: retry }, "Try again");
  const view = h(
    "div",
    { class: "problem" },
    h("p", { class: "quiet small" }, status > 0 ? `Status ${status}` : ""),
    h("h1", { tabindex: "-1" }, TITLES[status] ?? "Something went wrong on this page"),
  );
  if (status === 401) {
    view.append(h("p", {}, "The service has keys, and this call needs one of them."), keyForm(retry));
  } else if (status === 403) {
    view.append(h("p", {}, sentence(error.message)));
    // without keys the refusal is about the address, which no key changes
    if (/\bkey is valid\b/.test(error.message)) view.append(keyForm(retry));
  } else if (status === 429) {
    view.append(h("p", {}, sentence(error.message)), h("p", { class: "quiet" }, waiting(error, retry, view)));
  } else {
    view.append(h("p", {}, sentence(error.message)));
    if (status <= 0 || status >= 500) view.append(again);
    if (status === 400 || status === 404) view.append(h("p", {}, h("a", { href: "#/" }, "Back to the start")));
  }
  return view;
}

function waiting(error, retry, view) {
  setTimeout(() => view.isConnected && retry(), error.seconds * 1000);
  return `This page tries again by itself in ${error.seconds} s.`;
}

export const sentence = (text) => {
  const trimmed = String(text).trim();
  return trimmed ? trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?]$/.test(trimmed) ? "" : ".") : "";
};

/** Return a form that takes a key, checks it, and then calls `done`. */
export function keyForm(done) {
  const wrong = h("p", { class: "wrong", role: "alert", id: "key-wrong" });
  const field = h("input", {
    type: "password", id: "key", autocomplete: "off", spellcheck: "false", "aria-describedby": "key-help key-wrong",
  });
  const form = h(
    "form",
    { class: "key" },
    h("label", { for: "key" }, "Key"),
    h("div", { class: "field" }, field, h("button", { class: "primary" }, "Use this key")),
    h("p", { class: "quiet small", id: "key-help" }, "It stays in this tab and is sent in a header only."),
    wrong,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const [before, entered] = [key(), field.value.trim()];
    wrong.textContent = "";
    if (!canBeKey(entered)) {
      wrong.textContent = "A key has 16 to 256 printable ASCII characters and no spaces.";
      return;
    }
    useKey(entered);
    try {
      const access = await call("access");
      if (access.key === "unknown") throw new Error("The service does not know this key.");
      document.dispatchEvent(new CustomEvent("access", { detail: access }));
      done();
    } catch (error) {
      useKey(before);
      wrong.textContent = sentence(error.message);
    }
  });
  return form;
}
