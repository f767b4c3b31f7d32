"""Ids in the jobs and the service: looking them up, mixing their bits, and the order of ties."""

from typing import NamedTuple

import numpy as np

MISSING = -1


def find(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the places (n,) int64 of ids in the ascending array known; MISSING for an unknown id.

    >>> find(np.array([3, 5, 8]), np.array([8, 4, 3, 9])).tolist()
    [2, -1, 0, -1]
    """
    if not len(known):
        return np.full(len(ids), MISSING)
    places = known.searchsorted(ids)
    places[places == len(known)] = 0  # behind all known ids: any place will do, as ids differ there
    places[known[places] != ids] = MISSING
    return places


def hashes(ids: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a hash of each id, (n,) uint64, by SplitMix64; different ids have different hashes.

    Its output changes in about half of the bits if one bit of the input changes (Steele, Lea and
    Flood, "Fast Splittable Pseudorandom Number Generators", 2014).

    >>> (hashes(np.array([1, 2, 3])) >> np.uint64(48)).tolist()
    [37130, 38744, 7435]
    """
    with np.errstate(over="ignore"):
        mixed = ids.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        result: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return result


class Ties(NamedTuple):
    """The order in which things with exactly equal scores stand in a list.

    `places` has the place of each one in this order, and `at` the one at each place; both have -1
    (for "nothing") once more at their end, so that an index of -1 gives -1.
    """

    places: np.ndarray  # (n + 1,) int32
    at: np.ndarray  # (n + 1,) int32


def ties_of(ids: np.ndarray) -> Ties:
    """Return the order of ties of ids (n,), which is the order of their hashes.

    The ids themselves often tell when a track was first played. If the lower id came first, lists
    with many equal scores would be better in an evaluation, where later tracks are in the past,
    than they are for the tracks of tomorrow. A hash tells nothing.

    Of the hashes in the example of the function above, that of id 3 is the smallest:

    >>> ties = ties_of(np.array([1, 2, 3]))
    >>> ties.places.tolist(), ties.at.tolist()
    ([1, 2, 0, -1], [2, 0, 1, -1])
    """
    at = np.argsort(hashes(ids)).astype(np.int32)
    places = np.empty(len(at) + 1, np.int32)
    places[at] = np.arange(len(at), dtype=np.int32)
    places[-1] = MISSING
    return Ties(places, np.append(at, np.int32(MISSING)))
