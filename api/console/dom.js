// Elements, names and numbers. Text from the service only becomes text nodes, never markup.

/** Make an element. Functions are listeners, true and false add or leave out an attribute. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const WHOLE = new Intl.NumberFormat("en");
export const whole = (number) => (number === null ? "–" : WHOLE.format(number));
export const decimal = (number, digits = 4) =>
  typeof number === "number" && Number.isFinite(number) ? number.toFixed(digits) : "–";

/** Return "1 track" or "2,000 tracks". */
export const count = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

export function bytes(number) {
  if (number === null) return "–";
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (number >= 1000 && at < units.length - 1) {
    number /= 1000;
    at += 1;
  }
  return `${at ? number.toFixed(number < 100 ? 1 : 0) : number} ${units[at]}`;
}

/** Return a moment as "2022-12-31 20:10"; the time is left out at midnight, the zone is UTC. */
export function moment(text) {
  if (!text) return "–";
  const [day, time = ""] = text.split("T");
  return time.startsWith("00:00:00") ? day : `${day} ${time.slice(0, 5)}`.trim();
}

// Each name keeps its own direction, so a name in Arabic or Hebrew does not turn its neighbours.
export const name = (text) => h("bdi", {}, text);

const hasName = (track) => Boolean(track.name?.trim());
export const titleOf = (track) => (hasName(track) ? track.name : `Track ${track.track_id}`);
export const artistsOf = (track) => (track.artists ?? []).join(", ");

export function playLabel(track) {
  if (!hasName(track)) return `Play track ${track.track_id}`;
  const artists = artistsOf(track);
  return artists ? `Play ${track.name} by ${artists}` : `Play ${track.name}`;
}

let onPlay = () => {};
/** Say what happens when a track is played. */
export function whenPlayed(listener) {
  onPlay = listener;
}

export function playButton(track, withText = false) {
  return h(
    "button",
    {
      type: "button",
      class: withText ? "primary with-icon" : "play",
      "aria-label": playLabel(track),
      title: withText ? null : "Play it here",
      click: () => onPlay(track),
    },
    h("span", { class: "triangle", "aria-hidden": "true" }),
    withText ? "Play" : "",
  );
}

export const trackLink = (track, text = titleOf(track)) =>
  h(
    "a",
    { href: `#/track/${encodeURIComponent(track.track_id)}`, class: hasName(track) ? "name" : "name unnamed", title: text },
    name(text),
  );

/**
 * Return the row of a track: what leads (a rank or a date), name and artists, and what is added
 * below or at the end.
 */
export function trackRow(track, { lead = null, below = null, end = null } = {}) {
  const artists = artistsOf(track);
  return h(
    "li",
    { class: "track", "data-track": track.track_id },
    lead === null ? null : h("span", { class: "lead" }, lead),
    h(
      "div",
      { class: "what" },
      trackLink(track),
      artists ? h("span", { class: "by", title: artists }, name(artists)) : null,
      below,
    ),
    end === null ? null : h("span", { class: "end" }, end),
    playButton(track),
  );
}

export const trackList = (rows, attributes = {}) =>
  h("ol", { class: "tracks", role: "list", ...attributes }, rows);

export const section = (title, note, ...content) =>
  h(
    "section",
    {},
    h("div", { class: "section-head" }, h("h2", {}, title), h("span", { class: "quiet small" }, note)),
    content,
  );

export const empty = (text) => h("p", { class: "quiet empty" }, text);

/** Return what a release that was made by an earlier version lacks, as a note. */
export function lacking(lacks, names) {
  const found = Object.entries(lacks).filter(([what]) => what in names);
  if (!found.length) return null;
  return h(
    "div",
    { class: "note" },
    found.map(([what, why]) => h("p", {}, h("strong", {}, `${names[what]} `), why)),
  );
}

/** Ask before something is changed; resolve to whether it was confirmed. */
export function confirmed(title, text, action) {
  const dialog = document.getElementById("dialog");
  document.getElementById("dialog-title").textContent = title;
  document.getElementById("dialog-text").textContent = text;
  const yes = document.getElementById("dialog-yes");
  yes.textContent = action;
  return new Promise((resolve) => {
    yes.onclick = () => dialog.close("yes");
    document.getElementById("dialog-no").onclick = () => dialog.close("");
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    dialog.returnValue = "";
    dialog.showModal();
  });
}
