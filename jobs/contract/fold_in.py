"""Fold-in: the vector of a user from what they have played, with the item vectors held fixed.

With fixed items, the vector x of a user minimises a quadratic function, so it solves d linear
equations. For the plays with weights w and item vectors y, unobserved weight a and penalty p

    (a Y'Y + sum_played w y y' + a p I) x = sum_played (a + w) y

Divided by a, the first term is Y'Y, the items' gram matrix (d, d), which is the same for all users
and computed once. What remains to add for a user is one term for each track that they played. That
is why a new event changes a user's taste within a request, without training.

Pure functions of arrays; the jobs and the service share them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from implicit.cpu._als import _least_squares
from scipy.linalg.lapack import sposv
from scipy.sparse import csr_matrix

from jobs.contract.ragged import offsets_of
from jobs.contract.top_k import NormOrder, top_k

# Plays that change a user's vector by less than this part of its length are lost in the rounding.
NEGLIGIBLE = 1e-6
LADDER = 1.1  # factor between the penalties that are used: see penalty_groups


def fold_in(
    weights: csr_matrix,
    item_factors: np.ndarray,
    gram: np.ndarray,
    regularization: float,
    unobserved: float,
    exponent: float,
    threads: int = 1,
) -> np.ndarray:
    """Return the vectors (users, d) that fit the users' weighted plays (users, items) best.

    Minimises sum_played (unobserved + w) (1 - x·y)^2 + unobserved (sum_others (x·y)^2 +
    penalty |x|^2), as the training does; gram (d, d) is the product of item_factors with itself.
    The penalty grows with a user's plays: see row_penalties. A user without plays gets a zero
    vector.

    One item with the vector (1,), played once: with unobserved 1 and penalty 1 the function is
    2 (1 - x)^2 + x^2, whose minimum is at x = 2 / 3. The penalty is rounded to a ladder, so it is
    near that:

    >>> played = csr_matrix(np.ones((1, 1), np.float32))
    >>> one = np.ones((1, 1), np.float32)
    >>> round(fold_in(played, one, one, 1.0, 1.0, 0.0).item(), 1)
    0.7
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
    """Return the penalty of each row in implicit's units, from its (weighted) number of plays.

    lambda (n + w0 N)^nu / w0, N rows on the other side: the frequency-scaled regularisation of
    Rendle et al., "Revisiting the Performance of iALS on Item Recommendation Benchmarks" (2021).
    """
    return regularization * (counts + unobserved * others) ** exponent / unobserved


