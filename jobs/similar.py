"""List for each track the most similar tracks by the vectors of the ALS model.

    python -m jobs.similar --work data

Makes similar.parquet: for each track the 100 tracks whose vectors have the largest cosine with its
vector; equal cosines are in the order of ties (see contract/ids). A track without a listen has no
vector, so it has no neighbours.

Up to 50,000 tracks, all are compared with all. With more, tracks whose vectors point in the same
direction have the same neighbours, so each direction is searched for once (see models/directions).
If there are more than 50,000 directions, each is searched for only in the nearest of about
2 sqrt(n) cells (see models/neighbours). So many cells are searched that 98.5 % of the neighbours of
1,000 random tracks are found; the share for 1,000 other tracks is printed as recall@100. If more
than half of all vectors would have to be compared, all are compared with all. In a window made from
a sample of the users 93.5 % are enough, since its lists are only used for training and evaluation.
"""

from collections.abc import Sequence

import faiss
import numpy as np

from jobs.contract import compiling, tables
from jobs.contract.ids import ties_of
from jobs.data import splitting
from jobs.models import als_model, neighbours
from jobs.models.ranked_lists import rows_of
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make similar.parquet."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("similar", args))
    compiling.set_by_size(args.work)
    work = args.work
    n_users = tables.n_rows(tables.USERS, work)
    track_ids = tables.read(tables.ITEMS, work, ["track_id"])["track_id"].to_numpy()
    _, items = als_model.load(work, (n_users, len(track_ids)))
    known = np.flatnonzero(items.any(axis=1)).astype(np.int32)
    known = known[ties_of(track_ids[known]).at[:-1]]  # so that a tie goes to the lower row
    unit = items[known] / np.linalg.norm(items[known], axis=1, keepdims=True)
    unit *= als_model.certainty(work)[known, None]
    ids, how = track_ids[known], "exact"
    rows = np.argsort(ids)  # the file is in the order of ids
    del items  # frees as much memory as the unit vectors take
    if len(known) <= neighbours.MOST_COMPARED:
        lists = neighbours.exact_lists(unit, rows)
    else:
        faiss.omp_set_num_threads(parallel.threads())
        sampled = splitting.users_share(work) < 1
        enough = neighbours.ENOUGH_OF_SAMPLE if sampled else neighbours.ENOUGH
        lists, how = neighbours.direction_lists(unit, rows, enough)
    written = first = 0
    with tables.writer(tables.SIMILAR, work) as append:
        for found_items, scores in lists:
            block_ids = ids[rows[first : first + len(found_items)]]
            table = rows_of(tables.SIMILAR, block_ids, ids, found_items, scores)
            append(table)
            first, written = first + len(block_ids), written + len(table)
    return f"{written:,} rows for {len(known):,} tracks, {how}"


if __name__ == "__main__":
    cli.run(main)
