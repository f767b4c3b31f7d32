// What if: the list that someone would be given if they had just played these tracks.
//
// The plays stay in this tab. They are sent along with each question and are stored nowhere, unless
// "Play as this listener" is chosen and confirmed.

import { call, keep, kept } from "./calls.js";
import { confirmed, count, h, titleOf, trackLink, trackRow } from "./dom.js";
import { sentence } from "./problem.js";

const STORED = "plays"; // under which the tab keeps them
const LENGTH = 100; // of the list
const SHOWN = 20; // of it, at first
const MAX_PLAYS = 100; // that a request may bring along
const OTHER_IDS = "The service cannot use the plays of this tab. They may be from when the service had other ids.";
const SECONDS = 0.45; // of an animation

const at = (id) => document.getElementById(id);
const state = {
  who: null, // the listener's id; null: someone new
  plays: restored(), // by listener, newest first
  list: null, // what is shown: the reasons of the last answer, best first
  asked: 0, // how many questions were asked; only the answer to the last one is shown
  all: false,
};

const names = new Map(); // titles of live events, by track id

/** Return the plays that the tab has kept; none of what is no list of tracks. */
function restored() {
  const isTrack = (track) => ["number", "string"].includes(typeof track?.track_id);
  try {
    const lists = Object.entries(JSON.parse(kept(STORED)) ?? {});
    return Object.fromEntries(lists.filter(([, played]) => Array.isArray(played) && played.every(isTrack)));
  } catch {
    return {};
  }
}

// Under which the plays of a listener are kept; a text may be "new" or "__proto__".
const owner = (who) => (typeof who === "string" ? `text ${who}` : (who ?? "new"));
const plays = () => state.plays[owner(state.who)] ?? [];

function setPlays(played) {
  state.plays[owner(state.who)] = played.slice(0, MAX_PLAYS);
  keep(STORED, JSON.stringify(state.plays));
}

/** Show the list of a listener; null is someone new. */
export function lookAt(who) {
  if (state.who === who && state.list) return;
  state.who = who;
  state.list = null;
  state.all = false;
  ask("");
}

/** Ask again, as after a new key or another release. */
export const refresh = () => {
  state.list = null;
  return ask("");
};

export function play(track) {
  setPlays([{ track_id: track.track_id, name: track.name, artists: track.artists }, ...plays()]);
  return ask(`You played ${titleOf(track)}`);
}

function undo() {
  const [last, ...others] = plays();
  setPlays(others);
  return ask(`You took back ${titleOf(last)}`);
}

function takeBackAll() {
  setPlays([]);
  return ask("");
}

async function ask(action) {
  const question = ++state.asked;
  const [who, played] = [state.who, plays()];
  drawHead();
  const start = performance.now();
  try {
    const body = { events: played.map((track) => track.track_id) };
    const params = { user_id: who, k: LENGTH, explain: true };
    const { reasons } = await call("recommendations", params, { body });
    await nameEvents(reasons, played);
    if (question !== state.asked) return;
    at("panel-problem").replaceChildren();
    draw(reasons, action);
    at("panel-time").textContent = `${Math.max(1, Math.round(performance.now() - start))} ms`;
  } catch (error) {
    if (question !== state.asked) return;
    showProblem(error);
  }
}

/** Learn the names of live events that reasons name, those that were not learned before. */
async function nameEvents(reasons, played) {
  const here = new Set(played.map((track) => track.track_id));
  const ids = new Set(reasons.flatMap((reason) => reason.events));
  const unnamed = [...ids].filter((id) => !here.has(id) && !names.has(id)).slice(0, 100);
  if (!unnamed.length) return;
  try {
    const { tracks } = await call("tracks", { ids: unnamed });
    for (const track of tracks) names.set(track.track_id, titleOf(track));
  } catch {
    // the reasons are shown without these names
  }
}

