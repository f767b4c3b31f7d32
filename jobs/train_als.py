"""Train the ALS model: compute a vector for each user and each track from the plays.

    python -m jobs.train_als --work data

Makes als_model.npz, by implicit's solver and in implicit's own format:
`implicit.cpu.als.AlternatingLeastSquares.load("data/als_model.npz")`. The penalty of a row grows
with its weights (Rendle et al. 2021, see contract/fold_in.row_penalties). implicit has one penalty
for all rows, so the file has the mean penalty of the users. The weight of a user and a track is the
number of plays to the power als_repeats; with als_recency it is halved for every so many days since
the last of these plays. The training on all data starts from the tracks' vectors of the window
"test", if it has been trained, and then needs fewer epochs.

A track without a listen gets a vector that is predicted from its artists and genres, or a zero
vector if it has none that played tracks have (see models/content). The array item_certainty says
which vectors are predictions: it is 1 for played tracks, and less for others.

Suspicious accounts that are left out have no part in it: their vectors are computed from the
tracks' vectors at the end.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

from jobs.contract import compiling, storage, tables
from jobs.contract.names import ALS_MODEL
from jobs.data import listens, songs
from jobs.models import als_model, content, hyperparameters
from jobs.models.als_training import SEED, factorise, penalties, start_of, training_weights
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.sparse import incidence, only_rows
from jobs.runtime import cli, memory, parallel


def without_rows(weights: csr_matrix, rows: np.ndarray) -> csr_matrix:
    """Return a matrix without some rows (ascending) that are empty; nothing is copied."""
    starts = np.delete(weights.indptr, rows)
    shape = len(starts) - 1, weights.shape[1]
    return csr_matrix((weights.data, weights.indices, starts), shape)


def with_left_out(
    work: Path,
    left_out: np.ndarray,
    users: np.ndarray,
    items: np.ndarray,
    settings: Hyperparameters,
) -> np.ndarray:
    """Return the vectors (users, d) of all users, given those of the users that were trained on.

    The vectors of the accounts that are left out (rows, ascending) are computed from the tracks'.
    """
    own = listens.load(work).of_users(left_out)
    tastes = als_model.recent_tastes(own, items, items.T @ items, settings)
    return np.insert(users, left_out - np.arange(len(left_out)), tastes, axis=0)


def predict_new(
    work: Path, track_ids: np.ndarray, items: np.ndarray, left_out: np.ndarray
) -> np.ndarray:
    """Set the vectors of tracks without a listen in items (tracks, d); return the certainty of all.

    The certainty (tracks,) is 1 for a played track: see models/content. Other ids of a song, and
    tracks that only accounts play which are left out (rows), keep a zero vector.
    """
    certainty = als_model.is_known(items).astype(np.float32)
    listed = ~songs.hidden(work, track_ids)
    if len(left_out):
        of_left_out = listens.load(work, timed=False).of_users(left_out).item
        listed[of_left_out] &= certainty[of_left_out] == 1
    tracks = tables.read(tables.ITEMS, work, ["artist_ids", "genre_ids"])
    artists, genres = (
        only_rows(incidence(tracks[name]), listed) for name in ("artist_ids", "genre_ids")
    )
    new = content.predict(items, certainty == 1, artists, genres)
    items[new.items], certainty[new.items] = new.vectors, new.certainty
    return certainty


def main(argv: Sequence[str]) -> str:
    """Make als_model.npz."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("train_als", args))
    compiling.set_by_size(args.work)
    work, settings = args.work, hyperparameters.load(args.work)
    data = listens.load(work, timed=settings.als_recency is not None, everyone=False)
    left_out = np.flatnonzero(listens.left_out(work, data.user_ids))
    weights = without_rows(training_weights(data, settings), left_out)
    start = start_of(work, (data.shape[1], settings.als_factors))
    penalty = float(penalties(weights, settings).mean())
    # Only the list refers to the matrix, and pop() removes it, so that factorise can free it.
    only_reference, track_ids = [weights], data.track_ids
    del data, weights
    users, items = factorise(only_reference.pop(), settings, start=start)
    if len(left_out):
        users = with_left_out(work, left_out, users, items, settings)
    certainty = predict_new(work, track_ids, items, left_out)
    model = AlternatingLeastSquares(
        factors=settings.als_factors,
        regularization=penalty,
        alpha=1 + 1 / settings.als_unobserved,
        iterations=settings.als_epochs,
        random_state=SEED,
    )
    model.user_factors, model.item_factors = users, items
    with storage.atomic(work / ALS_MODEL) as temporary, temporary.open("w+b") as file:
        model.save(file)
        als_model.append_certainty(file, certainty)
    n = np.count_nonzero((certainty > 0) & (certainty < 1))
    predicted = f"; {n:,} vectors are predicted from content" if n else ""
    return (
        f"{len(users):,} users and {len(items):,} tracks in {settings.als_factors} dimensions"
        + predicted
    )


if __name__ == "__main__":
    cli.run(main)
