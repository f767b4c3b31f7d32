// The page: which view an address shows, the search field, and what the views share.
//
// Addresses are after the #: #/, #/find?q=TEXT, #/track/ID, #/listener/ID, #/release, #/service,
// #/key. So they work under any prefix, and no address reaches the service's log.

import { call, key, Refused, useKey } from "./calls.js";
import { h, whenPlayed } from "./dom.js";
import { findView } from "./find.js";
import { listenerView } from "./listener.js";
import { connect, lookAt, play, refresh } from "./panel.js";
import { keyForm, problemView } from "./problem.js";
import { releaseView } from "./release.js";
import { serviceView } from "./service.js";
import { trackView } from "./track.js";

const TITLE = "Music recommendations";
const main = document.getElementById("main");
const field = document.getElementById("q");
let access = { keys: false, key: "none", read: true, write: true, people: true, admin: true };
let shown = 0; // how many views were asked for; only the last one is shown

function route() {
  const [, path, query = ""] = /^#?\/?([^?]*)\??(.*)$/s.exec(location.hash);
  const [page, ...rest] = path.split("/");
  const id = rest.length ? decoded(rest.join("/")) : undefined; // a text id may have a / in it
  return { page: decoded(page) || "find", id, text: new URLSearchParams(query).get("q") ?? "" };
}

function decoded(part) {
  try {
    return part === undefined ? undefined : decodeURIComponent(part);
  } catch {
    return part; // somebody typed it
  }
}

// Ids are whole numbers up to 2^53 - 1, the largest that is exact here, or text: see api.http.ids.
const isText = (what) => access.ids?.[what === "track" ? "tracks" : "users"] === "text";
const isWhole = (id) => /^(0|[1-9]\d{0,15})$/.test(id ?? "") && Number.isSafeInteger(Number(id));
const isId = (id, what) =>
  isText(what)
    ? Boolean(id) && !/[\u0000-\u001f\u007f-\u009f]/.test(id) && new TextEncoder().encode(id).length <= 256
    : isWhole(id);
const typed = (id, what) => (isText(what) ? id : Number(id));

/** Return the id in an address. */
function checked(id, what) {
  if (isId(id, what)) return typed(id, what);
  const found = id ? `“${id.slice(0, 60)}”` : "nothing";
  const expected = isText(what) ? "text of up to 256 bytes" : "a whole number up to 9007199254740991";
  throw new Refused(400, `The id of a ${what} is ${expected}; the address has ${found}.`);
}

async function view({ page, id, text }) {
  if (id && !["track", "listener"].includes(page)) page = `${page}/${id}`;
  if (page === "find") return findView(text.trim(), access);
  if (page === "track") return trackView(checked(id, "track"));
  if (page === "listener") return listenerView(checked(id, "listener"));
  if (page === "release") return releaseView(access, () => Promise.all([refresh(), show()]));
  if (page === "service") return serviceView();
  if (page === "key") return keyView();
  throw new Refused(404, `This page has no view “${page.slice(0, 60)}”.`);
}

function keyView() {
  const said = access.keys
    ? { none: "The service has keys. None is used in this tab.", unknown: "The service does not know the key of this tab." }[access.key] ??
      `This tab uses the key “${access.key}”.`
    : "The service has no keys. It answers requests from this machine only.";
  const forget = h("button", { type: "button" }, "Forget the key");
  forget.addEventListener("click", async () => {
    useKey("");
    await readAccess();
    await Promise.all([refresh(), show()]);
  });
  return [
    h("div", { class: "view-head" }, h("p", { class: "quiet small" }, "Access"), h("h1", { tabindex: "-1" }, "Key"), h("p", { class: "quiet" }, said)),
    access.keys ? h("ul", { class: "opens", role: "list" }, opens()) : null,
    access.keys ? keyForm(() => show()) : null,
    key() ? h("div", { class: "buttons" }, forget) : null,
  ];
}

const opens = () =>
  [
    [access.read, "Lists, search, tracks, releases and reports"],
    [access.people, "Listeners and their histories"],
    [access.write, "Storing plays"],
    [access.admin, "Serving another release"],
  ].map(([open, what]) =>
    h("li", { class: open ? "open" : "closed" }, h("span", { class: "badge" }, open ? "open" : "closed"), what),
  );

/** Show the view of the address. Focus moves to its title if a link led there. */
async function show({ focus = false } = {}) {
  const asked = ++shown;
  const target = route();
  document.getElementById("page").classList.toggle("alone", ["release", "service", "key"].includes(target.page));
  for (const link of document.querySelectorAll("[data-page]")) {
    const here = link.dataset.page === target.page;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (target.page === "listener" && isId(target.id, "listener")) lookAt(typed(target.id, "listener"));
  main.setAttribute("aria-busy", "true");
  let content;
  try {
    content = await view(target);
  } catch (error) {
    if (!(error instanceof Refused)) console.error(error);
    content = [problemView(error, () => show())];
  }
  if (asked !== shown) return;
  main.replaceChildren(...content.filter(Boolean));
  main.removeAttribute("aria-busy");
  const title = main.querySelector("h1");
  document.title = target.page === "find" && !target.text ? TITLE : `${title?.textContent ?? ""} · ${TITLE}`;
  if (focus) {
    scrollTo(0, 0);
    title?.focus({ preventScroll: true });
  }
}

async function readAccess() {
  try {
    setAccess(await call("access"));
  } catch {
    // the calls of the view say what is wrong
  }
}

function setAccess(found) {
  access = found;
  const link = document.getElementById("key-link");
  link.hidden = !access.keys;
  link.textContent = access.keys && !["none", "unknown"].includes(access.key) ? `Key: ${access.key}` : "Key";
}

async function randomListener() {
  try {
    const { users } = await call("search", { kind: "user", limit: 1 });
    if (!users?.length) throw new Refused(404, "The release has no listener.");
    location.hash = `#/listener/${encodeURIComponent(users[0].user_id)}`;
  } catch (error) {
    shown += 1;
    main.replaceChildren(problemView(error, randomListener));
    main.querySelector("h1").focus();
  }
}

// While a search is under way, what is typed waits, and then only the last text is looked for.
let searching = false;
async function search() {
  const text = field.value;
  const address = text.trim() ? `#/find?q=${encodeURIComponent(text.trim())}` : "#/";
  history.replaceState(null, "", address);
  if (searching) return;
  searching = true;
  await show();
  searching = false;
  if (field.value !== text) search();
}

field.addEventListener("input", search);
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === "ArrowDown") {
    event.preventDefault();
    main.querySelector(".tracks a, .rows a, summary")?.focus();
  }
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => {
  const target = route();
  if (document.activeElement !== field) field.value = target.page === "find" ? target.text : "";
  show({ focus: document.activeElement !== field });
});
document.addEventListener("access", (event) => {
  setAccess(event.detail);
  refresh();
});
document.addEventListener("stored", (event) => {
  const { page, id } = route();
  if (page === "listener" && id === String(event.detail)) show();
});

whenPlayed(play);
connect(randomListener);
const start = route();
field.value = start.page === "find" ? start.text.slice(0, 256) : "";
if (start.page === "find" && matchMedia("(hover: hover)").matches) field.focus();
const known = readAccess();
if (start.page !== "listener") lookAt(null);
await known; // of which kind ids are
if (start.page === "listener" && !isId(start.id, "listener")) lookAt(null);
show();
