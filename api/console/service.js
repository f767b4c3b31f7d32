// The service: what this one process did between two looks at its metrics.

import { call } from "./calls.js";
import { count, h, moment, section, whole } from "./dom.js";
import { problemView } from "./problem.js";

const SECONDS = 2; // between two looks
const LOOKS = 60; // in the chart
const OWN = new Set(["/metrics", "/health/ready", "/freshness", "/health/live"]); // not counted as requests
const TIMES = "reco_request_seconds";

export async function serviceView() {
  const place = h("div", { class: "looks" });
  const history = [];
  let [timer, before, paused] = [null, null, false];

  async function look() {
    if (!place.isConnected && before) return; // another page is shown
    try {
      const now = await takeLook();
      if (before && now.process !== before.process) history.length = 0;
      const span = before && now.process === before.process ? between(before, now) : null;
      if (span) history.push(span.rate);
      history.splice(0, history.length - LOOKS);
      place.replaceChildren(...drawLook(now, span, history));
      before = now;
    } catch (error) {
      if (!before) throw error;
      place.replaceChildren(problemView(error, look));
      return;
    }
    if (!paused) timer = setTimeout(look, SECONDS * 1000);
  }

  const pause = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  pause.addEventListener("click", () => {
    paused = !paused;
    clearTimeout(timer);
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) look();
  });
  await look();
  return [
    h(
      "div",
      { class: "view-head with-action" },
      h(
        "div",
        {},
        h("p", { class: "quiet small" }, "The service"),
        h("h1", { tabindex: "-1" }, "This process"),
        h("p", { class: "quiet" }, `A look every ${SECONDS} seconds. Other processes of the service count for themselves.`),
      ),
      pause,
    ),
    place,
  ];
}

/** Read the state and the metrics of the process. */
async function takeLook() {
  const [text, ready, fresh] = await Promise.all([
    call("metrics", {}, { text: true }),
    call("health/ready"),
    call("freshness"),
  ]);
  const values = new Map();
  const times = new Map(); // by route: the numbers of answers by the upper bound of their time
  for (const line of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const [, name, labels = "", value] = found;
    const route = /route="([^"]*)"/.exec(labels)?.[1];
    if (name === `${TIMES}_bucket`) {
      const bound = /le="([^"]*)"/.exec(labels)[1];
      const bounds = times.get(route) ?? [];
      bounds.push([bound === "+Inf" ? Infinity : Number(bound), Number(value)]);
      times.set(route, bounds);
    } else values.set(labels ? `${name}{${labels}}` : name, Number(value));
  }
  const process = values.get("reco_process_id") ?? values.get("process_start_time_seconds");
  return { at: performance.now() / 1000, ready, fresh, values, times, process };
}

/** Return the numbers of answers in each bucket, not added up. */
const buckets = (bounds = []) => bounds.map(([bound, number], at) => [bound, number - (at ? bounds[at - 1][1] : 0)]);

/** Return what happened between two looks: rates and times of answers, by route and of all. */
function between(before, now) {
  const seconds = now.at - before.at;
  const routes = [];
  const all = new Map();
  for (const [route, bounds] of now.times) {
    const earlier = new Map(buckets(before.times.get(route)));
    const counts = buckets(bounds).map(([bound, number]) => [bound, number - (earlier.get(bound) ?? 0)]);
    const number = counts.reduce((sum, [, one]) => sum + one, 0);
    if (!number) continue;
    const own = OWN.has(route);
    if (!own) for (const [bound, one] of counts) all.set(bound, (all.get(bound) ?? 0) + one);
    routes.push({ route, rate: number / seconds, p50: quantile(counts, 0.5), p99: quantile(counts, 0.99), own });
  }
  const counts = [...all];
  const number = counts.reduce((sum, [, one]) => sum + one, 0);
  const grown = (name) => (now.values.get(name) ?? 0) - (before.values.get(name) ?? 0);
  routes.sort((a, b) => a.own - b.own || b.rate - a.rate);
  return {
    seconds, routes, rate: number / seconds, p50: quantile(counts, 0.5), p99: quantile(counts, 0.99),
    events: grown("reco_events_total") / seconds,
  };
}

