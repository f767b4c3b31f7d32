"""Train the ALS model: compute a vector for each user and each track from the plays.

    python -m jobs.train_als --work data

Makes als_model.npz, by implicit's solver and in implicit's own format:
`implicit.cpu.als.AlternatingLeastSquares.load("data/als_model.npz")`. The penalty of a row grows
with its weights (Rendle et al. 2021, see contract/fold_in.row_penalties). implicit has one penalty
for all rows, so the file has the mean penalty of the users. The weight of a user and a track is the
number of plays to the power als_repeats; with als_recency it is halved for every so many days since
the last of these plays. Tracks without a listen have a zero vector. The training on all data starts
from the tracks' vectors of the window "test", if it has been trained, and then needs fewer epochs.
Suspicious accounts that are left out have no part in it: their vectors are computed from the
tracks' vectors at the end.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares

from jobs.contract import storage
from jobs.contract.names import ALS_MODEL
from jobs.data import listens
from jobs.models import als_model, hyperparameters
from jobs.models.als_training import SEED, factorise, penalties, start_of, training_weights
from jobs.models.hyperparameters import Hyperparameters
from jobs.runtime import cli, memory, parallel


def fold_in_left_out(
    work: Path,
    user_ids: np.ndarray,
    users: np.ndarray,
    items: np.ndarray,
    settings: Hyperparameters,
) -> None:
    """Set the vectors (users, d) of the accounts that had no part in the training, in place."""
    rows = np.flatnonzero(listens.left_out(work, user_ids))
    if len(rows):
        own = listens.load(work).of_users(rows)
        users[rows] = als_model.recent_tastes(own, items, items.T @ items, settings)


def main(argv: Sequence[str]) -> str:
    """Make als_model.npz."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("train_als", args))
    work, settings = args.work, hyperparameters.load(args.work)
    data = listens.load(work, timed=settings.als_recency is not None, everyone=False)
    user_ids = data.user_ids
    weights = training_weights(data, settings)
    start = start_of(work, (data.shape[1], settings.als_factors))
    penalty = float(penalties(weights, settings).mean())
    # Only the list refers to the matrix, and pop() removes it, so that factorise can free it.
    only_reference = [weights]
    del data, weights
    users, items = factorise(only_reference.pop(), settings, start=start)
    fold_in_left_out(work, user_ids, users, items, settings)
    model = AlternatingLeastSquares(
        factors=settings.als_factors,
        regularization=penalty,
        alpha=1 + 1 / settings.als_unobserved,
        iterations=settings.als_epochs,
        random_state=SEED,
    )
    model.user_factors, model.item_factors = users, items
    with storage.atomic(work / ALS_MODEL) as temporary, temporary.open("wb") as file:
        model.save(file)
    return f"{len(users):,} users and {len(items):,} tracks in {settings.als_factors} dimensions"


if __name__ == "__main__":
    cli.run(main)