function showProblem(error) {
  state.list = null;
  at("recommendations").replaceChildren();
  at("jump").hidden = true;
  at("show-all").hidden = true;
  at("status").textContent = "";
  at("panel-time").textContent = "";
  let text = error.status === 401 ? "Enter a key to see recommendations." : sentence(error.message);
  if (error.status === 429) {
    const question = state.asked;
    setTimeout(() => question === state.asked && ask(""), error.seconds * 1000);
    text += ` The list is asked for again in ${error.seconds} s.`;
  }
  const again = h("button", { type: "button", click: () => ask("") }, "Try again");
  const unknown = error.status === 400 && plays().length;
  at("panel-problem").replaceChildren(
    h("div", { class: "note" }, h("p", {}, unknown ? OTHER_IDS : text)),
    unknown ? h("button", { type: "button", click: takeBackAll }, "Take back all plays") : again,
  );
}

function drawHead() {
  const who = at("panel-who");
  who.replaceChildren("For ");
  who.append(
    state.who === null
      ? h("strong", {}, "someone new")
      : h("a", { href: `#/listener/${encodeURIComponent(state.who)}` }, `listener ${state.who}`),
    h("span", { id: "panel-behind" }),
  );
  at("new-listener").setAttribute("aria-pressed", String(state.who === null));
  const place = at("plays");
  const played = plays();
  if (!played.length) {
    const hint = "Play any track to see what this list would become. Nothing is stored.";
    place.replaceChildren(h("p", { class: "quiet small" }, hint));
    return;
  }
  const chips = played.map((track) => h("li", {}, trackLink(track)));
  place.replaceChildren(
    h("h3", { class: "quiet small" }, "Played in this tab, newest first"),
    h("ol", { class: "chips", role: "list", "aria-label": "Played in this tab" }, chips),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", click: undo }, "Undo the last"),
      state.who === null
        ? null
        : h("button", { type: "button", click: store }, "Play as this listener …"),
    ),
  );
}

/** Return by track how a list differs from the one before: places won, lost, or null if new. */
function movesFrom(before, after) {
  const places = new Map(before.map((reason, place) => [reason.track_id, place]));
  return after.map(({ track_id }, place) =>
    places.has(track_id) ? places.get(track_id) - place : null,
  );
}

function draw(reasons, action) {
  const before = state.list;
  const moves = before && action ? movesFrom(before, reasons) : reasons.map(() => 0);
  state.list = reasons;
  if (action) at("status").textContent = changes(action, moves, before, reasons);
  else at("status").textContent = "";
  const list = at("recommendations");
  const focused = [...list.children].findIndex((row) => row.contains(document.activeElement));
  const tops = new Map([...list.children].map((row) => [row.dataset.track, row.offsetTop]));
  const known = new Map(plays().map((track) => [track.track_id, titleOf(track)]));
  const shown = state.all ? reasons : reasons.slice(0, SHOWN);
  const rows = shown.map((reason, place) => {
    const row = trackRow(reason, {
      lead: String(place + 1),
      below: whyLine(why(reason, place + 1, known)),
      end: mark(moves[place]),
    });
    if (moves[place] === null) row.classList.add("is-new");
    return row;
  });
  list.replaceChildren(...rows);
  if (!rows.length) list.append(h("li", { class: "quiet empty" }, "There is nothing to recommend."));
  if (focused >= 0) rows[Math.min(focused, rows.length - 1)]?.querySelector("button").focus();
  at("panel-behind").textContent = reasons.length ? behind(reasons) : "";
  at("show-all").hidden = state.all || reasons.length <= SHOWN;
  at("show-all").textContent = `Show all ${reasons.length}`;
  if (before && action) animate(rows, tops);
  drawJump(moves);
}

/** Return why a track is there; nothing if it stands where the list behind has it, too. */
function why(reason, place, known) {
  const yours = reason.events.map((id) => known.get(id)).filter(Boolean);
  if (yours.length) return `because you played ${yours.slice(0, 2).join(" and ")}`;
  const theirs = reason.events.map((id) => names.get(id) ?? `track ${id}`);
  if (theirs.length) return `because they played ${theirs.slice(0, 2).join(" and ")}`;
  if (reason.final_rank) return reason.final_rank === place ? "" : `no. ${reason.final_rank} of the final list`;
  return reason.top_rank && reason.top_rank !== place ? `no. ${reason.top_rank} of the top list` : "";
}

const whyLine = (text) => (text ? h("span", { class: "why", title: text }, text) : null);

