// Find: what is typed, or what is most played.

import { call, Refused } from "./calls.js";
import { count, empty, h, lacking, name, section, trackList, trackRow, whole } from "./dom.js";

const LONGEST = 256; // characters of what is looked for, as the call takes them
const LACKS = { search: "Search by name is missing in this release:" };

/** Return the view of what a text finds; without one, of what is most played. */
export async function findView(text, access) {
  const length = [...text].length;
  if (length > LONGEST) throw new Refused(400, `What is looked for has at most ${LONGEST} characters; this has ${length}.`);
  const found = await call("search", { q: text, limit: text ? 10 : 8 });
  const { tracks, artists, users } = found;
  const parts = [
    [tracks.length, "track"],
    [artists.length, "artist"],
    ...(users ? [[users.length, "listener"]] : []),
  ];
  const total = parts.filter(([number]) => number).map(([number, noun]) => count(number, noun)).join(", ");
  const nothing = text && parts.every(([number]) => !number);
  return [
    h(
      "div",
      { class: "view-head" },
      h("h1", { tabindex: "-1" }, text ? ["Results for “", name(text), "”"] : "Most played"),
      h("p", { class: "quiet", "aria-live": "polite" }, text ? total : "Tracks are in the order of the top list, artists by the plays of their tracks."),
    ),
    lacking(found.lacks, LACKS),
    nothing ? empty("Nothing begins with these words. Fewer or shorter words find more.") : null,
    tracks.length ? section("Tracks", "listeners", trackList(tracks.map(trackOf))) : null,
    artists.length ? section("Artists", "plays", artistList(artists)) : null,
    users?.length ? section(text ? "Listeners" : "Listeners drawn at random", "listens", listenerList(users)) : null,
    users === null && access.keys
      ? h("p", { class: "note" }, "Listeners are shown with the admin key or the key of the console only. ", h("a", { href: "#/key" }, "Enter a key"))
      : null,
  ];
}

const trackOf = (track) => trackRow(track, { end: whole(track.listeners) });

const artistList = (artists) =>
  h(
    "ul",
    { class: "rows", role: "list" },
    artists.map((artist) =>
      h(
        "li",
        {},
        h(
          "details",
          {},
          h(
            "summary",
            {},
            h("span", { class: "name" }, name(artist.name)),
            h("span", { class: "quiet" }, count(artist.tracks, "track")),
            h("span", { class: "end" }, whole(artist.plays)),
          ),
          trackList(artist.best.map((track) => trackRow(track))),
        ),
      ),
    ),
  );

const listenerList = (users) =>
  h(
    "ul",
    { class: "rows", role: "list" },
    users.map((user) =>
      h(
        "li",
        { class: "listener" },
        h("a", { class: "name", href: `#/listener/${encodeURIComponent(user.user_id)}` }, `Listener ${user.user_id}`),
        h("span", { class: "end" }, whole(user.listens)),
      ),
    ),
  );
