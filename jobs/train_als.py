"""Train the ALS model: compute a vector for each user and each track from the plays.

    python -m jobs.train_als --work data

Makes als_model.npz, by implicit's solver and in implicit's own format:
`implicit.cpu.als.AlternatingLeastSquares.load("data/als_model.npz")`. The penalty of a row grows
with its weights (Rendle et al. 2021, see retrieval.row_penalties); implicit knows one for all rows,
so the file has the mean of the users'. A pair weighs its plays to a power, and less the longer ago
the last of them is, where the settings say so. Tracks without a listen keep a zero vector. What is
trained on all the data starts from the tracks' vectors of the window "test", if there are any,
and needs fewer epochs.
"""

from collections.abc import Sequence

from implicit.cpu.als import AlternatingLeastSquares

from jobs.contract import storage
from jobs.contract.names import ALS_MODEL
from jobs.data import listens
from jobs.models import hyperparameters
from jobs.models.als_training import SEED, factorise, penalties, start_of, training_weights
from jobs.runtime import cli, memory, parallel


def main(argv: Sequence[str]) -> str:
    """Make als_model.npz."""
    args = cli.parser(__doc__).parse_args(argv)
    parallel.set_threads(memory.check("train_als", args))
    work, chosen = args.work, hyperparameters.load(args.work)
    data = listens.load(work, timed=chosen.als_recency is not None)
    weights = training_weights(data, chosen)
    start = start_of(work, (data.shape[1], chosen.als_factors))
    penalty = float(penalties(weights, chosen).mean())
    passed_on = [weights]
    del data, weights  # which are as large as anything that is made of them
    users, items = factorise(passed_on.pop(), chosen, start=start)
    model = AlternatingLeastSquares(
        factors=chosen.als_factors,
        regularization=penalty,
        alpha=1 + 1 / chosen.als_unobserved,
        iterations=chosen.als_epochs,
        random_state=SEED,
    )
    model.user_factors, model.item_factors = users, items
    with storage.atomic(work / ALS_MODEL) as temporary, temporary.open("wb") as file:
        model.save(file)
    return f"{len(users):,} users and {len(items):,} tracks in {chosen.als_factors} dimensions"


if __name__ == "__main__":
    cli.run(main)
