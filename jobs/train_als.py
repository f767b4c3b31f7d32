"""Factorise who played what: a vector for each user and each track whose product is the taste.

    python -m jobs.train_als --work data

Makes als_model.npz, by implicit's solver and in implicit's own format:
`implicit.cpu.als.AlternatingLeastSquares.load("data/als_model.npz")`. The penalty of a row grows
with its weights (Rendle et al. 2021, see retrieval.row_penalties); implicit knows one for all rows,
so the file has the mean of the users'. A pair weighs its plays to a power, and less the longer ago
the last of them is, where the settings say so. Tracks without a listen keep a zero vector. What is
trained on all the data starts from the tracks' vectors of the window "report", if there are any,
and needs fewer epochs.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from implicit.cpu._als import least_squares_cg
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix
from tqdm import tqdm

from jobs import als_model, command, contract, listens, memory, settings
from jobs.listens import Listens
from jobs.retrieval import penalty_groups, row_penalties
from jobs.settings import Settings

SEED = 20
EPOCHS_MORE = 4  # where there are factors to start from
WORTH_THREADS = 30_000  # listens: with fewer, threads wait for each other longer than they work


def training_weights(data: Listens, chosen: Settings) -> csr_matrix:
    """(users, items) float32: the weight of each pair in training."""
    return data.weights(chosen.als_repeats, None, chosen.als_recency)


def factorise(
    weights: csr_matrix,
    chosen: Settings,
    after_epoch: Callable[[np.ndarray, np.ndarray], None] | None = None,
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """User (users, d) and item (items, d) factors, float32, of a matrix of weights of plays.

    Every epoch solves all rows of one side, then of the other; rows of near penalties go together.
    after_epoch sees the factors as they are by then. start (items, d) are item factors to start
    from; those that are zero there start at random, as all do without it.
    """
    rng = np.random.default_rng(SEED)
    deviation = 0.1 / np.sqrt(chosen.als_factors)
    users, items = (
        rng.normal(0, deviation, (n, chosen.als_factors)).astype(np.float32) for n in weights.shape
    )
    if start is not None:
        known = start.any(axis=1)
        items[known] = start[known]
    items[weights.getnnz(axis=0) == 0] = 0
    epochs = chosen.als_epochs if start is None else min(EPOCHS_MORE, chosen.als_epochs)
    user_groups = _groups(weights, chosen)
    weights = weights.T.tocsr()  # the largest matrix is let go of, if the caller has done so
    item_groups = _groups(weights, chosen)
    del weights
    for _ in tqdm(range(epochs), "train_als epochs", leave=False, disable=None):
        _solve(user_groups, users, items)
        _solve(item_groups, items, users)
        if after_epoch is not None:
            after_epoch(users, items)
    return users, items


def _groups(weights: csr_matrix, chosen: Settings) -> list[tuple[np.ndarray, csr_matrix, float]]:
    """Rows that share a penalty, with implicit's confidences (1 + weight of a play) and it."""
    result = []
    for rows, value in penalty_groups(_penalties(weights, chosen)):
        confidence = weights[rows]
        confidence.data = 1 + confidence.data / np.float32(chosen.als_unobserved)
        result.append((rows, confidence, value))
    return result


def _penalties(weights: csr_matrix, chosen: Settings) -> np.ndarray:
    """(rows,) each row's penalty, in implicit's units."""
    return row_penalties(
        np.asarray(weights.sum(axis=1)).ravel(),
        weights.shape[1],
        chosen.als_regularization,
        chosen.als_unobserved,
        chosen.als_exponent,
    )


def _solve(
    groups: list[tuple[np.ndarray, csr_matrix, float]],
    factors: np.ndarray,
    others: np.ndarray,
) -> None:
    """Improve the factors of one side in place, those of the other held fixed."""
    for rows, confidence, penalty in groups:
        part = factors[rows]
        n = memory.threads if confidence.nnz > WORTH_THREADS else 1
        least_squares_cg(confidence, part, others, penalty, num_threads=n)
        factors[rows] = part


def start_of(work: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The item factors that the window "report" ended with, if it has any of that shape."""
    window = work / "windows" / "report"
    if not (window / contract.ALS_MODEL).exists():
        return None
    items = als_model.item_factors(window)
    return items if items.shape == shape else None


def main() -> str:
    """Make als_model.npz."""
    args = command.parser(__doc__).parse_args()
    work, chosen = args.work, settings.load(args.work)
    data = listens.load(work, timed=chosen.als_recency is not None)
    weights = training_weights(data, chosen)
    start = start_of(work, (data.shape[1], chosen.als_factors))
    penalty = float(_penalties(weights, chosen).mean())
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
    with contract.atomic(work / contract.ALS_MODEL) as temporary, temporary.open("wb") as file:
        model.save(file)
    return f"{len(users):,} users and {len(items):,} tracks in {chosen.als_factors} dimensions"


if __name__ == "__main__":
    command.run(main)
