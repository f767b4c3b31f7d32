"""Matrix factorisation by alternating least squares, with implicit's solver or one like it."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from implicit.cpu._als import least_squares_cg
from scipy.sparse import csr_matrix

from jobs.contract import compiling
from jobs.contract.fold_in import on_ladder, penalty_groups, row_penalties
from jobs.contract.names import ALS_MODEL
from jobs.data.bounds import PLAYS_OF_PAIR
from jobs.data.listens import Listens
from jobs.models import als_model
from jobs.models.hyperparameters import Hyperparameters
from jobs.models.sparse import arrays
from jobs.runtime import parallel
from jobs.runtime.engine import in_blocks
from jobs.runtime.progress import progress_bar

SEED = 20
EPOCHS_FROM_START = 4  # epochs, at most, of a training that starts from given item factors
PAIRS_A_PART = 1 << 19  # pairs that a thread, or a process of a cluster, solves for at a time
WORTH_THREADS = 30_000  # pairs: with fewer, threads wait for each other longer than they compute

# Solves for the factors of one side (first) in place, with those of the other side held fixed.
Solver = Callable[[np.ndarray, np.ndarray], None]
Rows = np.ndarray | slice
# Returns the factors (rows, d) of one part's rows, from the part's number, the factors of both
# sides, and the gram matrix (d, d) of the other side.
Solved = Callable[[int, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def training_weights(data: Listens, hyperparameters: Hyperparameters) -> csr_matrix:
    """Return the weight of each pair of a user and a track in training, (users, items) float32.

    A user's plays of one track count as at most PLAYS_OF_PAIR, so that no user's weight decides the
    track's vector.
    """
    days = hyperparameters.als_recency
    return als_model.pair_weights(data, hyperparameters, days=days, most=PLAYS_OF_PAIR)


def factorise(
    weights: csr_matrix,
    hyperparameters: Hyperparameters,
    after_epoch: Callable[[np.ndarray, np.ndarray], None] | None = None,
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return user factors (users, d) and item factors (items, d), float32, of weighted plays.

    Each epoch solves for all users with the items held fixed, then for all items with the users
    held fixed. Rows whose penalties are nearly equal are solved in one call. after_epoch is called
    with the factors after each epoch. start (items, d) are item factors to start from; rows that
    are zero in it start at random, and without it all rows do.
    """
    # The users' vectors are solved for first. They start at zero, and the tracks' vectors at random
    # numbers that do not depend on how many users there are: one more user changes no start.
    n_users, n_items = weights.shape
    deviation = 0.1 / np.sqrt(hyperparameters.als_factors)
    random = np.random.default_rng(SEED).normal(
        0, deviation, (n_items, hyperparameters.als_factors)
    )
    items = random.astype(np.float32)
    users = np.zeros((n_users, hyperparameters.als_factors), np.float32)
    if start is not None:
        known = start.any(axis=1)
        items[known] = start[known]
    items[weights.getnnz(axis=0) == 0] = 0
    epochs = (
        hyperparameters.als_epochs
        if start is None
        else min(EPOCHS_FROM_START, hyperparameters.als_epochs)
    )
    of_users = _solver(weights, hyperparameters)
    weights = weights.T.tocsr()  # the old matrix is freed if the caller holds no reference
    of_items = _solver(weights, hyperparameters)
    del weights
    for _ in progress_bar(range(epochs), "train_als epochs"):
        of_users(users, items)
        of_items(items, users)
        if after_epoch is not None:
            after_epoch(users, items)
    return users, items


def _solver(weights: csr_matrix, hyperparameters: Hyperparameters) -> Solver:
    """Return the function that solves for the factors of the rows of weights (rows, others).

    It solves in place, and one part of the rows after the other, so that the run's engine can
    compute several parts at a time.
    """
    make = _compiled_parts if compiling.is_used() else _parts
    rows, solved = make(weights, hyperparameters)

    def solve(factors: np.ndarray, others: np.ndarray) -> None:
        gram = others.T @ others

        def part(number: int, _: int) -> np.ndarray:
            return solved(number, factors, others, gram)

        for at, vectors in zip(rows, in_blocks(part, len(rows), 1, None), strict=True):
            factors[at] = vectors

    return solve


