"""List for each track the most similar tracks by the vectors of the ALS model.

    python -m jobs.similar --work data

Makes similar.parquet: the 100 tracks whose vectors have the largest cosine with the track's own,
equal cosines in the order of tracks. A track without a listen has no vector and so no neighbours.

Up to 50,000 tracks all are compared with all. With more, tracks whose vectors have one direction
(see models/directions) are searched for once. If more than 50,000 directions are left, each is
searched for in the nearest of some 4 sqrt(n) cells (faiss, inverted lists of 16-bit numbers), in as
many cells as it takes to find 98.5 % of the neighbours of 1,000 tracks drawn at random; the recall
of 1,000 others is printed. Where that would mean to look at more than a fifth of the vectors, all
are compared with all, which then costs less. In a window that is made of a sample of the users 85 %
are enough: few listens say little of most tracks there, and its lists are not served.
"""

from collections.abc import Sequence

import faiss
import numpy as np

from jobs.contract import tables
from jobs.data import splitting
from jobs.models import als_model, neighbours
from jobs.models.ranked_lists import rows_of
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make similar.parquet."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("similar", args))
    work = args.work
    n_users = tables.n_rows(tables.USERS, work)
    track_ids = tables.read(tables.ITEMS, work, ["track_id"])["track_id"].to_numpy()
    _, items = als_model.load(work, (n_users, len(track_ids)))
    known = np.flatnonzero(items.any(axis=1)).astype(np.int32)
    unit = items[known] / np.linalg.norm(items[known], axis=1, keepdims=True)
    ids, how = track_ids[known], "exact"
    del items  # as large as the unit vectors
    if len(known) <= neighbours.MOST_COMPARED:
        lists = neighbours.exact_lists(unit)
    else:
        faiss.omp_set_num_threads(parallel.threads())
        sampled = splitting.users_share(work) < 1
        enough = neighbours.ENOUGH_OF_SAMPLE if sampled else neighbours.ENOUGH
        lists, how = neighbours.direction_lists(unit, enough)
    written = first = 0
    with tables.writer(tables.SIMILAR, work) as append:
        for found_items, scores in lists:
            some = ids[first : first + len(found_items)]
            table = rows_of(tables.SIMILAR, some, ids, found_items, scores)
            append(table)
            first, written = first + len(some), written + len(table)
    return f"{written:,} rows for {len(known):,} tracks, {how}"


if __name__ == "__main__":
    cli.run(main)
