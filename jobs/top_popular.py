"""Rank the tracks by what all users play.

    python -m jobs.top_popular --work data

Makes top_popular.parquet, which has every track with a listen. If the settings have no
popular_half_life, the score is the number of listeners. Otherwise it is the sum of
2 ^ (-age / popular_half_life) over the track's listeners, where age is the number of days from the
listener's last play of the track to the end of the data: with a half-life of 30 days, a listener
who last played it 60 days before counts 1/4. Suspicious accounts that are left out don't count.
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
    table = popularity(
        listens.load(work, everyone=False), hyperparameters.load(work).popular_half_life
    )
    tables.write(tables.TOP_POPULAR, work, table)
    return f"{len(table):,} tracks; the first has {table['listeners'][0].as_py():,} listeners"


if __name__ == "__main__":
    cli.run(main)
