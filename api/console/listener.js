// A listener: what they played, the final list, and what each generator proposes.

import { call } from "./calls.js";
import { count, empty, h, moment, name, trackList, trackRow, whole } from "./dom.js";
import { problemView } from "./problem.js";

// Names of generators as people read them, and when a track scores, as in docs/how-it-works.md.
const GENERATORS = {
  popular: ["Top list", "Many people play these tracks."],
  forecast: ["Forecast", "Most listeners are expected to play these tracks for the first time soon."],
  als: ["ALS", "The tracks' ALS vectors point where the listener's does."],
  next_played: ["Next played", "People play these tracks soon after those that the listener played."],
  after_last: ["After the last", "People play these tracks soon after the listener's very last plays."],
  similar: ["Similar", "The tracks' ALS vectors are near those of tracks that the listener played."],
  artist: ["Same artists", "The tracks are by artists that the listener played."],
  user_knn: ["Similar users", "Listeners with a similar taste have played these tracks."],
  sequence_knn: [
    "Similar sequences",
    "Listeners played these tracks next where they had played the same as this listener lately.",
  ],
  ease: ["Item weights", "The tracks that the listener played speak for these tracks."],
  replayed: ["Replayed", "The listener has played these tracks before."],
  new_tracks: ["New tracks", "Nobody has played these tracks yet; their predicted ALS vectors fit the listener."],
};
const PAGE = 50;

export async function listenerView(id) {
  // The history is there at once. The lists take longer, and are asked for beside it.
  const found = await call("user", { user_id: id, limit: PAGE, lists: false });
  const known = found.known
    ? `${count(found.listens, "listen")} in the release, dates in UTC`
    : "The release has nothing of this listener. They are recommended what someone new is.";
  const live = found.events.length ? ` · ${count(found.events.length, "live event")}` : "";

  let asked = null;
  function lists() {
    asked ??= call("user", { user_id: id, limit: 1 }).catch((error) => {
      asked = null; // so that it can be tried again
      throw error;
    });
    return asked;
  }

  return [
    h(
      "div",
      { class: "view-head" },
      h("h1", { tabindex: "-1" }, `Listener ${id}`),
      h("p", { class: "quiet" }, known + live),
    ),
    tabs(
      [
        { id: "history", title: "History", number: found.listens, draw: () => history(id, found) },
        { id: "events", title: "Live events", number: found.events.length, draw: () => events(found) },
        { id: "final", title: "Final list", draw: async () => final(await lists()) },
        ...Object.keys(GENERATORS).map((one) => ({
          id: one,
          title: titleOfGenerator(one),
          draw: async () => generator(one, await lists()),
        })),
      ],
      found.listens ? "history" : found.events.length ? "events" : "popular",
      lists,
    ),
  ];
}

const titleOfGenerator = (one) => GENERATORS[one]?.[0] ?? one;

function history(id, found) {
  if (found.lacks.history) {
    const note = h("p", { class: "note" }, `Dates are missing: ${found.lacks.history}`);
    return [note, historyList(id, found)];
  }
  return found.history.length ? [historyList(id, found)] : [empty("No listen yet.")];
}

function historyList(id, found) {
  const list = trackList(found.history.map(listen), { class: "tracks dated" });
  const place = h("div", {}, list);
  const problem = h("div");
  let next = found.next_offset;
  const more = h("button", { type: "button", class: "wide" }, "Show older listens");
  more.addEventListener("click", async () => {
    more.disabled = true;
    problem.replaceChildren();
    try {
      const page = await call("user", { user_id: id, offset: next, limit: PAGE, lists: false });
      const rows = page.history.map(listen);
      list.append(...rows);
      rows[0]?.querySelector("a").focus();
      next = page.next_offset;
      more.hidden = next === null;
    } catch (error) {
      problem.replaceChildren(problemView(error, () => more.click()));
    }
    more.disabled = false;
  });
  more.hidden = next === null;
  place.append(more, problem);
  return place;
}

const listen = (one) =>
  trackRow(one, {
    lead: h("time", { datetime: one.started_at ?? "" }, moment(one.started_at)),
    end: one.genres?.length ? name(one.genres.join(", ")) : "",
  });

