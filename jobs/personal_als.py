"""List the tracks that the ALS model scores highest for each user.

    python -m jobs.personal_als --work data

Makes personal_als.parquet: the 100 tracks with the largest inner product with each user's vector.
The search is exact (see contract/top_k). If the settings have als_half_life or als_recency, the
vectors of the users are computed again from their plays, with the latest plays weighing most. A
user whose vector is zero gets no tracks, since all tracks would have the same score.

Makes new_tracks.parquet, too: the same for the tracks without a listen, whose vectors are predicted
(see models/content), with 20 tracks for each user. They are candidates for the final lists.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from jobs.contract import compiling, tables
from jobs.contract.names import LIST_LENGTH, NEW_LENGTH
from jobs.contract.top_k import NormOrder, top_k
from jobs.data import listens
from jobs.models import als_model, hyperparameters
from jobs.models.ranked_lists import rows_of
from jobs.runtime import cli, memory, parallel
from jobs.runtime.engine import in_blocks

USERS_A_BLOCK = 1024


def main(argv: Sequence[str]) -> str:
    """Make personal_als.parquet."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("personal_als", args))
    compiling.set_by_size(args.work)
    work, data = args.work, listens.load(args.work, timed=False)
    users, items = als_model.load(work, data.shape)
    settings = hyperparameters.load(work)
    certainty = als_model.certainty(work)
    order, gram = NormOrder.of(items, data.ties), als_model.gram(items, certainty)
    new = NormOrder.of(np.where((certainty < 1)[:, None], items, 0), data.ties)

    def lists(first: int, last: int) -> tuple[pa.Table, pa.Table]:
        block, tastes = data.of_users(np.arange(first, last)), users[first:last]
        if settings.folds_in:
            tastes = als_model.recent_tastes(block, items, gram, settings)
        out = block.kept_out(settings.heard)
        found, scores = top_k(tastes, order, LIST_LENGTH, out)
        found_new, new_scores = top_k(tastes, new, NEW_LENGTH, out)
        for of_list in (scores, new_scores):
            of_list[~tastes.any(axis=1)] = -np.inf
        ids = data.user_ids[first:last], data.track_ids
        return (
            rows_of(tables.PERSONAL_ALS, *ids, found, scores),
            rows_of(tables.NEW_TRACKS, *ids, found_new, new_scores),
        )

    written = 0
    with (
        tables.writer(tables.PERSONAL_ALS, work) as append,
        tables.writer(tables.NEW_TRACKS, work) as append_new,
    ):
        for table, of_new in in_blocks(lists, len(users), USERS_A_BLOCK, "personal_als"):
            append(table)
            append_new(of_new)
            written += len(table)
    of_tracks = f", from {len(new.items):,} new tracks too" if len(new.items) else ""
    return f"{written:,} rows for {len(users):,} users{of_tracks}"


if __name__ == "__main__":
    cli.run(main)
