"""Fold-in: the vector of a user from what they have played, items held fixed.

Pure functions of arrays; the jobs and the service share them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from implicit.cpu._als import _least_squares
from scipy.linalg.lapack import sposv
from scipy.sparse import csr_matrix

from jobs.contract.ragged import offsets_of
from jobs.contract.top_k import NormOrder, top_k


def fold_in(
    weights: csr_matrix,
    item_factors: np.ndarray,
    gram: np.ndarray,
    regularization: float,
    unobserved: float,
    exponent: float,
    threads: int = 1,
) -> np.ndarray:
    """Vectors (users, d) that fit the users' weighted plays (users, items), items held fixed.

    Minimises sum_played (unobserved + w) (1 - x·y)^2 + unobserved (sum_others (x·y)^2 +
    penalty |x|^2), as the training does; gram is item_factors' own (d, d). The penalty grows with
    a user's plays: see row_penalties. A user without plays gets a zero vector.
    """
    users = np.zeros((weights.shape[0], item_factors.shape[1]), np.float32)
    confidence = 1 + weights.data.astype(np.float32) / np.float32(unobserved)
    total = np.asarray(weights.sum(axis=1)).ravel()
    penalty = row_penalties(total, weights.shape[1], regularization, unobserved, exponent)
    for group, value in penalty_groups(penalty):
        rows = csr_matrix((confidence, weights.indices, weights.indptr), weights.shape)[group]
        part = np.zeros((len(group), item_factors.shape[1]), np.float32)
        _least_squares(
            gram, rows.indptr, rows.indices, rows.data, part, item_factors, value, threads
        )
        users[group] = part
    return users


def row_penalties(
    counts: np.ndarray, others: int, regularization: float, unobserved: float, exponent: float
) -> np.ndarray:
    """The penalty of each row in implicit's units, from its (weighted) count of observations.

    lambda (n + w0 N)^nu / w0, N rows on the other side: the frequency-scaled regularisation of
    Rendle et al., "Revisiting the Performance of iALS on Item Recommendation Benchmarks" (2021).
    """
    return regularization * (counts + unobserved * others) ** exponent / unobserved


def penalty_groups(penalties: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Rows of near penalties, with one that is within 5 % of all of theirs: implicit takes one.

    It is from a fixed ladder, so that a row's does not depend on the rows beside it.
    """
    near = on_ladder(penalties)
    return [(np.flatnonzero(near == value), float(value)) for value in np.unique(near)]


def on_ladder(penalties: np.ndarray) -> np.ndarray:
    """The nearest steps of a ladder whose steps are a factor of 1.1 apart."""
    steps: np.ndarray = 1.1 ** (np.floor(np.log(penalties) / np.log(1.1)) + 0.5)
    return steps


@dataclass(frozen=True)
class FoldInModel:
    """A factorisation, and how users are folded in by what they have played so far.

    gram (d, d) is the item vectors' own product; the settings are those of jobs.settings.
    """

    order: NormOrder
    gram: np.ndarray
    regularization: float
    unobserved: float
    exponent: float
    repeats: float
    half_life: float | None

    def taste(self, plays: np.ndarray) -> np.ndarray:
        """(d,): what fold_in gives for one user's plays, rows of the model, oldest first.

        A third of the time goes without the sparse matrices that it takes.
        """
        items, weights = weights_of(plays, self.repeats, self.half_life)
        places = self.order.position[items]
        known = places < len(self.order.items)
        vectors, weights = self.order.vectors[places[known]], weights[known]
        if not len(weights):
            return np.zeros(self.gram.shape[0], np.float32)
        settings = self.regularization, self.unobserved, self.exponent
        penalty = row_penalties(weights.sum(), len(self.order.position), *settings)
        extra = weights / np.float32(self.unobserved)
        left = self.gram + (vectors.T * extra) @ vectors
        left.flat[:: len(left) + 1] += np.float32(on_ladder(penalty))
        taste: np.ndarray
        _, taste, _ = sposv(left, (1 + extra) @ vectors, overwrite_a=True)
        return taste

    def scores(self, taste: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(n,) float32: products of a vector (d,) and those of items (n,); unknown ones have 0."""
        places = self.order.position[items]
        known = places < len(self.order.items)
        result = np.zeros(len(items), np.float32)
        result[known] = self.order.vectors[places[known]] @ taste
        return result

    def nearest(
        self, tastes: np.ndarray, k: int, heard: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k items that fit each taste best, none of heard (rows of the model): see top_k."""
        offsets = offsets_of([*map(len, heard)])
        marks = np.ones(offsets[-1], np.float32)
        shape = (len(tastes), len(self.order.position))
        marked = csr_matrix((marks, np.concatenate(heard), offsets), shape)
        return top_k(tastes, self.order, k, marked)


def weights_of(
    plays: np.ndarray, repeats: float, half_life: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The items of one user's plays (n,), oldest first, ascending, and what each says of taste.

    The same as listens.Listens.weights: an item's count to the power `repeats`, halved with every
    half_life plays since its last one.
    """
    items, last, counts = np.unique(plays[::-1], return_index=True, return_counts=True)
    weights = counts.astype(np.float32) ** np.float32(repeats)
    if half_life is not None:
        weights *= np.exp2(-last / half_life).astype(np.float32)
    return items, weights
