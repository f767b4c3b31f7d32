"""The page that compares a new release with the one that was current."""

from collections.abc import Mapping

import pandas as pd

from jobs.contract.results import Change, MetricChange, ReleaseComparison
from jobs.releases.gate import MAX_DROP
from jobs.reporting.page import Interval, Page
from jobs.reporting.terms import metric_name


def page(content: ReleaseComparison) -> Page:
    """Return the page of a comparison: whether the new release may be served, and what changed."""
    result = Page("Release: what changed?")
    result.text(conclusion(content))
    overlap, tracks, users = content.overlap, content.tracks, content.users
    result.facts(
        {
            "of a user's first 10 tracks stayed": _share(overlap.first_10),
            "of a user's first 100 tracks stayed": _share(overlap.first_100),
            "tracks added": tracks.come,
            "tracks removed": tracks.gone,
            "users added": users.come,
            "users removed": users.gone,
        }
    )
    result.text(
        f"What stayed is the mean over {overlap.users:,} users with a final list in both "
        "releases: the share of the tracks that both lists have."
    )
    quality(result, content.metrics)
    result.heading("What the metrics were measured on")
    for note in content.notes:
        result.text(f"{note[0].upper()}{note[1:]}.")
    result.table(_table(content.report, "size"))
    result.heading("Rows of each file")
    result.table(_table(content.rows, "file"))
    return result


def conclusion(content: ReleaseComparison) -> str:
    """Return whether the new release may be served, and if not, why."""
    names = f"Release {content.new} was compared with {content.old}, which was current."
    if content.falls:
        return f"{names} It fell further than is allowed: {'; '.join(content.falls)}."
    limits = ", ".join(f"{_name(key)} by {share:.0%}" for key, share in MAX_DROP.items())
    return f"{names} Nothing fell by more than is allowed ({limits})."


def quality(page: Page, metrics: dict[str, MetricChange]) -> None:
    """Show the metrics, and NDCG with its intervals."""
    page.heading("Quality of the final list")
    page.text(
        "First 10 tracks, all users. Each release was tested on its own latest plays, so a "
        "difference can come from the plays as well."
    )
    page.table(_table({_name(key): pair for key, pair in metrics.items()}, "metric"))
    ndcg = metrics.get("ndcg")
    if ndcg and ndcg.old_interval and ndcg.new_interval:
        values = {
            "current": Interval(ndcg.old, *ndcg.old_interval, "plain"),
            "new": Interval(ndcg.new, *ndcg.new_interval),
        }
        page.intervals(values, "{:.4f}", "NDCG@10 with its 95 % interval")


def _name(key: str) -> str:
    """Return the name of what the gate looks at: a metric, or the rows of a file."""
    return key if key == "rows" else f"{metric_name(key)}@10"


def _table(pairs: Mapping[str, Change], first: str) -> pd.DataFrame:
    rows = [(name, pair.old, pair.new, _share(pair.change)) for name, pair in pairs.items()]
    return pd.DataFrame(rows, columns=[first, "current", "new", "change"])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
