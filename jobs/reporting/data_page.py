"""The page that shows what is in the prepared data."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import tables
from jobs.contract.tables import QUARANTINE
from jobs.data.statistics import DAY, GAPS, PLAYS, Statistics
from jobs.reporting.page import Page, bars, shortened

QUANTILES = (0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1)


TOP = 20  # rows of a list of the most played


WEEKLY_FROM = 120  # days of data from which it is shown by week


def overview(page: Page, work: Path, users: pa.Table, counts: Statistics) -> None:
    """The sizes."""
    listens, heard = int(counts.plays.sum()), int((counts.plays > 0).sum())
    days = sorted(counts.listens_on)
    page.facts(
        {
            "listens": listens,
            "users": len(users),
            "tracks with a listen": heard,
            "tracks in the catalogue": len(counts.plays),
            "first day": date(days[0]),
            "last day": date(days[-1]),
            "share of all pairs": f"{counts.pairs / (len(users) * heard):.2%}",
            "rows left out": tables.n_rows(QUARANTINE, work),
        }
    )


def activity(page: Page, users: pa.Table, counts: Statistics) -> None:
    """Listens per user and per track."""
    per_user, per_track = users["listens"].to_numpy(), counts.plays[counts.plays > 0]
    page.heading("Listens per user and per track")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for axis, values, name in zip(axes, (per_user, per_track), ("user", "track"), strict=True):
        edges = 2 ** np.arange(int(values.max()).bit_length() + 1)
        height, _ = np.histogram(values, edges)
        axis.stairs(height, edges, fill=True, color="C0")
        axis.set_xscale("log")
        axis.set(xlabel=f"listens of a {name}", ylabel=f"{name}s")
    page.figure(figure, "How many users and tracks have 1, 2–3, 4–7, 8–15 … listens")
    table = pd.DataFrame({"quantile": [f"{q:.0%}" for q in QUANTILES]})
    for name, values in (("user", per_user), ("track", per_track)):
        table[f"listens per {name}"] = np.quantile(values, QUANTILES, method="nearest")
    page.table(table)
    page.text(
        f"On average a user has {per_user.mean():,.1f} listens, a track that was played at all "
        f"{per_track.mean():,.1f}. The most played hundredth of these tracks has "
        f"{head_share(per_track):.0%} of all listens, the busiest hundredth of users "
        f"{head_share(per_user):.0%}."
    )


def head_share(values: np.ndarray) -> float:
    """What part of the sum the largest hundredth of the values (one at least) makes up."""
    head = max(1, len(values) // 100)
    return float(np.partition(values, -head)[-head:].sum() / values.sum())


def over_time(page: Page, counts: Statistics) -> None:
    """Listens and active users by day, or by week of a long time."""
    days = np.array(sorted(counts.listens_on))
    span = int(days[-1] - days[0]) + 1
    step, name = (7, "week") if span >= WEEKLY_FROM else (1, "day")
    edges = np.arange(days[0], days[-1] + step + 1, step)
    page.heading("Over time")
    if span == 1:
        page.text(f"All listens are of one day, {date(days[0])}.")
        return
    figure, axes = plt.subplots(2, 1, figsize=(9, 4.6), sharex=True, layout="constrained")
    series = ((counts.listens_on, "listens"), (counts.users_on, "active users a day"))
    for axis, (counter, label) in zip(axes, series, strict=True):
        height, _ = np.histogram(days, edges, weights=[counter[int(day)] for day in days])
        width = np.minimum(edges[1:], days[-1] + 1) - edges[:-1]  # the last week may be short
        scale = width if counter is counts.users_on else 1
        axis.stairs(height / scale, edges.astype("datetime64[D]"), fill=True, color="C0")
        axis.set(ylabel=label, ylim=(0, None))
    page.figure(figure, f"By {name}; the last {name} may not be whole")
    page.text(f"{span - len(days):,} of {span:,} days have no listen{longest_gap(days)}.")


def longest_gap(days: np.ndarray) -> str:
    """The longest run of days without a listen, in words."""
    empty = np.diff(days) - 1
    longest = int(empty.max())
    if not longest:
        return ""
    after = int(days[empty.argmax()])
    return f"; the longest gap, {longest:,} days, begins on {date(after + 1)}"


def most_played(page: Page, items: pa.Table, counts: Statistics, n_users: int) -> None:
    """Tracks, artists and genres, by name."""
    page.heading("Most played")
    best = np.lexsort((-counts.plays, -counts.listeners))[:TOP]
    best = best[counts.plays[best] > 0]
    rows = items.take(pa.array(best)).to_pylist()
    page.table(
        pd.DataFrame(
            {
                "track": [row["track_name"] for row in rows],
                "artist": [joined(row["artist_names"]) for row in rows],
                "genres": [joined(row["genre_names"]) for row in rows],
                "track_id": [str(row["track_id"]) for row in rows],
                "listeners": counts.listeners[best],
                "of all users": [f"{n / n_users:.2%}" for n in counts.listeners[best]],
                "listens": counts.plays[best],
            }
        ),
        "Tracks by listeners",
    )
    for column, name in (("artist_names", "artist"), ("genre_names", "genre")):
        table = by_name(items[column], counts.plays)
        if table.empty:
            page.text(f"No track that was played names its {name}.")
            continue
        shares = table["listens"].to_numpy() / counts.plays.sum()
        page.figure(bars(table["name"], shares, "{:.2%}"), f"Listens by {name} of the track")
    page.text("A track with several artists or genres counts for each; equal names count as one.")


def by_name(names: pa.ChunkedArray, plays: np.ndarray) -> pd.DataFrame:
    """The TOP names by listens; names has a list for each track."""
    names = names.combine_chunks()
    parent = pc.list_parent_indices(names).to_numpy()
    table = pa.table({"name": pc.list_flatten(names), "listens": plays[parent]})
    table = table.filter(pc.greater(table["listens"], 0)).group_by("name")
    table = table.aggregate([("listens", "sum")])
    table = table.sort_by([("listens_sum", "descending"), ("name", "ascending")])[:TOP]
    return table.to_pandas().set_axis(["name", "listens"], axis=1)


def repeats(page: Page, counts: Statistics) -> None:
    """How often a user plays a track again."""
    listens = int(counts.plays.sum())
    page.heading("Repeats")
    if counts.pairs == listens:
        page.text("No pair of user and track repeats: what a user has heard is never played again.")
        return
    page.text(
        f"{1 - counts.pairs / listens:.1%} of the listens repeat a pair of user and track: decide "
        "with --heard whether a track already heard may be recommended."
    )
    page.table(share_table("a user played a track", PLAYS, counts.plays_of_pair, "pairs"))


def gaps(page: Page, users: pa.Table, items: pa.Table, counts: Statistics) -> None:
    """Time between listens, how long users stay, ids that nobody has."""
    page.heading("Gaps")
    page.figure(bars(GAPS, counts.gaps, "{:,}"), "Time from a listen of a user to the next one")
    last = users["last_at"].cast(pa.int64()).to_numpy()
    life = (last - np.concatenate(counts.first_at)) / DAY
    span = (last.max() - min(int(first.min()) for first in counts.first_at)) / DAY
    page.text(
        f"From first to last listen a user stays {np.median(life):,.1f} days in the median, of "
        f"{span:,.1f} days in all; {(life < 1).mean():.0%} stay less than a day."
    )
    ids = {"user": users["user_id"].to_numpy(), "track": items["track_id"].to_numpy()}
    table = pd.DataFrame(
        {
            "ids of": list(ids),
            "from": [str(values.min()) for values in ids.values()],
            "to": [str(values.max()) for values in ids.values()],
            "used": [len(values) for values in ids.values()],
            "unused between": [int(v.max() - v.min()) + 1 - len(v) for v in ids.values()],
        }
    )
    page.table(table, "Ids")


def catalogue(page: Page, items: pa.Table, counts: Statistics) -> None:
    """What tracks lack."""
    heard = counts.plays > 0
    lacks = {
        "a name": items["track_name"].is_null().to_numpy(),
        "an artist": lengths(items["artist_ids"]) == 0,
        "names for all artists": lengths(items["artist_names"]) < lengths(items["artist_ids"]),
        "a genre": lengths(items["genre_ids"]) == 0,
        "names for all genres": lengths(items["genre_names"]) < lengths(items["genre_ids"]),
        "a listen": ~heard,
    }
    page.heading("What the catalogue lacks")
    page.table(
        pd.DataFrame(
            {
                "tracks without": list(lacks),
                "tracks": [int(lack.sum()) for lack in lacks.values()],
                "of all tracks": [f"{lack.mean():.2%}" for lack in lacks.values()],
                "their listens": [int(counts.plays[lack].sum()) for lack in lacks.values()],
            }
        )
    )
    per_track = np.bincount(np.minimum(lengths(items["genre_ids"]), 5), minlength=6)
    names = {("5 or more" if n == 5 else str(n)): n for n in range(6)}
    page.table(share_table("genres", names, per_track, "tracks"), "Genres of a track")


def lengths(lists: pa.ChunkedArray) -> np.ndarray:
    """The length of each list; a null has none."""
    result: np.ndarray = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return result


def quarantine(page: Page, work: Path) -> None:
    """Rows that were left out, by file and reason, with the first of each."""
    page.heading("Left out")
    found: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for batch in tables.batches(QUARANTINE, work, ["file", "reason", "content"]):
        groups = pa.Table.from_batches([batch]).group_by(["file", "reason"], use_threads=False)
        for group in groups.aggregate([("content", "first"), ([], "count_all")]).to_pylist():
            key = group["file"], group["reason"]
            found[key] += group["count_all"]
            first.setdefault(key, group["content_first"])
    if not found:
        page.text("No row of the input had to be left out.")
        return
    rows = [(*key, count, shortened(first[key], 200)) for key, count in found.most_common()]
    page.table(pd.DataFrame(rows, columns=["file", "reason", "rows", "the first"]))


def share_table(title: str, names: Iterable[str], values: np.ndarray, unit: str) -> pd.DataFrame:
    """A row a name: how many, and what part of all."""
    shares = [f"{share:.2%}" for share in values / max(1, values.sum())]
    return pd.DataFrame({title: list(names), unit: values, "share": shares})


def joined(names: Sequence[str] | None) -> str | None:
    """Names in one line, nothing for none."""
    return ", ".join(names) if names else None


def date(day: int) -> str:
    """The date of a day since 1970."""
    return str(np.datetime64(int(day), "D"))
