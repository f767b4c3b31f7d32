"""The neighbours of each track: what the same people like, by the model.

    python -m jobs.similar --work data

Makes similar.parquet: the 100 tracks whose vectors have the largest cosine with the track's own,
exact. A track without a listen has no vector and so no neighbours.
"""

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from jobs import als_model, command, contract
from jobs.ranked import in_blocks, rows_of
from jobs.retrieval import NormOrder, top_k

TRACKS_A_BLOCK = 1024


def main() -> str:
    """Make similar.parquet."""
    work = command.parser(__doc__).parse_args().work
    n_users = contract.n_rows(contract.USERS, work)
    track_ids = contract.read(contract.ITEMS, work, ["track_id"])["track_id"].to_numpy()
    _, items = als_model.load(work, (n_users, len(track_ids)))
    known = np.flatnonzero(items.any(axis=1)).astype(np.int32)
    unit = items[known] / np.linalg.norm(items[known], axis=1, keepdims=True)
    order = NormOrder.of(unit)

    def neighbours(first: int, last: int) -> pa.Table:
        rows = np.arange(last - first)
        itself = csr_matrix((np.ones(len(rows)), (rows, rows + first)), (len(rows), len(known)))
        found, scores = top_k(unit[first:last], order, contract.LIST_LENGTH, itself)
        ids = track_ids[known]
        return rows_of(contract.SIMILAR, ids[first:last], ids, found, scores)

    written = 0
    with contract.writer(contract.SIMILAR, work) as append:
        for table in in_blocks(neighbours, len(known), TRACKS_A_BLOCK, "similar"):
            append(table)
            written += len(table)
    return f"{written:,} rows for {len(known):,} tracks"


if __name__ == "__main__":
    command.run(main)
