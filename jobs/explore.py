"""Show what is in the prepared data: makes report/explore.html.

    python -m jobs.explore --work data

Reads the listens a block at a time: who listens how much, what is played, when, how often a pair
of user and track repeats, where the gaps are, what the catalogue lacks and what was left out.
"""

from collections.abc import Sequence

from jobs.contract import tables
from jobs.contract.storage import JobError
from jobs.contract.tables import ITEMS, USERS
from jobs.data.statistics import count
from jobs.reporting.data_page import (
    activity,
    catalogue,
    gaps,
    most_played,
    over_time,
    overview,
    quarantine,
    repeats,
)
from jobs.reporting.page import Page
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Count, then write the page."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("explore", args))
    users, items = tables.read(USERS, args.work), tables.read(ITEMS, args.work)
    counts = count(args.work, items["track_id"].to_numpy())
    if not counts.plays.any():
        raise JobError(f"{args.work / tables.LISTENS.file} holds no listens: nothing to describe")
    page = Page("What is in the data")
    overview(page, args.work, users, counts)
    activity(page, users, counts)
    over_time(page, counts)
    most_played(page, items, counts, len(users))
    repeats(page, counts)
    gaps(page, users, items, counts)
    catalogue(page, items, counts)
    quarantine(page, args.work)
    path = args.work / "report" / "explore.html"
    page.write(path)
    return f"{counts.plays.sum():,} listens of {len(users):,} users described in {path}"


if __name__ == "__main__":
    cli.run(main)
