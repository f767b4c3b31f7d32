"""Compiled loops for top_k on large data: see compiling for when they are used."""

import numpy as np

from jobs.contract.compiled import compiled

NO_KEY = 2**63 - 1  # larger than every key
MAGNITUDE = 0x7FFFFFFF  # all bits of a float32 but the sign


@compiled
def _sink(heap: np.ndarray) -> None:
    """Restore the order of a heap with the largest key on top, whose top may be too small."""
    place, key = 0, heap[0]
    while True:
        child = 2 * place + 1
        if child >= len(heap):
            break
        if child + 1 < len(heap) and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = key


@compiled
def merge(
    heaps: np.ndarray,
    least: np.ndarray,
    rows: np.ndarray,
    block: np.ndarray,
    bits: np.ndarray,
    places: np.ndarray,
) -> None:
    """Put the scores of a block (b, c) into the heaps of the best keys of some rows (b,).

    heaps (n, k) int64 have the largest key on top, and least (n,) float32 its score, -inf while it
    is NO_KEY; both are changed. bits (b, c) int32 are those of the scores; places (c,) are those
    of the items among equal scores. Scores of -inf are left out. See top_k._keys for what a key is.
    """
    lowest = np.float32(-3.4028235e38)  # of a float32 that is not -inf
    for i in range(len(rows)):
        heap = heaps[rows[i]]
        bound = max(least[rows[i]], lowest)
        for j in range(block.shape[1]):
            if block[i, j] >= bound:
                rising = np.int64(bits[i, j])
                if rising < 0:
                    rising = -(rising & MAGNITUDE)
                key = (-rising << 32) | np.int64(places[j])
                if key < heap[0]:
                    heap[0] = key
                    _sink(heap)
                    if heap[0] != NO_KEY:
                        bound = _score(heap[0])
        if heap[0] != NO_KEY:
            least[rows[i]] = bound


@compiled
def widened(halves: np.ndarray) -> np.ndarray:
    """Return float16 numbers (n, d), given as their 16 bits, as float32.

    api.release.kernels.number says how.
    """
    result = np.empty(halves.shape, np.float32)
    for i in range(len(halves)):
        row, numbers = halves[i], result[i]
        for at in range(len(row)):
            half = np.int32(row[at])
            bits = (half & 0x8000) << 16 | (half & 0x7FFF) << 13
            numbers[at] = np.int32(bits).view(np.float32) * np.float32(2.0**112)
    return result


@compiled
def _score(key: int) -> np.float32:
    """Return the score of a key."""
    rising = -(key >> 32)
    bits = rising if rising >= 0 else -rising - 2**31
    return np.int32(bits).view(np.float32)
