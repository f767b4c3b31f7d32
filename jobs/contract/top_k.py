"""Exact top-k by inner product.

Pure functions of arrays; the jobs and the service share them.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.ragged import place_in_row, row_of_each

NOTHING = -1  # fills a row where fewer than k items exist


NO_KEY = np.uint64(2**64 - 1)  # behind all keys; its item is NOTHING


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
    keys = np.full((len(queries), k), NO_KEY)
    least = np.full(len(queries), -np.inf, np.float32)  # what a score must reach
    lengths = np.linalg.norm(queries, axis=1)
    heard_row, heard_at = _heard_positions(heard, order)
    active = np.arange(len(queries))
    row_in_block = np.empty(len(queries), np.int64)
    for start, stop in _chunks(len(order.items), k):
        block = queries[active] @ order.vectors[start:stop].T
        row_in_block[:] = -1
        row_in_block[active] = np.arange(len(active))
        there = np.flatnonzero((heard_at >= start) & (heard_at < stop))
        there = there[row_in_block[heard_row[there]] >= 0]
        block[row_in_block[heard_row[there]], heard_at[there] - start] = -np.inf
        keys[active] = _merged(keys[active], least[active], block, order.items[start:stop])
        least[active] = _scores(keys[active].max(axis=1))
        if stop < len(order.items):
            reach = lengths[active] * order.norms[stop] * (1 + 1e-5)  # float32 sums may be off
            active = active[least[active] < reach]
        if not len(active):
            break
    keys.sort(axis=1)
    return keys.astype(np.uint32).view(np.int32), _scores(keys)


def _merged(
    keys: np.ndarray, least: np.ndarray, block: np.ndarray, items: np.ndarray
) -> np.ndarray:
    """The k best keys of each row (b, k), in any order, of its own and those of a block's scores.

    least (b,) is the score of a row's last key; block (b, c) has the scores of items (c,).
    """
    k = keys.shape[1]
    if block.shape[1] > k and np.isneginf(least).any():
        least = np.maximum(least, np.partition(block, -k, axis=1)[:, -k])
    least = np.maximum(least, np.finfo(np.float32).min)  # so that what is left out stays out
    at = np.flatnonzero(block >= least[:, None])
    row, column = np.divmod(at, block.shape[1])
    counts = np.bincount(row, minlength=len(block))
    both = np.full((len(block), k + counts.max(initial=0)), NO_KEY)
    both[:, :k] = keys
    both[row, k + place_in_row(counts)] = _keys(block.reshape(-1)[at], items[column])
    return np.partition(both, k - 1, axis=1)[:, :k]


def _keys(scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n,) uint64 whose order is that of falling scores, equal ones by item: score, then item."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 becomes 0
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))
    return (falling.astype(np.uint64) << np.uint64(32)) | items.astype(np.uint64)


def _scores(keys: np.ndarray) -> np.ndarray:
    """The float32 scores of keys, -inf of NO_KEY."""
    falling = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(falling >> 31, falling, ~falling & np.uint32(0x7FFFFFFF))
    return np.where(keys == NO_KEY, np.float32(-np.inf), bits.view(np.float32))


def _chunks(n: int, k: int) -> list[tuple[int, int]]:
    """Ranges over n items: the first just over k, each next one half longer, 4,096 at most."""
    edges = [0]
    size = max(k + 1, 512)
    while edges[-1] < n:
        edges.append(min(n, edges[-1] + size))
        size = max(size, min(size + size // 2, 4096))
    return list(pairwise(edges))


def _heard_positions(heard: csr_matrix | None, order: NormOrder) -> tuple[np.ndarray, np.ndarray]:
    """Rows and norm-order positions of the heard items."""
    if heard is None:
        return np.empty(0, np.int64), np.empty(0, np.int32)
    rows = row_of_each(np.diff(heard.indptr))
    return rows, order.position[heard.indices]
