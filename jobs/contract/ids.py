"""Looking up ids among the known ones, for the jobs and the service."""

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
