"""Measure the lists in WORK with plays that were held out before the run.

    python -m jobs.score --labels labels.parquet --work data

labels.parquet has the columns user_id and track_id: the tracks that users played after the run's
data. Prints NDCG, recall, precision and other metrics at 10, as means over all users with a label,
for top popular, personal ALS and the final list. A user without a final list gets the top list, as
from the service. Tracks that a user has heard don't count as labels, unless the run's settings
include heard tracks. If the file has columns kind, played_share, or played_ms with duration_ms,
only listens are labels, and no track that the user dislikes in the end (see data/kinds).

If songs have several ids, a label is a hit under any of them. The column "ndcg by id" has the NDCG
of the same users where only the id that was played is a hit.

If there are labels of tracks without a listen in the run's data, a second table has the metrics by
these labels alone: of the final list, and of new_tracks.parquet. Under each stands what would be
expected if the tracks without a listen were in random order (see evaluation/new_tracks).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from jobs.contract import storage, text_ids
from jobs.contract.names import KINDS
from jobs.contract.results import KindsOfRows
from jobs.contract.storage import JobError
from jobs.contract.tables import NEW_TRACKS, PERSONAL_ALS, RECOMMENDATIONS
from jobs.contract.top_k import NOTHING
from jobs.data import holdout, listens, songs
from jobs.data.holdout import COLD
from jobs.data.kinds import SKIP_UNDER
from jobs.evaluation import new_tracks
from jobs.evaluation.labels import read_labels
from jobs.evaluation.new_tracks import only
from jobs.metrics import accuracy
from jobs.models import hyperparameters, popularity
from jobs.models.ranked_lists import first_unheard, read_lists
from jobs.runtime import cli
from jobs.runtime.parallel import in_blocks

K = 10  # the metrics look at the first K tracks of a list
USERS_A_BLOCK = 512


def main(argv: Sequence[str]) -> str:
    """Print a row of metrics for each kind of list."""
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--labels", type=Path, required=True, help="parquet file with user_id, track_id"
    )
    args = parser.parse_args(argv)
    past, heard = listens.load(args.work), hyperparameters.load(args.work).heard
    shown = songs.shown(args.work, past.track_ids)
    ids = text_ids.of(args.work)
    under = skip_under(args.work)
    later = read_labels(args.labels, past, heard, shown, ids, under, args.work)
    known, labels = later.row, later.labels
    if not len(known):
        raise JobError(
            f"{args.labels}: in each row the user has heard the track before, dislikes it, or did "
            "not listen to it: give later plays"
        )
    cold = (known == COLD)[:, None]
    order = popularity.read_top(args.work, past.track_ids)

    disliked = holdout.disliked_by(args.work, past, later.user_ids)

    def unheard(first: int, last: int) -> np.ndarray:
        of_block = None if disliked is None else csr_matrix(disliked[first:last])
        return first_unheard(order, holdout.kept_out(past, known[first:last], heard, of_block))

    lists = {
        "top popular": np.concatenate(list(in_blocks(unheard, len(known), USERS_A_BLOCK, "score")))
    }
    tables = {"personal ALS": PERSONAL_ALS, "final list": RECOMMENDATIONS}
    for name, table in tables.items():
        found = read_lists(table, args.work, past.user_ids, past.track_ids)
        instead = lists["top popular"] if name == "final list" else NOTHING
        lists[name] = np.where(cold, instead, found[known])
    rows = {
        name: {
            metric: value.mean() for metric, value in accuracy.per_user(found, labels, K).items()
        }
        for name, found in lists.items()
    }
    if shown is not None:
        raw = listens.load(args.work, timed=False, by_song=False)
        played = read_labels(args.labels, raw, heard, None, ids, under, args.work)
        by_id = played.take(np.isin(played.user_ids, later.user_ids)).labels
        for name, found in lists.items():
            rows[name]["ndcg by id"] = accuracy.per_user(found, by_id, K)["ndcg"].mean()
    print(pd.DataFrame(rows).T.round(5).to_string())
    new = (past.plays() == 0) & ~songs.hidden(args.work, past.track_ids)
    new = np.append(new, np.zeros(labels.shape[1] - len(new), bool))
    of_new = only(labels, new)
    users = of_new.getnnz(axis=1) > 0
    if users.any():
        found = read_lists(NEW_TRACKS, args.work, past.user_ids, past.track_ids)
        lists = {
            "final list": lists["final list"],
            "new tracks": np.where(cold, NOTHING, found[known]),
        }
        print(f"\nBy the labels of tracks without a listen, {users.sum():,} users:")
        print(pd.DataFrame(scores_of_new(lists, users, of_new, new)).T.round(5).to_string())
    return f"{len(known):,} users with a label"


def skip_under(work: Path) -> float:
    """Return of which share of a track less has to be played for a skip, as in the run."""
    if not (work / KINDS).exists():
        return SKIP_UNDER
    return storage.read_json(work / KINDS, "jobs.prepare", KindsOfRows).skip_under


def scores_of_new(
    lists: dict[str, np.ndarray], users: np.ndarray, labels: csr_matrix, new: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return the metrics of lists by the labels of new tracks, and those of a random order."""
    labels, rows = csr_matrix(labels[users]), {}
    for name, found in lists.items():
        values = accuracy.per_user(found[users], labels, K)
        rows[name] = {metric: float(value.mean()) for metric, value in values.items()}
        chance = new_tracks.ndcg_by_chance(found[users], labels, new, K)
        rows[f"{name}, random order"] = {"ndcg": float(chance.mean())}
    return rows


if __name__ == "__main__":
    cli.run(main)
