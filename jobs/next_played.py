"""List the tracks that people play soon after each track.

    python -m jobs.next_played --work data

Makes next_played.parquet, with up to 100 tracks for each track, and followers.parquet, which has up
to 1,000 and one more column, for the ranker. After each listen, the next 20 plays of the same user
are counted; the first counts 1, and each further one 0.9 times the one before. The sums are divided
by powers of how often the two tracks are played, so that popular tracks don't follow everything
(models/next_played has an example). With next_recency, older listens count less. A user's plays of
one track count as at most 20, and all plays of a user weigh at most a hundredth of all (see
data/bounds). Suspicious accounts that are left out don't count.
"""

from collections.abc import Sequence

import pyarrow.compute as pc

from jobs.contract import compiling
from jobs.contract.names import LIST_LENGTH
from jobs.contract.tables import FOLLOWERS, NEXT_PLAYED, writer
from jobs.data import listens
from jobs.models import hyperparameters
from jobs.models.next_played import follower_tables
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make followers.parquet and next_played.parquet."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("next_played", args))
    compiling.set_by_size(args.work)
    work = args.work
    settings = hyperparameters.load(work)
    data = listens.load(work, timed=settings.next_recency is not None, everyone=False)
    tracks = written = kept = 0
    with (
        writer(FOLLOWERS, work) as append,
        writer(NEXT_PLAYED, work) as append_short,
    ):
        for table in follower_tables(data, settings):
            short = table.filter(pc.less_equal(table["rank"], LIST_LENGTH))
            append(table)
            append_short(short)
            tracks += pc.count_distinct(short["track_id"]).as_py()
            written, kept = written + len(short), kept + len(table)
    return f"{written:,} rows for {tracks:,} tracks; {kept:,} for the ranker"


if __name__ == "__main__":
    cli.run(main)
