// A track: who made it, how much it is played, what is near it.

import { call } from "./calls.js";
import { artistsOf, empty, h, lacking, moment, name, playButton, section, svg, titleOf, trackLink, trackList, trackRow, whole } from "./dom.js";

const NEAR = 20;
const LACKS = {
  artists: "Artists are missing in this release:",
  genres: "Genres are missing in this release:",
  counts: "Listeners, plays and the trend are missing in this release:",
};

export async function trackView(id) {
  const found = await call("tracks", { ids: id, near: NEAR });
  const [track] = found.tracks;
  if (!track) {
    const unknown = { track_id: id, name: null, artists: null };
    return [
      head(unknown, "The release that is served does not know this track."),
      h("p", {}, "It can be played all the same. It brings nothing until a release knows it."),
    ];
  }
  return [
    head(track, null),
    lacking(found.lacks, LACKS),
    track.shown_as === null
      ? null
      : h("p", { class: "note" }, "Lists show this song as ", trackLink({ track_id: track.shown_as, name: `track ${track.shown_as}` }), "."),
    h(
      "dl",
      { class: "facts" },
      fact("Listeners", whole(track.listeners)),
      fact("Plays", whole(track.plays)),
      fact("Place in the top list", track.top_rank === null ? "–" : whole(track.top_rank)),
      fact("Genres", track.genres?.length ? name(track.genres.join(", ")) : "–"),
      fact("Id", String(track.track_id)),
    ),
    track.trend ? section("Listens over time", "", chart(track.trend, found)) : null,
    h(
      "div",
      { class: "two" },
      near("Similar tracks", "by ALS vectors", track.similar),
      near("Played after it", "in the same session", track.next_played),
    ),
  ];
}

const head = (track, note) =>
  h(
    "div",
    { class: "view-head with-action" },
    h(
      "div",
      {},
      h("p", { class: "quiet small" }, "Track"),
      h("h1", { tabindex: "-1" }, name(titleOf(track))),
      h(
        "p",
        { class: "quiet" },
        note ??
          (track.artists === null
            ? "Artists unknown"
            : artistsOf(track)
              ? track.artists.map((artist, at) => [at ? ", " : "", h("a", { href: `#/find?q=${encodeURIComponent(artist.slice(0, 256))}` }, name(artist))])
              : "No named artist"),
      ),
    ),
    playButton(track, true),
  );

const fact = (term, value) => h("div", {}, h("dt", {}, term), h("dd", {}, value));

const near = (title, note, tracks) =>
  section(
    title,
    note,
    tracks.length
      ? trackList(tracks.map((track, place) => trackRow(track, { lead: String(place + 1) })))
      : empty("The release has none."),
  );

/** Return the bars of the trend: twelve equal parts of the time of the release. */
function chart(trend, { trend_from: from, trend_until: until }) {
  const [width, height, gap] = [48, 96, 4];
  const most = Math.max(...trend, 1);
  const bars = trend.map((listens, at) => {
    const tall = Math.max((listens / most) * height, 1);
    return svg("rect", { x: at * width + gap / 2, y: height - tall, width: width - gap, height: tall, rx: 2 });
  });
  const label = `Listens in twelve equal parts of the time, from the earliest: ${trend.join(", ")}`;
  return h(
    "figure",
    { class: "chart" },
    svg(
      "svg",
      { viewBox: `0 0 ${width * trend.length} ${height}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
      ...bars,
    ),
    h(
      "figcaption",
      { class: "quiet small" },
      h("span", {}, moment(from)),
      h("span", {}, `at most ${whole(Math.max(...trend))} in a part`),
      h("span", {}, moment(until)),
    ),
  );
}
