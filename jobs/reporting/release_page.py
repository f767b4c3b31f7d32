"""The page of a new release beside the one that was current."""

import pandas as pd

from jobs.releases.gate import MAX_DROP, Content
from jobs.reporting.page import Page, dots


def page(content: Content) -> Page:
    """Old against new: is it fit, how good, which rows, how much the lists changed."""
    result = Page("Release")
    result.text(conclusion(content))
    overlap = content["overlap"]
    result.facts(
        {
            "lists kept, first 10": _share(overlap["@10"]),
            "lists kept, first 100": _share(overlap["@100"]),
            "tracks come": content["tracks"]["come"],
            "tracks gone": content["tracks"]["gone"],
            "users come": content["users"]["come"],
            "users gone": content["users"]["gone"],
        }
    )
    quality(result, content["metrics"])
    result.heading("Rows")
    result.table(_table(content["rows"], "file"), "rows of each file")
    result.heading("Lists")
    result.text(
        f"Of the first 10 tracks of a user's list {_share(overlap['@10'])} are in both, of "
        f"the first 100 {_share(overlap['@100'])}: means over {overlap['users']:,} users with a "
        "list in both."
    )
    return result


def conclusion(content: Content) -> str:
    """Whether it may be served, and why not."""
    names = f"{content['new']} beside {content['old']}, which was current"
    if content["falls"]:
        return f"{names}: too much was lost. {'; '.join(content['falls'])}."
    most = (f"{name} by {share:.0%}" for name, share in MAX_DROP.items())
    return f"{names}: nothing fell by more than it may ({', '.join(most)})."


def quality(page: Page, metrics: Content) -> None:
    """The metrics, and NDCG with its intervals."""
    page.heading("Quality")
    page.text(
        "The final list at 10, each release on its own report window, so a difference may be "
        "one of the windows too."
    )
    page.table(_table(metrics, "metric at 10"), "all users")
    ndcg = metrics.get("ndcg", {})
    bounds = [ndcg.get(f"{name}_interval") for name in ("old", "new")]
    if None not in bounds and ndcg:
        values = [ndcg["old"], ndcg["new"]]
        figure = dots(["current", "new"], values, bounds, ["#8a94a6", "C0"], "{:.4f}")
        page.figure(figure, "NDCG@10 with 95 % intervals")


def _table(pairs: Content, first: str) -> pd.DataFrame:
    rows = [(name, of["old"], of["new"], _share(of["change"])) for name, of in pairs.items()]
    return pd.DataFrame(rows, columns=[first, "current", "new", "change"])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
