"""Train the ALS model: compute a vector for each user and each track from the plays.

    python -m jobs.train_als --work data

Makes als_model.npz, by implicit's solver and in implicit's own format:
`implicit.cpu.als.AlternatingLeastSquares.load("data/als_model.npz")`. The penalty of a row grows
with its weights (Rendle et al. 2021, see contract/fold_in.row_penalties). implicit has one penalty
for all rows, so the file has the mean penalty of the users. The weight of a user and a track is the
number of plays to the power als_repeats; with als_recency it is halved for every so many days since
the last of these plays. The training on all data starts
from the tracks' vectors of the window "test", if it has been trained, and then needs fewer epochs.

A track without a listen gets a vector that is predicted from its artists and genres, or a zero
vector if it has none that played tracks have (see models/content). The array item_certainty says
which vectors are predictions: it is 1 for played tracks, and less for others.
"""

from collections.abc import Sequence

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares

from jobs.contract import storage, tables
from jobs.contract.names import ALS_MODEL
from jobs.data import listens, songs
from jobs.models import als_model, content, hyperparameters
from jobs.models.als_training import SEED, factorise, penalties, start_of, training_weights
from jobs.models.sparse import incidence, only_rows
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make als_model.npz."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("train_als", args))
    work, settings = args.work, hyperparameters.load(args.work)
    data = listens.load(work, timed=settings.als_recency is not None)
    weights = training_weights(data, settings)
    start = start_of(work, (data.shape[1], settings.als_factors))
    penalty = float(penalties(weights, settings).mean())
    # Only the list refers to the matrix, and pop() removes it, so that factorise can free it.
    only_reference, track_ids = [weights], data.track_ids
    del data, weights
    users, items = factorise(only_reference.pop(), settings, start=start)
    certainty = als_model.is_known(items).astype(np.float32)
    tracks = tables.read(tables.ITEMS, work, ["artist_ids", "genre_ids"])
    listed = ~songs.hidden(work, track_ids)
    artists, genres = (
        only_rows(incidence(tracks[name]), listed) for name in ("artist_ids", "genre_ids")
    )
    new = content.predict(items, certainty == 1, artists, genres)
    items[new.items], certainty[new.items] = new.vectors, new.certainty
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
    n = len(new.items)
    predicted = f"; {n:,} vectors are predicted from content" if n else ""
    return (
        f"{len(users):,} users and {len(items):,} tracks in {settings.als_factors} dimensions"
        + predicted
    )


if __name__ == "__main__":
    cli.run(main)