def penalty_groups(penalties: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """Return groups of rows with nearly equal penalties, and one penalty for each group.

    implicit's solver takes one penalty for all rows of a call. It is within 5 % of the penalty of
    each row. The values come from a fixed ladder, so that the penalty of a row does not depend on
    which rows are in the same call.
    """
    near = on_ladder(penalties)
    return [(np.flatnonzero(near == value), float(value)) for value in np.unique(near)]


def on_ladder(penalties: np.ndarray) -> np.ndarray:
    """Return the nearest steps of a ladder whose steps are a factor LADDER apart."""
    steps: np.ndarray = LADDER ** (np.floor(np.log(penalties) / np.log(LADDER)) + 0.5)
    return steps


@dataclass(frozen=True)
class FoldInModel:
    """A factorisation, and how users are folded in by what they have played so far.

    gram (d, d) is the product of the item vectors with themselves; regularization to half_life are
    the settings als_* of models.hyperparameters.
    """

    order: NormOrder
    gram: np.ndarray
    regularization: float
    unobserved: float
    exponent: float
    repeats: float
    half_life: float | None

    def penalty(self, weights: np.ndarray) -> float:
        """Return the penalty of one user, from the weights (n,) of what they have played."""
        settings = self.regularization, self.unobserved, self.exponent
        total = float(weights.sum(dtype=np.float64))
        exact = row_penalties(np.array(total), len(self.order.position), *settings)
        return float(on_ladder(exact))

    def on_axes(self) -> "FoldInModel":
        """Return the same model with its vectors turned, so that their gram matrix is diagonal.

        The axes are the eigenvectors of gram. Turning changes no product of two vectors, so scores
        and lists stay as they are, up to rounding. The equations take less time to solve.
        """
        eigenvalues, axes = np.linalg.eigh(self.gram.astype(np.float64))
        vectors = self.order.vectors @ axes.astype(np.float32)
        gram = np.diag(eigenvalues).astype(np.float32)
        return replace(self, order=replace(self.order, vectors=vectors), gram=gram)

    def in_halves(self) -> "FoldInModel":
        """Return the same model with vectors of float16, which take half the memory.

        A number keeps 11 binary digits, so a score changes by some 1e-4 of the vectors' lengths.
        Each norm is the length of the longest vector from its place on, as top_k needs it.
        """
        vectors = self.order.vectors.astype(np.float16)
        lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
        norms = np.maximum.accumulate(lengths[::-1])[::-1]
        return replace(self, order=replace(self.order, vectors=vectors, norms=norms))

    def negligible(self, penalty: float) -> float:
        """Return the weight, in parts of `unobserved`, below which a play is left out on the left.

        In (A + w y y') x = b the term of a play changes x by at most w |y|^2 / penalty of its
        length, since no eigenvalue of A is below the penalty. No y is longer than norms[0].
        """
        longest = float(self.order.norms[0]) if len(self.order.norms) else 1.0
        return NEGLIGIBLE * penalty / longest**2

    def taste(self, plays: np.ndarray) -> np.ndarray:
        """Return the vector (d,) that fold_in gives for one user's plays, oldest first.

        Plays are rows of the model. For a single user this takes a third of the time of fold_in,
        since it needs no sparse matrices: the service calls it in a request.
        """
        items, weights = weights_of(plays, self.repeats, self.half_life)
        places = self.order.position[items]
        known = places < len(self.order.items)
        vectors = self.order.vectors[places[known]].astype(np.float32, copy=False)
        weights = weights[known]
        if not len(weights):
            return np.zeros(self.gram.shape[0], np.float32)
        extra = weights / np.float32(self.unobserved)
        penalty = self.penalty(weights)
        counts = extra > self.negligible(penalty)  # with a half-life few of many plays do
        near = vectors[counts]
        left = (near.T * extra[counts]) @ near
        left += self.gram
        left.flat[:: len(left) + 1] += np.float32(penalty)
        taste: np.ndarray
        # the transpose of a symmetric matrix has the order that LAPACK expects, without a copy
        _, taste, _ = sposv(left.T, (1 + extra) @ vectors, overwrite_a=True)
        return taste

    def scores(self, taste: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the scores (n,) float32 of items (n,) for a vector (d,); 0 for unknown items."""
        places = self.order.position[items]
        known = places < len(self.order.items)
        result = np.zeros(len(items), np.float32)
        result[known] = self.order.vectors[places[known]] @ taste
        return result

    def nearest(
        self, tastes: np.ndarray, k: int, heard: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the k items that fit each taste best, without those heard: see top_k.

        heard has rows of the model for each taste.
        """
        offsets = offsets_of([*map(len, heard)])
        marks = np.ones(offsets[-1], np.float32)
        shape = (len(tastes), len(self.order.position))
        marked = csr_matrix((marks, np.concatenate(heard), offsets), shape)
        return top_k(tastes, self.order, k, marked)


def weights_of(
    plays: np.ndarray, repeats: float, half_life: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of one user's plays (n,), ascending, and the weight of each.

    The plays are oldest first. The weight is that of data.listens.Listens.weights: the number of
    plays to the power `repeats`, halved with every half_life plays since the item's last play.

    >>> items, weights = weights_of(np.array([5, 3, 3]), repeats=1.0, half_life=2.0)
    >>> items.tolist(), weights.tolist()  # item 5 was played two plays before the last one
    ([3, 5], [2.0, 0.5])
    """
    items, last, counts = np.unique(plays[::-1], return_index=True, return_counts=True)
    weights = counts.astype(np.float32) ** np.float32(repeats)
    if half_life is not None:
        weights *= np.exp2(-last / half_life).astype(np.float32)
    return items, weights
