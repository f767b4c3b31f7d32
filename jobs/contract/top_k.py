"""Exact top-k by inner product: the k items whose vectors fit a query best.

Pure functions of arrays; the jobs and the service share them. Two ideas make the search fast:

- Items are searched from the longest vector to the shortest. By the Cauchy-Schwarz inequality an
  item's score is at most |query| |item|. So once that bound for the next, shorter items is below a
  query's k-th best score, no later item can enter its list, and the query is done. Few queries have
  to look at all items.
- A score and its item are packed into one integer, a key, so that choosing the best and ordering
  equal scores is one partition of integers (see _keys).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract import compiling
from jobs.contract.ids import Ties
from jobs.contract.ragged import place_in_row, row_of_each

NOTHING = -1  # fills a row where fewer than k items exist
MAGNITUDE = 0x7FFFFFFF  # all bits of a float32 but the sign
NO_KEY = np.int64(2**63 - 1)  # larger than every key; its item is NOTHING


@dataclass(frozen=True)
class NormOrder:
    """Item vectors from the longest to the shortest: what top_k searches.

    items (n,) int32 are rows of the model, vectors (n, d) float32 or float16 and norms (n,) float32
    in that order. Items with a zero vector are unknown to the model and left out.
    """

    items: np.ndarray
    vectors: np.ndarray
    norms: np.ndarray
    position: np.ndarray  # (rows of the model,) int32: where a row is in the order, n if left out
    ties: Ties | None  # of the rows of the model; None: equal scores are in the order of the rows

    @classmethod
    def of(cls, factors: np.ndarray, ties: Ties | None = None) -> "NormOrder":
        """Order the rows of factors (items, d) by their length."""
        norms = np.linalg.norm(factors, axis=1)
        by_tie = np.arange(len(norms), dtype=np.int32) if ties is None else ties.at[:-1]
        items = by_tie[np.argsort(-norms[by_tie], kind="stable")[: np.count_nonzero(norms)]]
        position = np.full(len(factors), len(items), np.int32)
        position[items] = np.arange(len(items), dtype=np.int32)
        return cls(items, np.ascontiguousarray(factors[items]), norms[items], position, ties)

    @cached_property
    def places(self) -> np.ndarray:
        """Return the place of each item among equal scores, (n,) int32."""
        return self.items if self.ties is None else self.ties.places[self.items]


def top_k(
    queries: np.ndarray, order: NormOrder, k: int, heard: csr_matrix | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k items with the largest inner product for each query, heard ones left out.

    queries (b, d); heard (b, items) marks what may not be returned. Returns items (b, k) int32
    and scores (b, k) float32, best first, equal scores in the order of ties; NOTHING and -inf
    where fewer than k are left.

    The vectors (3, 0), (0, 1) and (1, 1) have the scores 3, 2 and 3 with the query (1, 2):

    >>> order = NormOrder.of(np.array([[3, 0], [0, 1], [1, 1]], np.float32))
    >>> items, scores = top_k(np.array([[1, 2]], np.float32), order, k=2)
    >>> items.tolist(), scores.tolist()
    ([[0, 2]], [[3.0, 3.0]])
    """
    keys = np.full((len(queries), k), NO_KEY)  # the best so far, in any order
    least = np.full(len(queries), -np.inf, np.float32)  # the k-th best score so far
    lengths = np.linalg.norm(queries, axis=1)
    heard_row, heard_at = _heard_positions(heard, order)
    active = np.arange(len(queries))  # the queries that are not done
    row_in_block = np.empty(len(queries), np.int64)
    for start, stop in _chunks(len(order.items), k):
        block = queries[active] @ _numbers(order.vectors[start:stop]).T
        row_in_block[:] = -1
        row_in_block[active] = np.arange(len(active))
        inside = np.flatnonzero((heard_at >= start) & (heard_at < stop))
        inside = inside[row_in_block[heard_row[inside]] >= 0]
        block[row_in_block[heard_row[inside]], heard_at[inside] - start] = -np.inf
        _merge(keys, least, active, block, order.places[start:stop])
        if stop < len(order.items):
            # The computed scores have rounding errors, so the bound gets a margin: without it an
            # item whose exact score equals the bound could be missed.
            bound = lengths[active] * order.norms[stop] * (1 + 1e-5)
            active = active[least[active] < bound]
        if not len(active):
            break
    places, scores = _sorted(keys)
    return places if order.ties is None else order.ties.at[places], scores