const events = (found) =>
  found.events.length
    ? [trackList(found.events.map((track, place) => trackRow(track, { lead: String(place + 1) })))]
    : [empty("No event of this listener is stored.")];

/** Return the final list, each track with the generators that propose it and its place there. */
function final(found) {
  const places = new Map();
  for (const [one, tracks] of Object.entries(found.generators)) {
    if (found.left_out.includes(one)) continue;
    tracks.forEach((track, place) => {
      const marks = places.get(track.track_id) ?? [];
      places.set(track.track_id, [...marks, `${titleOfGenerator(one)} ${place + 1}`]);
    });
  }
  if (!found.final.length) return [empty("This listener has no final list. The top list stands in for it.")];
  return [
    h("p", { class: "quiet" }, "What the ranker made of all generators. Each mark names a generator that proposes the track, and its place there."),
    trackList(
      found.final.map((track, place) =>
        trackRow(track, {
          lead: String(place + 1),
          below: h("span", { class: "marks" }, (places.get(track.track_id) ?? []).map((mark) => h("span", { class: "badge" }, mark))),
        }),
      ),
    ),
  ];
}

function generator(one, found) {
  const about = GENERATORS[one]?.[1] ?? "";
  if (!(one in found.generators)) {
    return [empty(`${about} This list cannot be shown: ${found.lacks[one] ?? "the service does not have it"}.`)];
  }
  const tracks = found.generators[one];
  const places = new Map(found.final.map((track, place) => [track.track_id, place + 1]));
  const taken = tracks.filter((track) => places.has(track.track_id)).length;
  if (!tracks.length) return [empty(`${about} There is none for this listener.`)];
  const without = found.left_out.includes(one)
    ? h("p", { class: "note" }, "The ranker did without this list, since it was found not to help.")
    : "";
  return [
    without,
    h("p", { class: "quiet" }, found.final.length ? `${about} ${taken} of ${whole(tracks.length)} are in the final list.` : about),
    trackList(
      tracks.map((track, place) =>
        trackRow(track, {
          lead: String(place + 1),
          end: places.has(track.track_id) ? h("span", { class: "badge" }, `final ${places.get(track.track_id)}`) : "",
        }),
      ),
    ),
  ];
}

/**
 * Return tabs that the arrow keys move through; what a tab shows is made when it is chosen. The
 * numbers on the tabs of lists come with the lists.
 */
function tabs(all, first, lists) {
  const panel = h("div", { role: "tabpanel", id: "tab-panel", tabindex: "0" });
  const numbers = all.map((tab) => h("span", { class: "number" }, tab.number === undefined ? "" : whole(tab.number)));
  const buttons = all.map((tab, at) =>
    h(
      "button",
      { type: "button", role: "tab", id: `tab-${tab.id}`, "aria-controls": "tab-panel", click: () => choose(tab) },
      tab.title,
      numbers[at],
    ),
  );
  let chosen = 0;
  async function choose(tab) {
    const choice = ++chosen;
    for (const button of buttons) {
      const selected = button.id === `tab-${tab.id}`;
      button.setAttribute("aria-selected", String(selected));
      button.tabIndex = selected ? 0 : -1;
    }
    panel.setAttribute("aria-labelledby", `tab-${tab.id}`);
    panel.setAttribute("aria-busy", "true");
    let content;
    try {
      content = await tab.draw();
    } catch (error) {
      content = [problemView(error, () => choose(tab))];
    }
    if (choice !== chosen) return;
    panel.replaceChildren(...content);
    panel.removeAttribute("aria-busy");
  }
  const list = h("div", { role: "tablist", class: "tabs", "aria-label": "What is known of this listener" }, buttons);
  list.addEventListener("keydown", (event) => {
    const now = buttons.indexOf(document.activeElement);
    const last = buttons.length - 1;
    const to = { ArrowRight: now === last ? 0 : now + 1, ArrowLeft: now ? now - 1 : last, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(all[to]);
    buttons[to].focus();
  });
  choose(all.find((tab) => tab.id === first));
  lists().then(
    ({ final, generators }) =>
      all.forEach((tab, at) => {
        const list = tab.id === "final" ? final : generators[tab.id];
        if (list) numbers[at].textContent = whole(list.length);
      }),
    () => {}, // a tab of a list says so when it is chosen
  );
  return h("div", {}, list, panel);
}
