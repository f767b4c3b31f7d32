"""The page that describes the prepared data."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.dates import ConciseDateFormatter

from jobs.contract import storage, tables, text_ids
from jobs.contract.names import KINDS
from jobs.contract.results import KindsOfRows
from jobs.contract.tables import QUARANTINE, SUSPICIOUS
from jobs.data import listens
from jobs.data.statistics import DAY, GAPS, PLAYS, Statistics
from jobs.reporting.page import WIDTH, Page, shortened

QUANTILES = (0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1)
TOP = 20  # most played tracks, artists and genres that are shown
MOST_ACCOUNTS = 50  # suspicious accounts that are shown
WEEKLY_FROM = 120  # days of data from which a point of the plot over time is a week


def page(work: Path, users: pa.Table, items: pa.Table, counts: Statistics) -> Page:
    """Return the page of the prepared data in WORK; counts are those of its listens."""
    result = Page("What is in the data")
    overview(result, work, users, counts)
    activity(result, users, counts)
    over_time(result, counts)
    most_played(result, items, counts, len(users))
    repeats(result, counts)
    gaps(result, users, items, counts)
    catalogue(result, items, counts)
    suspicious(result, work)
    kinds_of_rows(result, work)
    quarantine(result, work)
    return result


def overview(page: Page, work: Path, users: pa.Table, counts: Statistics) -> None:
    """Show the sizes."""
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
            "share of pairs with a listen": f"{counts.pairs / (len(users) * heard):.2%}",
            "input rows left out": tables.n_rows(QUARANTINE, work),
        }
    )


def activity(page: Page, users: pa.Table, counts: Statistics) -> None:
    """Show the listens per user and per track."""
    per_user, per_track = users["listens"].to_numpy(), counts.plays[counts.plays > 0]
    page.heading("Listens per user and per track")
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.5), layout="constrained")
    for axis, values, name in zip(axes, (per_user, per_track), ("user", "track"), strict=True):
        edges = 2 ** np.arange(int(values.max()).bit_length() + 1)
        height, _ = np.histogram(values, edges)
        axis.stairs(height, edges, fill=True, color="C0")
        axis.set_xscale("log")
        axis.set(xlabel=f"listens of a {name}", ylabel=f"number of {name}s")
    page.figure(figure, "Number of users and of tracks with 1, 2–3, 4–7, 8–15 … listens")
    table = pd.DataFrame({"quantile": [f"{q:.0%}" for q in QUANTILES]})
    for name, values in (("user", per_user), ("track", per_track)):
        table[f"listens per {name}"] = np.quantile(values, QUANTILES, method="nearest")
    page.table(table, "Quantiles: this share of the users, or of the tracks played, has at most")
    page.text(
        f"On average a user has {per_user.mean():,.1f} listens, and a track that was played at all "
        f"has {per_track.mean():,.1f}. The most played 1 % of these tracks have "
        f"{head_share(per_track):.0%} of all listens; the most active 1 % of the users have "
        f"{head_share(per_user):.0%}."
    )


def head_share(values: np.ndarray) -> float:
    """Return the share of the sum that the largest 1 % of the values (at least one) have."""
    head = max(1, len(values) // 100)
    return float(np.partition(values, -head)[-head:].sum() / values.sum())


def over_time(page: Page, counts: Statistics) -> None:
    """Show listens and active users by day, or by week where the data spans a long time."""
    days = np.array(sorted(counts.listens_on))
    span = int(days[-1] - days[0]) + 1
    step = 7 if span >= WEEKLY_FROM else 1
    edges = np.arange(days[0], days[-1] + step + 1, step)
    page.heading("Over time")
    if span == 1:
        page.text(f"All listens are from one day, {date(days[0])}.")
        return
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 4), sharex=True, layout="constrained")
    series = ((counts.listens_on, "listens a day"), (counts.users_on, "active users a day"))
    lengths = np.minimum(edges[1:], days[-1] + 1) - edges[:-1]  # the last week may be incomplete
    for axis, (counter, label) in zip(axes, series, strict=True):
        height, _ = np.histogram(days, edges, weights=[counter[int(day)] for day in days])
        axis.stairs(height / lengths, edges.astype("datetime64[D]"), fill=True, color="C0")
        axis.set(ylabel=label, ylim=(0, None))
    locator = axes[-1].xaxis.get_major_locator()
    axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    page.figure(figure, "Mean of each week" if step == 7 else "By day")
    page.text(f"{span - len(days):,} of {span:,} days have no listen{longest_gap(days)}.")


def longest_gap(days: np.ndarray) -> str:
    """Return a clause about the longest run of days without a listen, or nothing."""
    empty = np.diff(days) - 1
    longest = int(empty.max())
    if not longest:
        return ""
    after = int(days[empty.argmax()])
    return f"; the longest gap of {longest:,} days begins on {date(after + 1)}"


def most_played(page: Page, items: pa.Table, counts: Statistics, n_users: int) -> None:
    """Show the most played tracks, artists and genres, by name."""
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
                "share of users": [f"{n / n_users:.2%}" for n in counts.listeners[best]],
                "listens": counts.plays[best],
            }
        ),
        f"The {len(best)} tracks with most listeners",
    )
    for column, name in (("artist_names", "artist"), ("genre_names", "genre")):
        table = by_name(items[column], counts.plays)
        if table.empty:
            page.text(f"No track that was played has a named {name}.")
            continue
        shares = table["listens"] / counts.plays.sum()
        page.bars(
            dict(zip(table["name"], shares, strict=True)),
            "{:.2%}",
            f"Share of listens by the track's {name}; a track counts for each of its {name}s",
        )


def by_name(names: pa.ChunkedArray, plays: np.ndarray) -> pd.DataFrame:
    """Return the TOP names by listens; `names` has a list for each track.

    Artists or genres of the same name are counted together.
    """
    names = names.combine_chunks()
    parent = pc.list_parent_indices(names).to_numpy()
    table = pa.table({"name": pc.list_flatten(names), "listens": plays[parent]})
    table = table.filter(pc.greater(table["listens"], 0)).group_by("name")
    table = table.aggregate([("listens", "sum")])
    table = table.sort_by([("listens_sum", "descending"), ("name", "ascending")])[:TOP]
    return table.to_pandas().set_axis(["name", "listens"], axis=1)


def repeats(page: Page, counts: Statistics) -> None:
    """Show how often users play a track again."""
    listens = int(counts.plays.sum())
    page.heading("Repeats")
    if counts.pairs == listens:
        page.text("No user played a track twice.")
        return
    page.text(
        f"{1 - counts.pairs / listens:.1%} of the listens repeat a track that the user had played "
        "before. The option --heard of run_all.sh decides whether such tracks may be recommended."
    )
    page.table(share_table("plays of a track by a user", PLAYS, counts.plays_of_pair, "pairs"))


def gaps(page: Page, users: pa.Table, items: pa.Table, counts: Statistics) -> None:
    """Show the time between listens, how long users stay, and unused ids."""
    page.heading("Gaps")
    page.bars(
        dict(zip(GAPS, counts.gaps.tolist(), strict=True)),
        "{:,}",
        "Time from a listen of a user to the next one, by number of listens",
    )
    last = users["last_at"].cast(pa.int64()).to_numpy()
    life = (last - np.concatenate(counts.first_at)) / DAY
    span = (last.max() - min(int(first.min()) for first in counts.first_at)) / DAY
    page.text(
        f"Between a user's first and last listen lie {np.median(life):,.1f} days in the median; "
        f"the data spans {span:,.1f} days. For {(life < 1).mean():.0%} of the users it is less "
        "than a day."
    )
    ids = {"user": users["user_id"].to_numpy(), "track": items["track_id"].to_numpy()}
    table = pd.DataFrame(
        {
            "ids of": [f"{name}s" for name in ids],
            "lowest": [str(values.min()) for values in ids.values()],
            "highest": [str(values.max()) for values in ids.values()],
            "used": [len(values) for values in ids.values()],
            "unused in between": [int(v.max() - v.min()) + 1 - len(v) for v in ids.values()],
        }
    )
    page.table(table, "Which ids are used", page="with users")


def catalogue(page: Page, items: pa.Table, counts: Statistics) -> None:
    """Show what tracks lack."""
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
                "share of tracks": [f"{lack.mean():.2%}" for lack in lacks.values()],
                "listens of them": [int(counts.plays[lack].sum()) for lack in lacks.values()],
            }
        )
    )
    per_track = np.bincount(np.minimum(lengths(items["genre_ids"]), 5), minlength=6)
    names = {("5 or more" if n == 5 else str(n)): n for n in range(6)}
    page.table(share_table("number of genres", names, per_track, "tracks"), "Genres of a track")


def lengths(lists: pa.ChunkedArray) -> np.ndarray:
    """Return the length of each list; a null counts as 0."""
    result: np.ndarray = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return result


def suspicious(page: Page, work: Path) -> None:
    """Name the accounts that do not play as a listener does, with the reason."""
    found = listens.read_suspicious(work)
    page.heading("Accounts that play unlike a listener")
    if not len(found):
        page.text("No account was found that plays unlike a listener.")
        return
    left_out = found["left_out"].to_pylist()
    page.text(
        f"{len(found):,} accounts have a habit that no listener has. "
        + (
            "They are left out of what all users get, such as the top list, but they still get "
            "lists of their own. The option --suspicious keep counts them as all others."
            if all(left_out)
            else "They count as all others, since --suspicious is keep, or since they are so many "
            "that the rules do not fit the data."
        )
    )
    rows = found.sort_by([("value", "descending"), ("user_id", "ascending")]).slice(
        0, MOST_ACCOUNTS
    )
    page.table(
        pd.DataFrame(
            {
                "user_id": [str(user) for user in ids_of(rows["user_id"], work)],
                "plays": rows["value"].to_numpy(),
                "reason": rows["reason"].to_pylist(),
            }
        ),
        f"The {len(rows)} accounts with most such plays, of {len(found):,} in {SUSPICIOUS.file}",
        page="with users",
    )


def kinds_of_rows(page: Page, work: Path) -> None:
    """Show how many rows are listens, skips, likes and so on, where the input says so."""
    if not (work / KINDS).exists():
        return
    found = storage.read_json(work / KINDS, "jobs.prepare", KindsOfRows)
    page.heading("Kinds of rows")
    rows = np.array([*found.rows.values()])
    page.table(share_table("kind", found.rows, rows, "rows"), "Rows that could be used, by kind")
    page.text(
        f"{found.skips_by_share:,} of the skips are listens of which less than "
        f"{found.skip_under:.0%} of the track was played. Of {found.shares:,} of "
        f"{found.rows['listen']:,} listens it is known how much was played."
    )


def ids_of(users: pa.ChunkedArray, work: Path) -> list[int | str]:
    """Return the ids of users as they are in files, by the numbers that they have in jobs."""
    known = text_ids.of(work).users
    found: list[int | str] = (
        users if known is None else known.written(users.combine_chunks())
    ).to_pylist()
    return found


def quarantine(page: Page, work: Path) -> None:
    """Show the input rows that were left out, by file and reason, with an example of each."""
    page.heading("Input rows left out")
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for batch in tables.batches(QUARANTINE, work, ["file", "reason", "content"]):
        groups = pa.Table.from_batches([batch]).group_by(["file", "reason"], use_threads=False)
        for group in groups.aggregate([("content", "first"), ([], "count_all")]).to_pylist():
            key = group["file"], group["reason"]
            counts[key] += group["count_all"]
            first.setdefault(key, group["content_first"])
    if not counts:
        page.text("No row of the input was left out.")
        return
    rows = [(*key, count, shortened(first[key], 200)) for key, count in counts.most_common()]
    table = pd.DataFrame(rows, columns=["file", "reason", "rows", "example"])
    page.table(table, page="with users")
    page.table(table.drop(columns="example"), page="without users")


def share_table(title: str, names: Iterable[str], values: np.ndarray, unit: str) -> pd.DataFrame:
    """Return a table of names, their counts and their shares."""
    shares = [f"{share:.2%}" for share in values / max(1, values.sum())]
    return pd.DataFrame({title: list(names), unit: values, "share": shares})


def joined(names: Sequence[str] | None) -> str | None:
    """Return names in one line, or None if there are none."""
    return ", ".join(names) if names else None


def date(day: int) -> str:
    """Return the date of a day, counted since 1970-01-01."""
    return str(np.datetime64(int(day), "D"))