/** Return a quantile of a histogram, spread evenly within a bucket; null without an answer. */
function quantile(counts, share) {
  const total = counts.reduce((sum, [, number]) => sum + number, 0);
  if (!total) return null;
  let [below, passed] = [0, 0];
  for (const [bound, number] of counts) {
    if (passed + number >= share * total && number) {
      return bound === Infinity ? below : below + ((share * total - passed) / number) * (bound - below);
    }
    passed += number;
    below = bound;
  }
  return below;
}

function time(seconds) {
  if (seconds === null) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`;
}

const rate = (number) => (number >= 100 ? whole(Math.round(number)) : number.toFixed(1));

function drawLook(now, span, history) {
  const personal = now.values.get('reco_answers_total{kind="personal"}') ?? 0;
  const cold = now.values.get('reco_answers_total{kind="default"}') ?? 0;
  const share = (one) => (personal + cold ? `${((100 * one) / (personal + cold)).toFixed(1)} %` : "–");
  const note = span ? `over the last ${span.seconds.toFixed(1)} s` : "the next look gives rates";
  return [
    h(
      "dl",
      { class: "figures" },
      figure("Requests a second", span ? rate(span.rate) : "–", note),
      figure("Median time", span ? time(span.p50) : "–", "p50, from the buckets"),
      figure("Slowest 1 %", span ? time(span.p99) : "–", "p99, from the buckets"),
      figure("Events a second", span ? rate(span.events) : "–", `${count(now.values.get("reco_events_total") ?? 0, "event")} since the start`),
    ),
    section("Requests a second", history.length > 1 ? `last ${count(history.length, "look")}` : "", chart(history)),
    section(
      "Calls",
      "between two looks",
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Calls" },
        h(
          "table",
          {},
          h("thead", {}, h("tr", {}, ["Call", "A second", "p50", "p99"].map((text) => h("th", { scope: "col" }, text)))),
          h("tbody", {}, (span?.routes ?? []).map((one) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, one.route, one.own ? h("div", { class: "quiet small" }, "by this page") : ""),
              h("td", {}, rate(one.rate)),
              h("td", {}, time(one.p50)),
              h("td", {}, time(one.p99)),
            ),
          )),
        ),
      ),
    ),
    section(
      "State",
      "",
      h(
        "dl",
        { class: "facts four" },
        fact("Personal lists", personal + cold ? `${share(personal)} of ${whole(personal + cold)}` : "no list yet"),
        fact("Cold lists", share(cold)),
        fact("Listeners with events", whole(now.ready.users_with_events)),
        fact("Journal", now.ready.journal),
        fact("Release", now.fresh.release, "long"),
        fact("Age", `${now.fresh.age_hours.toFixed(1)} h${now.fresh.stale ? ", stale" : ""}`),
        fact("Data until", moment(now.fresh.data_until)),
      ),
    ),
  ];
}

const figure = (term, value, note) =>
  h("div", {}, h("dt", {}, term), h("dd", {}, value), h("dd", { class: "quiet small" }, note));
const fact = (term, value, kind = "") => h("div", { class: kind }, h("dt", {}, term), h("dd", {}, value));

function chart(history) {
  const [width, height] = [720, 96];
  const most = Math.max(...history, 1);
  const shape = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const label = history.length > 1 ? `From ${rate(history[0])} to ${rate(history.at(-1))}, at most ${rate(Math.max(...history))}` : "No rate yet";
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, preserveAspectRatio: "none" })) shape.setAttribute(name, value);
  const bar = width / LOOKS;
  history.forEach((one, at) => {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const tall = Math.max((one / most) * height, 1);
    const x = (LOOKS - history.length + at) * bar;
    for (const [name, value] of Object.entries({ x: x + 1, y: height - tall, width: bar - 2, height: tall, rx: 1 })) rect.setAttribute(name, value);
    shape.append(rect);
  });
  return h("figure", { class: "chart" }, shape);
}