def _compiled_parts(
    weights: csr_matrix, hyperparameters: Hyperparameters
) -> tuple[Sequence[Rows], Solved]:
    """Return the rows of each part, and how to solve for them by compiled loops.

    These take a penalty for each row, so the parts are rows that follow each other.
    """
    from jobs.models import als_kernels

    starts, items, values = arrays(weights)
    confidence = 1 + values / np.float32(hyperparameters.als_unobserved)
    penalty = on_ladder(penalties(weights, hyperparameters)).astype(np.float32)
    edges = np.searchsorted(starts, np.arange(0, starts[-1], PAIRS_A_PART)).tolist()
    parts = [slice(*edge) for edge in pairwise([0, *edges[1:], len(starts) - 1])]

    def solved(
        number: int, factors: np.ndarray, others: np.ndarray, gram: np.ndarray
    ) -> np.ndarray:
        rows = parts[number]
        result, of_rows = factors[rows].copy(), starts[rows.start : rows.stop + 1]
        of_part = of_rows, items, confidence, penalty[rows]
        als_kernels.solve(0, len(result), *of_part, result, others, gram)
        return result

    return parts, solved


def _parts(weights: csr_matrix, hyperparameters: Hyperparameters) -> tuple[Sequence[Rows], Solved]:
    """Return the rows of each part, and how to solve for them by implicit.

    implicit takes one penalty for all rows of a call. So rows are in the order of their penalties,
    and a part consists of groups: the rows of a penalty, or some of them if they are many. The
    confidence of a pair is implicit's: 1 + weight / als_unobserved.
    """
    parts: list[list[tuple[np.ndarray, csr_matrix, float]]] = [[]]
    in_part = 0  # pairs of the part that is being filled
    for of_penalty, value in penalty_groups(penalties(weights, hyperparameters)):
        pairs = np.cumsum(np.diff(weights.indptr)[of_penalty])
        for rows in np.split(of_penalty, np.flatnonzero(np.diff(pairs // PAIRS_A_PART)) + 1):
            if in_part >= PAIRS_A_PART:
                parts.append([])
                in_part = 0
            confidence = weights[rows]
            confidence.data = 1 + confidence.data / np.float32(hyperparameters.als_unobserved)
            parts[-1].append((rows, confidence, value))
            in_part += confidence.nnz
    n = parallel.threads() if len(parts) == 1 else 1  # else parts are solved for side by side

    def solved(number: int, factors: np.ndarray, others: np.ndarray, _: np.ndarray) -> np.ndarray:
        found = [np.empty((0, others.shape[1]), np.float32)]
        for rows, confidence, penalty in parts[number]:
            found.append(factors[rows])
            threads = n if confidence.nnz > WORTH_THREADS else 1
            least_squares_cg(confidence, found[-1], others, penalty, num_threads=threads)
        return np.concatenate(found)

    none = np.empty(0, np.int64)
    return [np.concatenate([none, *(rows for rows, *_ in part)]) for part in parts], solved


def penalties(weights: csr_matrix, hyperparameters: Hyperparameters) -> np.ndarray:
    """Return each row's penalty, (rows,), in implicit's units: see fold_in.row_penalties."""
    return row_penalties(
        np.asarray(weights.sum(axis=1)).ravel(),
        weights.shape[1],
        hyperparameters.als_regularization,
        hyperparameters.als_unobserved,
        hyperparameters.als_exponent,
    )


def start_of(work: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Return the item factors of the window "test" if they have this shape (items, d), or None."""
    window = work / "windows" / "test"
    if not (window / ALS_MODEL).exists():
        return None
    items = als_model.item_factors(window)
    return items if items.shape == shape else None
