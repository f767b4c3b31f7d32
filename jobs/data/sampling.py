"""Draw samples of users by a hash of their ids, so that one more user redraws no one else.

A sample of k users has the k users with the smallest hashes. A new user takes part only if their
own hash is among them, and then takes the place of one other user.
"""

import numpy as np

from jobs.contract.ids import hashes


def order(ids: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the places of the ids in the order of their hashes, (n,)."""
    return np.argsort(hashes(ids, seed), kind="stable")


def drawn(ids: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Return the places of the k ids with the smallest hashes, ascending; all if there are fewer.

    Of ids and some more ids, at most as many members are exchanged as there are more:

    >>> drawn(np.arange(8), 3).tolist(), drawn(np.arange(9), 3).tolist()
    ([3, 5, 7], [3, 5, 7])
    """
    return np.sort(order(ids, seed)[:k])


def fractions(ids: np.ndarray, others: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a number from 0 to 1 for each pair of an id and another number, (n,) float64."""
    with np.errstate(over="ignore"):
        mixed = hashes(hashes(ids, seed) + others.astype(np.uint64), seed)
    return mixed.astype(np.float64) / 2.0**64
