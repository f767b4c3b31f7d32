"""Exact retrieval from a matrix factorisation: top-k by inner product, and fold-in of a user.

Pure functions of arrays; the jobs and the service share them.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from implicit.cpu._als import _least_squares
from scipy.sparse import csr_matrix

NOTHING = -1  # fills a row where fewer than k items exist


@dataclass(frozen=True)
class NormOrder:
    """Item vectors from the longest to the shortest: what top_k searches.

    items (n,) int32 are rows of the model, vectors (n, d) and norms (n,) float32 in that order.
    Items with a zero vector are unknown to the model and left out.
    """

    items: np.ndarray
    vectors: np.ndarray
    norms: np.ndarray
    position: np.ndarray  # (rows of the model,) int32: where a row stands in the order, n if out

    @classmethod
    def of(cls, factors: np.ndarray) -> "NormOrder":
        """Order the rows of factors (items, d) by their length."""
        norms = np.linalg.norm(factors, axis=1)
        items = np.argsort(-norms, kind="stable")[: np.count_nonzero(norms)].astype(np.int32)
        position = np.full(len(factors), len(items), np.int32)
        position[items] = np.arange(len(items), dtype=np.int32)
        return cls(items, np.ascontiguousarray(factors[items]), norms[items], position)


def top_k(
    queries: np.ndarray, order: NormOrder, k: int, heard: csr_matrix | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k items with the largest inner product for each query, heard ones left out.

    queries (b, d); heard (b, items) marks what may not be returned. Returns items (b, k) int32
    and scores (b, k) float32, best first, equal scores in the order of items; NOTHING and -inf
    where fewer than k are left. Exact: the items are searched from the longest vector on, and a
    query leaves once no later item can reach its k-th score, which is at most |query| |item|.
    """
    found = np.full((len(queries), k), NOTHING, np.int32)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    lengths = np.linalg.norm(queries, axis=1)
    heard_row, heard_at = _heard_positions(heard, order)
    active = np.arange(len(queries))
    for start, stop in _chunks(len(order.items), k):
        block = queries[active] @ order.vectors[start:stop].T
        first, last = np.searchsorted(heard_at, (start, stop))
        row_in_block = np.full(len(queries), -1)
        row_in_block[active] = np.arange(len(active))
        rows = row_in_block[heard_row[first:last]]
        block[rows[rows >= 0], heard_at[first:last][rows >= 0] - start] = -np.inf
        items = np.broadcast_to(order.items[start:stop], block.shape)
        both = np.concatenate([scores[active], block], axis=1)
        best = np.argpartition(-both, k - 1, axis=1)[:, :k]
        scores[active] = np.take_along_axis(both, best, axis=1)
        items = np.concatenate([found[active], items], axis=1)
        found[active] = np.take_along_axis(items, best, axis=1)
        if stop < len(order.items):
            reach = lengths[active] * order.norms[stop] * (1 + 1e-5)  # float32 sums may be off
            active = active[scores[active].min(axis=1) < reach]
        if not len(active):
            break
    found[np.isneginf(scores)] = NOTHING
    by_item = np.argsort(found, axis=1, kind="stable")
    found = np.take_along_axis(found, by_item, axis=1)
    scores = np.take_along_axis(scores, by_item, axis=1)
    by_score = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(found, by_score, axis=1), np.take_along_axis(scores, by_score, axis=1)


def _chunks(n: int, k: int) -> list[tuple[int, int]]:
    """Ranges over n items: the first just over k, each next one twice as long, 8,192 at most."""
    edges = [0]
    size = max(k + 1, 512)
    while edges[-1] < n:
        edges.append(min(n, edges[-1] + size))
        size = min(2 * size, 8192)
    return list(pairwise(edges))


def _heard_positions(heard: csr_matrix | None, order: NormOrder) -> tuple[np.ndarray, np.ndarray]:
    """Rows and norm-order positions of the heard items, by position."""
    if heard is None:
        return np.empty(0, np.int64), np.empty(0, np.int32)
    rows = np.repeat(np.arange(heard.shape[0]), np.diff(heard.indptr))
    at = order.position[heard.indices]
    by_position = np.argsort(at, kind="stable")
    return rows[by_position], at[by_position]


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
    """Rows whose penalties are within 10 %, with their mean: implicit takes one a call."""
    step = np.floor(np.log(penalties) / np.log(1.1)).astype(np.int64)
    return [
        (rows, float(penalties[rows].mean()))
        for value in np.unique(step)
        for rows in [np.flatnonzero(step == value)]
    ]
