"""The neighbours of each track: what the same people like, by the model.

    python -m jobs.similar --work data

Makes similar.parquet: the 100 tracks whose vectors have the largest cosine with the track's own. A
track without a listen has no vector and so no neighbours. Up to 50,000 tracks the lists are exact.
With more, tracks are searched for in the nearest of some 4 sqrt(n) cells (faiss, inverted lists of
16-bit numbers), in as many of them as it takes to find 98.5 % of the neighbours of 1,000 tracks
drawn at random; what that gives for 1,000 others is printed. In a window that is of a sample of the
users 85 % are enough: few listens say little of most tracks there, and nobody is served.
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
    ids, how, lists = track_ids[known], "exact", neighbours.exact_lists(unit)
    if len(known) > neighbours.MOST_EXACT:
        faiss.omp_set_num_threads(parallel.threads())
        index = neighbours.make_index(unit)
        sampled = splitting.users_share(work) < 1
        found = neighbours.choose_cells(
            index, unit, neighbours.ENOUGH_OF_SAMPLE if sampled else neighbours.ENOUGH
        )
        how = f"recall@100 {found:.4f} by {index.nprobe} of {index.nlist:,} cells"
        lists = neighbours.near_lists(index, unit)
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