def best_of_parts(
    queries: np.ndarray,
    parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    k: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what top_k returns, by comparing some of the queries (b, d) with each part.

    A part has the rows (m,) of the queries that it is compared with, vectors (n, d), and the items
    (n,) of these vectors. Of equal scores the one with the lower item comes first.

    >>> vectors = np.array([[3, 0], [0, 1], [1, 1]], np.float32)
    >>> queries, rows = np.array([[1, 2], [1, 0]], np.float32), np.arange(2)
    >>> parts = [(rows, vectors, np.array([5, 6, 2])), (rows[1:], vectors[:1], np.array([4]))]
    >>> found, _ = best_of_parts(queries, parts, 2)
    >>> found.tolist()
    [[2, 5], [4, 5]]
    """
    keys = np.full((len(queries), k), NO_KEY)
    least = np.full(len(queries), -np.inf, np.float32)
    for rows, vectors, items in parts:
        _merge(keys, least, rows, queries[rows] @ vectors.T, items)
    return _sorted(keys)


def _numbers(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (n, d) float32 or float16 as float32."""
    if vectors.dtype != np.float16:
        return vectors
    from jobs.contract import top_k_kernels  # NumPy takes ten times as long

    return top_k_kernels.widened(vectors.view(np.uint16))


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places (b, k) int32 and scores of keys (b, k), best first; sorts them in place."""
    keys.sort(axis=1)
    return np.where(keys == NO_KEY, NOTHING, keys & 0xFFFFFFFF).astype(np.int32), _scores(keys)


def _merge(
    keys: np.ndarray, least: np.ndarray, rows: np.ndarray, block: np.ndarray, places: np.ndarray
) -> None:
    """Merge the scores of a block (b, c) into the best keys of some rows (b,), and set `least`.

    keys (n, k) are in any order, but always passed on to this function; least (n,) is the score of
    a row's last key. places (c,) are those of the block's items among equal ones.
    """
    if compiling.is_used():
        from jobs.contract import top_k_kernels

        block = block.astype(np.float32, copy=False)
        top_k_kernels.merge(keys, least, rows, block, block.view(np.int32), places)
    else:
        keys[rows] = _merged(keys[rows], least[rows], block, places)
        least[rows] = _scores(keys[rows].max(axis=1))


def _merged(
    keys: np.ndarray, least: np.ndarray, block: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Return the k best keys of each row, in any order, of its own and of a block's scores.

    keys (b, k); least (b,) is the score of a row's last key; block (b, c) has the scores of items
    with these places (c,) among equal ones. Most scores of a block are too low for any list, so
    only those that reach `least` become keys.
    """
    k = keys.shape[1]
    if block.shape[1] > k and np.isneginf(least).any():
        # A list that is not full yet accepts all scores; the block's own k-th best bounds it.
        least = np.maximum(least, np.partition(block, -k, axis=1)[:, -k])
    least = np.maximum(least, np.finfo(np.float32).min)  # heard items have -inf and stay out
    at = np.flatnonzero(block >= least[:, None])
    row, column = np.divmod(at, block.shape[1])
    counts = np.bincount(row, minlength=len(block))
    both = np.full((len(block), k + counts.max(initial=0)), NO_KEY)
    both[:, :k] = keys
    both[row, k + place_in_row(counts)] = _keys(block.reshape(-1)[at], places[column])
    return np.partition(both, k - 1, axis=1)[:, :k]


def _keys(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return keys (n,) int64 in whose order scores fall, and equal scores come by place.

    The upper 32 bits are minus a number that rises with the score, the lower 32 the place. The bits
    of positive floats are in the order of their values, and those of negative ones in the order of
    their magnitudes.

    >>> keys = _keys(np.array([-1.0, 2.0, 2.0, 0.5], np.float32), np.array([7, 9, 3, 4]))
    >>> np.argsort(keys).tolist()  # 2.0 at place 3, 2.0 at place 9, 0.5, -1.0
    [2, 1, 3, 0]
    >>> _scores(keys).tolist()
    [-1.0, 2.0, 2.0, 0.5]
    """
    bits = scores.astype(np.float32, copy=False).view(np.int32).astype(np.int64)
    rising = np.where(bits < 0, -(bits & MAGNITUDE), bits)  # that of -0 is that of 0
    keys: np.ndarray = (-rising << 32) | places
    return keys


def _scores(keys: np.ndarray) -> np.ndarray:
    """Return the float32 scores of keys, -inf for NO_KEY."""
    rising = -(keys >> 32)
    bits = np.where(rising < 0, -rising - 2**31, rising).astype(np.int32)
    return np.where(keys == NO_KEY, np.float32(-np.inf), bits.view(np.float32))


def _chunks(n: int, k: int) -> list[tuple[int, int]]:
    """Return ranges over n items: the first is above k, each next one half longer, at most 4,096.

    Short ranges at first, since many queries are done after them; long ones later, since few large
    matrix products are faster than many small ones.
    """
    edges = [0]
    size = max(k + 1, 512)
    while edges[-1] < n:
        edges.append(min(n, edges[-1] + size))
        size = max(size, min(size + size // 2, 4096))
    return list(pairwise(edges))


def _heard_positions(heard: csr_matrix | None, order: NormOrder) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the heard items, and their positions in the norm order."""
    if heard is None:
        return np.empty(0, np.int64), np.empty(0, np.int32)
    return row_of_each(np.diff(heard.indptr)), order.position[heard.indices]
