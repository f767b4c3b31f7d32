"""Compiled loops for fresh answers: what jobs.contract.blending computes in NumPy, in less time.

An answer to a new event merges some hundred entries. NumPy needs about 40 calls for that, and each
takes longer than its work. These functions make one pass in compiled code, without the GIL. The
tests compare them with the functions of jobs.contract.blending, which jobs.replay uses.

jobs/contract/compiled.py says where compiled code is kept.
"""

import numpy as np

from jobs.contract.blending import Scores, Tracks
from jobs.contract.compiled import compiled

LANES = 16  # partial sums of a product of vectors, so that vector units add them side by side


@compiled
def _add(table: Tracks, tracks: Tracks, sums: Scores, size: int, track: int, gain: float) -> int:
    """Add what a track gains, and return how many tracks there are.

    `table` is a hash table: its slots hold places in `tracks`, or -1. Its length is a power of 2.
    """
    last = len(table) - 1
    slot = (int(track) * 0x9E3779B1 >> 7) & last
    while table[slot] >= 0 and tracks[table[slot]] != track:
        slot = (slot + 1) & last
    place = table[slot]
    if place >= 0:
        sums[place] += gain
        return size
    table[slot], tracks[size], sums[size] = size, track, gain
    return size + 1


@compiled
def _raised(score: np.float32, exponent: float) -> np.float32:
    """Return a score to a power; one below 0 counts as 0."""
    if score <= 0:
        return np.float32(0)
    if exponent == 1:
        return score
    return score ** np.float32(exponent)


@compiled
def competing(
    similar: tuple[Tracks, Tracks, Scores, float],
    next_played: tuple[Tracks, Tracks, Scores, float],
    events: Tracks,
    fading: Scores,
    n: int,
    exponent: float,
    allowed: np.ndarray,
    offline: Tracks,
    worth: Scores,
) -> tuple[Tracks, Scores]:
    """Return the tracks that events and the offline list bring, and the sum of what each gains.

    Each source is offsets, items and scores of its lists, and its weight. `events` are positions,
    newest first, -1 where there is none; an event counts fading[its age] and brings its first n
    neighbours that are allowed, by the mask (tracks + 1,). The offline tracks (m,) gain worth (m,).
    """
    most = 2 * len(events) * n + len(offline)
    slots = 64
    while slots < 2 * most:
        slots *= 2
    table = np.full(slots, -1, np.int32)
    tracks, sums = np.empty(most, np.int32), np.empty(most, np.float64)
    size = 0
    for offsets, items, scores, weight in (similar, next_played):
        if weight == 0:
            continue
        for age in range(len(events)):
            row, left = events[age], n
            if row < 0:
                continue
            for place in range(offsets[row], offsets[row + 1]):
                if not allowed[items[place]]:
                    continue
                gain = _raised(scores[place], exponent) * (weight * fading[age])
                size = _add(table, tracks, sums, size, items[place], gain)
                left -= 1
                if left == 0:
                    break
    for place in range(len(offline)):
        size = _add(table, tracks, sums, size, offline[place], worth[place])
    return tracks[:size], sums[:size]


@compiled
def add_fits(
    tracks: Tracks,
    sums: Scores,
    position: Tracks,
    vectors: Scores,
    taste: Scores,
    weight: float,
    exponent: float,
) -> None:
    """Add to the sums what tracks gain by fitting a taste (d,).

    position (tracks,) is the row of each track in vectors (m, d), or m.
    """
    d = len(taste)
    whole = d - d % LANES
    lanes = np.empty(LANES, np.float32)
    for i in range(len(tracks)):
        place = position[tracks[i]]
        if place >= len(vectors):
            continue
        lanes[:] = 0
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                lanes[lane] += vectors[place, start + lane] * taste[start + lane]
        product = np.float32(0)
        for lane in range(LANES):
            product += lanes[lane]
        for column in range(whole, d):
            product += vectors[place, column] * taste[column]
        sums[i] += _raised(product, exponent) * weight


@compiled
def _ranks_before(a: int, b: int, sums: Scores, places: Tracks) -> bool:
    """Return whether entry a comes before b: the greater sum, or the lower place of equal sums."""
    return bool(sums[a] > sums[b] or (sums[a] == sums[b] and places[a] < places[b]))


@compiled
def _sink(heap: Tracks, at: int, size: int, sums: Scores, places: Tracks) -> None:
    """Restore the order of a heap, with the last in rank on top, where `at` may stand too high."""
    while True:
        worst = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < size and _ranks_before(heap[worst], heap[child], sums, places):
                worst = child
        if worst == at:
            return
        heap[at], heap[worst] = heap[worst], heap[at]
        at = worst


@compiled
def best(tracks: Tracks, sums: Scores, ties: Tracks, most: int) -> Tracks:
    """Return the first `most` tracks by sum, the greatest first.

    Of equal sums the track with the lower place in `ties` comes first; ties has a place for each
    track. The first are kept in a heap, so that the others are not sorted.
    """
    size = min(most, len(tracks))
    result = np.empty(size, np.int32)
    if size == 0:
        return result
    places = np.empty(len(tracks), np.int32)
    for i in range(len(tracks)):
        places[i] = ties[tracks[i]]
    heap = np.arange(size)
    for at in range(size // 2 - 1, -1, -1):
        _sink(heap, at, size, sums, places)
    for i in range(size, len(tracks)):
        if _ranks_before(i, heap[0], sums, places):
            heap[0] = i
            _sink(heap, 0, size, sums, places)
    for end in range(size - 1, -1, -1):
        result[end] = tracks[heap[0]]
        heap[0] = heap[end]
        _sink(heap, 0, end, sums, places)
    return result