/** Return which list is behind: the listener's own, or the one that all others are given. */
function behind(reasons) {
  const list = reasons.some((reason) => reason.final_rank) ? "the final list" : "the top list";
  const live = reasons.some((reason) => reason.events.length) ? " and the last plays" : "";
  return `, from ${list}${live}`;
}

function mark(move) {
  if (move === null) return h("span", { class: "new" }, "new");
  if (move === 0) return "";
  const [shape, word, kind] = move > 0 ? ["▲", "up", "up"] : ["▼", "down", "down"];
  return h(
    "span",
    { class: kind },
    h("span", { "aria-hidden": "true" }, shape),
    h("span", { class: "unseen" }, `${word} `),
    String(Math.abs(move)),
  );
}

function changes(action, moves, before, after) {
  const kept = new Set(after.map((reason) => reason.track_id));
  const left = (before ?? []).filter((reason) => !kept.has(reason.track_id)).length;
  const parts = [
    [moves.filter((move) => move === null).length, "new"],
    [moves.filter((move) => move > 0).length, "rose"],
    [moves.filter((move) => move < 0).length, "fell"],
    [left, "left"],
  ];
  const said = parts.filter(([number]) => number).map(([number, word]) => `${number} ${word}`);
  return `${action}: ${said.length ? said.join(", ") : "nothing changed"}.`;
}

/** Let rows move from where they were to where they are, and new ones appear. */
function animate(rows, tops) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of rows) {
    const from = tops.get(row.dataset.track);
    const frames =
      from === undefined
        ? [{ opacity: 0 }, { opacity: 1 }]
        : [{ transform: `translateY(${from - row.offsetTop}px)` }, { transform: "none" }];
    row.animate(frames, { duration: SECONDS * 1000, easing: "cubic-bezier(.2, .7, .2, 1)" });
  }
}

/** On narrow screens the list is below; a bar says what it has, and leads there. */
function drawJump(moves) {
  const found = moves.filter((move) => move === null).length;
  const who = state.who === null ? "someone new" : `listener ${state.who}`;
  at("jump").hidden = false;
  at("jump").replaceChildren(
    h("span", {}, found ? count(found, "new recommendation") : `For ${who}`),
    h("strong", {}, "See the list"),
  );
}

async function store() {
  const [who, played] = [state.who, plays()];
  const sure = await confirmed(
    `Play as listener ${who}?`,
    `${count(played.length, "play")} will be stored, as if listener ${who} had listened just now. ` +
      "This changes what the listener is recommended from now on, and cannot be taken back.",
    "Store the plays",
  );
  if (!sure) return;
  const waiting = [...played];
  let stored = 0;
  try {
    while (waiting.length) {
      const track = waiting[waiting.length - 1]; // the oldest first
      await call("put_user_event", { user_id: who, item_id: track.track_id }, { method: "POST" });
      waiting.pop();
      stored += 1;
    }
  } catch (error) {
    at("status").textContent = `Stored ${stored} of ${count(played.length, "play")}. ${sentence(error.message)}`;
  }
  state.plays[owner(who)] = waiting;
  setPlays(waiting);
  if (waiting.length) return drawHead();
  await ask(`Stored ${count(stored, "play")} of listener ${who}`);
  document.dispatchEvent(new CustomEvent("stored", { detail: who }));
}

/** Connect the buttons of the panel; `random` leads to a listener drawn at random. */
export function connect(random) {
  at("new-listener").addEventListener("click", () => {
    state.plays.new = [];
    setPlaysOfNobody();
    if (location.hash.startsWith("#/listener")) location.hash = "#/";
    state.list = null;
    ask("");
  });
  at("random-listener").addEventListener("click", random);
  at("show-all").addEventListener("click", () => {
    state.all = true;
    draw(state.list, "");
    at("recommendations").children[SHOWN]?.querySelector("a").focus();
  });
  at("jump").addEventListener("click", () => {
    at("panel").scrollIntoView({ block: "start" });
    at("panel").focus({ preventScroll: true });
  });
  new IntersectionObserver(([entry]) => {
    at("jump").classList.toggle("away", entry.isIntersecting);
  }).observe(at("recommendations"));
}

function setPlaysOfNobody() {
  state.who = null;
  state.all = false;
  setPlays([]);
}
