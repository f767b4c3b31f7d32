// The release: which one is served, how good it is beside the one before, its reports, and others.

import { call } from "./calls.js";
import { bytes, confirmed, decimal, empty, h, moment, section, whole } from "./dom.js";
import { problemView, sentence } from "./problem.js";

const METRICS = [
  ["ndcg", "NDCG"], ["recall", "Recall"], ["precision", "Precision"], ["map", "MAP"], ["hit", "Hit rate"],
  ["coverage", "Coverage"], ["diversity", "Diversity"], ["novelty", "Novelty"], ["serendipity", "Serendipity"],
  ["popularity", "Popularity"],
];
const FINAL = "final list";

export async function releaseView(access, changed) {
  const { releases } = await call("releases");
  const served = releases.find((one) => one.served);
  const others = releases.filter((one) => one !== served);
  const before = releases.find((one) => one.previous && one !== served) ?? releases[releases.indexOf(served) + 1];
  return [
    h(
      "div",
      { class: "view-head" },
      h("p", { class: "quiet small" }, "The release that is served"),
      h("h1", { tabindex: "-1" }, served ? served.release : "Unknown"),
      h("p", { class: "quiet" }, served ? origin(served) : "The served release is not in the work folder any more, or none is served."),
    ),
    served?.problem ? h("p", { class: "note" }, sentence(served.problem)) : null,
    served ? facts(served) : null,
    served ? metrics(served, before) : null,
    served ? reports(served) : null,
    section(
      "Other releases",
      others.length ? `${others.length}` : "",
      others.length
        ? h("ul", { class: "releases", role: "list" }, others.map((one) => card(one, access, changed)))
        : empty("There is no other release in the work folder."),
    ),
    served && !served.current ? section("To make it current", "", h("p", { class: "quiet" }, "The service never moves the link current. This command does; a service that follows it, or /load_recommendations, then loads the release."), command(served)) : null,
  ];
}

const origin = (one) =>
  one.created_at ? `Made ${moment(one.created_at)} UTC from listens until ${moment(one.data_until)}` : "";

const facts = (one) =>
  h(
    "dl",
    { class: "facts" },
    fact("Users", whole(one.rows["users.parquet"] ?? null)),
    fact("Tracks", whole(one.rows["items.parquet"] ?? null)),
    fact("Listens", whole(one.rows["listens.parquet"] ?? null)),
    fact("Size", bytes(one.size)),
    fact("Links", h("span", { class: "marks" }, badges(one))),
  );

const fact = (term, value) => h("div", {}, h("dt", {}, term), h("dd", {}, value));

function badges(one) {
  const names = ["served", "current", "previous"].filter((link) => one[link]);
  return names.map((link) => h("span", { class: "badge" }, link));
}

/** Return the metrics of the served release beside those of the one before. */
function metrics(served, before) {
  const now = served.metrics[FINAL] ?? {};
  const then = before?.metrics[FINAL];
  const rows = METRICS.filter(([id]) => id in now);
  if (!rows.length) return section("How good its lists are", "", empty("The release has no metrics."));
  const head = ["Metric of the first 10", "Final list", ...(then ? ["Previous", "Change"] : []), "Personal ALS", "Top list"];
  const interval = served.intervals[FINAL];
  return section(
    "How good its lists are",
    then ? `previous: ${before.release}` : "no previous release with metrics",
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Metrics" },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
        h(
          "tbody",
          {},
          rows.map(([id, title]) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, title),
              h("td", {}, h("strong", {}, decimal(now[id]))),
              then ? [h("td", {}, decimal(then[id])), h("td", {}, change(now[id], then[id]))] : null,
              h("td", { class: "quiet" }, decimal(served.metrics["personal ALS"]?.[id])),
              h("td", { class: "quiet" }, decimal(served.metrics["top popular"]?.[id])),
            ),
          ),
        ),
      ),
    ),
    interval ? h("p", { class: "quiet small" }, `95 % interval of NDCG of the final list: ${decimal(interval[0])} to ${decimal(interval[1])}.`) : null,
  );
}

function change(now, then) {
  if (typeof now !== "number" || typeof then !== "number") return "–";
  const difference = now - then;
  return Math.abs(difference) < 0.00005 ? "0" : `${difference > 0 ? "+" : "−"}${Math.abs(difference).toFixed(4)}`;
}

/** Return buttons for the reports, and the frame in which one is shown, without scripts. */
function reports(served) {
  if (!served.reports.length) {
    return section("Reports of the run", "", empty("This release has no reports: it was made by an earlier version, or without them."));
  }
  const place = h("div", { class: "report" });
  async function show({ name, title }, button) {
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    try {
      // asked for anew, because where keys are set an address opens a report for ten minutes only
      const { releases } = await call("releases");
      const now = releases.find((one) => one.release === served.release);
      const path = now?.reports.find((report) => report.name === name)?.path;
      if (!path) throw new Error("This report is not in the release any more.");
      place.replaceChildren(
        h("iframe", { src: path, title, sandbox: "", referrerpolicy: "no-referrer" }),
        h("p", {}, h("a", { href: path, target: "_blank", rel: "noopener noreferrer" }, "Open this report alone")),
      );
    } catch (error) {
      place.replaceChildren(problemView(error, () => show({ name, title }, button)));
    }
  }
  const buttons = served.reports.map((report) =>
    h("button", { type: "button", "aria-pressed": "false", click: (event) => show(report, event.currentTarget) }, report.title),
  );
  return section("Reports of the run", "", h("div", { class: "buttons" }, buttons), place);
}

function card(one, access, changed) {
  const said = h("p", { class: "wrong", role: "alert" });
  async function serve() {
    const sure = await confirmed(
      `Serve ${one.release} here?`,
      "This process serves it until the next load. Other processes and the link current stay as they are.",
      "Serve it here",
    );
    if (!sure) return;
    said.textContent = "";
    try {
      await call("load_recommendations", { release: one.release }, { method: "POST" });
      changed();
    } catch (error) {
      said.textContent = sentence(error.message);
    }
  }
  return h(
    "li",
    {},
    h(
      "div",
      { class: "release-head" },
      h("h3", {}, one.release),
      h("span", { class: "marks" }, badges(one)),
    ),
    h(
      "p",
      { class: "quiet" },
      one.problem
        ? sentence(one.problem)
        : `${origin(one)} · NDCG ${decimal(one.metrics[FINAL]?.ndcg)} · ${bytes(one.size)}`,
    ),
    one.problem || !access.admin
      ? null
      : h("div", { class: "buttons" }, h("button", { type: "button", click: serve, "aria-label": `Serve here …: ${one.release}` }, "Serve here …")),
    access.admin ? null : h("p", { class: "quiet small" }, "Serving another release needs the admin key."),
    said,
    one.current || !one.command ? null : h("details", {}, h("summary", {}, "Command that makes it current"), command(one)),
  );
}

function command(one) {
  const code = h("code", { tabindex: "0" }, one.command);
  const copy = h("button", { type: "button", "aria-label": `Copy the command for ${one.release}` }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(one.command);
    } catch {
      // the browser does not allow it: what is selected can be copied by hand
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected";
      copy.removeAttribute("aria-label");
      return;
    }
    copy.textContent = "Copied";
    copy.removeAttribute("aria-label");
  });
  return h("div", { class: "command" }, code, navigator.clipboard ? copy : null);
}
