"""Rank the tracks by the plays of all users; recent plays count more.

    python -m jobs.top_popular --work data

Makes top_popular.parquet: every track with a listen. With a half-life a listen counts half as much
every so many days before the last one; without, the score is the number of listeners.
"""

from collections.abc import Sequence

from jobs.contract import tables
from jobs.data import listens
from jobs.models import hyperparameters
from jobs.models.popularity import popularity
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make top_popular.parquet."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("top_popular", args))
    work = args.work
    table = popularity(listens.load(work), hyperparameters.load(work).popular_half_life)
    tables.write(tables.TOP_POPULAR, work, table)
    return f"{len(table):,} tracks; the first has {table['listeners'][0].as_py():,} listeners"


if __name__ == "__main__":
    cli.run(main)
