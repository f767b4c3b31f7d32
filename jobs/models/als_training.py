"""Matrix factorisation by alternating least squares, with implicit's solver."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from implicit.cpu._als import least_squares_cg
from scipy.sparse import csr_matrix

from jobs.contract.fold_in import penalty_groups, row_penalties
from jobs.contract.names import ALS_MODEL
from jobs.data.listens import Listens
from jobs.models import als_model
from jobs.models.hyperparameters import Hyperparameters
from jobs.runtime import parallel
from jobs.runtime.progress import progress_bar

SEED = 20
EPOCHS_MORE = 4  # where there are factors to start from
WORTH_THREADS = 30_000  # listens: with fewer, threads wait for each other longer than they work


def training_weights(data: Listens, chosen: Hyperparameters) -> csr_matrix:
    """(users, items) float32: the weight of each pair in training."""
    return data.weights(chosen.als_repeats, None, chosen.als_recency)


def factorise(
    weights: csr_matrix,
    chosen: Hyperparameters,
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
    for _ in progress_bar(range(epochs), "train_als epochs"):
        _solve(user_groups, users, items)
        _solve(item_groups, items, users)
        if after_epoch is not None:
            after_epoch(users, items)
    return users, items


def _groups(
    weights: csr_matrix, chosen: Hyperparameters
) -> list[tuple[np.ndarray, csr_matrix, float]]:
    """Rows that share a penalty, with implicit's confidences (1 + weight of a play) and it."""
    result = []
    for rows, value in penalty_groups(penalties(weights, chosen)):
        confidence = weights[rows]
        confidence.data = 1 + confidence.data / np.float32(chosen.als_unobserved)
        result.append((rows, confidence, value))
    return result


def penalties(weights: csr_matrix, chosen: Hyperparameters) -> np.ndarray:
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
        n = parallel.threads() if confidence.nnz > WORTH_THREADS else 1
        least_squares_cg(confidence, part, others, penalty, num_threads=n)
        factors[rows] = part


def start_of(work: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The item factors that the window "test" ended with, if it has any of that shape."""
    window = work / "windows" / "test"
    if not (window / ALS_MODEL).exists():
        return None
    items = als_model.item_factors(window)
    return items if items.shape == shape else None
