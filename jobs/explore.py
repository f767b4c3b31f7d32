"""Describe the prepared data on the pages report/explore.html and report/data.html.

    python -m jobs.explore --work data

Reads the listens a block at a time. The page shows who listens how much, what is played and when,
how often users repeat tracks, the gaps between listens, what the catalogue lacks, which accounts
play unlike a listener, and which input rows were left out. data.html is the same page without what
names users; a release has it.
"""

from collections.abc import Sequence

from jobs.contract import tables
from jobs.contract.names import REPORTS
from jobs.contract.storage import JobError
from jobs.contract.tables import ITEMS, USERS
from jobs.data.statistics import count
from jobs.reporting import data_page
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make report/explore.html and report/data.html."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("explore", args))
    users, items = tables.read(USERS, args.work), tables.read(ITEMS, args.work)
    counts = count(args.work, items["track_id"].to_numpy())
    if not counts.plays.any():
        raise JobError(f"{args.work / tables.LISTENS.file} holds no listens: nothing to describe")
    path = args.work / REPORTS / "explore.html"
    page = data_page.page(args.work, users, items, counts)
    page.write(path)
    page.write(path.with_name("data.html"), users=False)
    return f"{counts.plays.sum():,} listens of {len(users):,} users described in {path}"


if __name__ == "__main__":
    cli.run(main)
