"""Learn how much a play of each track says for every other one, by the linear model EASE.

    python -m jobs.item_weights --work data

Makes item_weights.parquet: for each of the most played tracks the up to 200 tracks for which its
play says most (models/item_weights has the method). Only the most played tracks with at least 5
listeners are learned: 3,000, or as many as take 5,000 multiplications for each listen if that is
more, but at most 10,000. (The time grows with the third power of their number.) The plays are
counted for a sample of the users where counting all would take more than two billion
multiplications. Suspicious accounts that are left out don't count.
"""

from collections.abc import Sequence

import numpy as np

from jobs.contract import tables
from jobs.contract.ids import ties_of
from jobs.data import bounds, listens
from jobs.models import item_weights
from jobs.models.ranked_lists import rows_of
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make item_weights.parquet."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("item_weights", args))
    data = listens.load(args.work, timed=False, everyone=False)
    listeners = bounds.track_counts(data).listeners
    tracks = item_weights.learned_tracks(listeners, len(data.item), data.ties)
    ids = data.track_ids[tracks]
    learned = [block.pairs()[:, tracks].getnnz(axis=1) for block in data.blocks()]
    users = item_weights.learned_users(data.user_ids, np.concatenate(learned))
    plays = data.of_users(users).pairs()[:, tracks]
    written = first = 0
    with tables.writer(tables.ITEM_WEIGHTS, args.work) as append:
        for found, weights in item_weights.item_weights(plays, ties_of(ids)):
            block_ids = ids[first : first + len(found)]
            table = rows_of(tables.ITEM_WEIGHTS, block_ids, ids, found, weights)
            append(table)
            first, written = first + len(found), written + len(table)
    return f"{written:,} weights of {len(tracks):,} tracks, from {len(users):,} users"


if __name__ == "__main__":
    cli.run(main)
