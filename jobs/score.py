"""Score the lists of a work folder against plays that were kept back before the run.

    python -m jobs.score --labels labels.parquet --work data

labels.parquet has user_id and track_id: what those users played next. Prints NDCG, recall,
precision and more at 10 over all users with a label, for top popular, personal ALS and the final
list (for a user without one the top list, as from the service). Tracks that the user has heard are
no labels, unless the run's settings include heard tracks.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

from jobs import command, contract, holdout, listens, metrics, settings
from jobs.contract import JobError
from jobs.holdout import COLD
from jobs.listens import Listens
from jobs.ranked import first_unheard, in_blocks, read_lists
from jobs.retrieval import NOTHING

K = 10
USERS_A_BLOCK = 512


def read_labels(path: Path, past: Listens, heard: str) -> tuple[np.ndarray, csr_matrix]:
    """The labels' users as rows of the past (COLD for new ones), and labels (users, items + 1).

    The last column stands for tracks that the catalogue doesn't know: they can't be hit, but count.
    """
    try:
        table = pq.read_table(path, columns=["user_id", "track_id"])
        user, track = (table[name].cast(pa.int64()).to_numpy() for name in table.column_names)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise JobError(
            f"{path}: expected a parquet file with whole numbers user_id, track_id; {error}"
        ) from None
    if not len(user):
        raise JobError(f"{path} has no rows: there is nothing to score")
    ids, row = np.unique(user, return_inverse=True)
    n = past.shape[1]
    item = np.minimum(np.searchsorted(past.track_ids, track), n - 1)
    item = np.where(past.track_ids[item] == track, item, n)
    labels = csr_matrix((np.ones(len(row), np.float32), (row, item)), (len(ids), n + 1))
    place = np.minimum(np.searchsorted(past.user_ids, ids), len(past.user_ids) - 1)
    known = np.where(past.user_ids[place] == ids, place, COLD)
    if heard == "exclude":
        played = holdout.heard_by(past, known)
        played.resize(labels.shape)
        labels = csr_matrix(labels - labels.multiply(played))
        labels.eliminate_zeros()
    some = labels.getnnz(axis=1) > 0
    return known[some], csr_matrix(labels[some])


def main() -> str:
    """Print a row of metrics a list."""
    parser = command.parser(__doc__)
    parser.add_argument("--labels", type=Path, required=True, help="parquet: user_id, track_id")
    args = parser.parse_args()
    past, heard = listens.load(args.work), settings.load(args.work).heard
    known, labels = read_labels(args.labels, past, heard)
    if not len(known):
        raise JobError(f"{args.labels}: every label is a track its user has heard already")
    cold = (known == COLD)[:, None]
    top = contract.read(contract.TOP_POPULAR, args.work, ["track_id"])["track_id"].to_numpy()
    order = np.searchsorted(past.track_ids, top).astype(np.int32)

    def unheard(first: int, last: int) -> np.ndarray:
        played = holdout.heard_by(past, known[first:last])
        return first_unheard(order, played if heard == "exclude" else csr_matrix(played.shape))

    lists = {
        "top popular": np.concatenate(list(in_blocks(unheard, len(known), USERS_A_BLOCK, "score")))
    }
    tables = {"personal ALS": contract.PERSONAL_ALS, "final list": contract.RECOMMENDATIONS}
    for name, table in tables.items():
        found = read_lists(table, args.work, past.user_ids, past.track_ids)
        instead = lists["top popular"] if name == "final list" else NOTHING
        lists[name] = np.where(cold, instead, found[known])
    rows = {
        name: {metric: value.mean() for metric, value in metrics.per_user(found, labels, K).items()}
        for name, found in lists.items()
    }
    print(pd.DataFrame(rows).T.round(5).to_string())
    return f"{len(known):,} users with a label"


if __name__ == "__main__":
    command.run(main)
