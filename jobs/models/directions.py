"""Groups of tracks whose vectors point in one direction, and so have the same neighbours.

ALS gives all tracks that only one and the same user plays vectors of one direction: their lengths
may differ, their cosines to any other track do not. Where a few hundred people have listened to
100,000 tracks, more than half of the tracks are like that. It is enough to search for the
neighbours of each direction once, among the directions, and to list their tracks afterwards.

The solver rounds, so such vectors of unit length are not the same bytes: they differ by some 2e-7.
Tracks are grouped if their unit vectors round to the same point of a grid and differ by at most
TOLERANCE; so no score changes by more than that. Two equal vectors can lie on both sides of a
rounding edge: a second grid, moved by half a step, brings them together. The few pairs that an
edge of each grid parts stay two directions, which costs a little time and is otherwise harmless.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.contract import ragged
from jobs.contract.top_k import NOTHING

STEP = 2.0**-12  # of the grid, on each axis
TOLERANCE = 1e-5  # distance of two unit vectors that count as one direction
SEED = 20
ROWS_A_BLOCK = 8192


Lists = tuple[np.ndarray, np.ndarray]  # items int32 and scores float32, (b, k) each, best first


@dataclass(frozen=True)
class Directions:
    """Tracks 0 … n - 1 by direction; directions are numbered in the order of their first tracks.

    Five tracks, of which 0, 2 and 3 point in one direction and 1 and 4 in two others:

        of_track  0 1 0 0 2       tracks  0 2 3 1 4       offsets  0 3 4 5
    """

    vectors: np.ndarray  # (m, d) float32: the unit vector of each direction's first track
    of_track: np.ndarray  # (n,) int32: the direction of each track
    tracks: np.ndarray  # (n,) int32: the tracks by direction, ascending inside each
    offsets: np.ndarray  # (m + 1,): direction i has the tracks from offsets[i] to offsets[i + 1]

    @classmethod
    def of(cls, unit: np.ndarray) -> "Directions":
        """Group tracks by their vectors of unit length, (n, d) float32."""
        leader = np.arange(len(unit))
        for offset in (0.0, 0.5):
            leaders = np.flatnonzero(leader == np.arange(len(unit)))
            keys = _grid_keys(unit, leaders, offset)
            _, first, group = np.unique(keys, return_index=True, return_inverse=True)
            leader = leaders[first[group]][np.searchsorted(leaders, leader)]
        for rows in _blocks(np.flatnonzero(leader != np.arange(len(unit)))):
            apart = np.linalg.norm(unit[rows] - unit[leader[rows]], axis=1) > TOLERANCE
            leader[rows[apart]] = rows[apart]
        leaders = np.flatnonzero(leader == np.arange(len(unit)))
        of_track = np.searchsorted(leaders, leader).astype(np.int32)
        return cls(
            unit[leaders] if len(leaders) < len(unit) else unit,
            of_track,
            np.argsort(of_track, kind="stable").astype(np.int32),
            ragged.offsets_of(np.bincount(of_track, minlength=len(leaders))),
        )

    def __len__(self) -> int:
        return len(self.vectors)

    def expand(self, lists: Lists) -> Lists:
        """Return lists of tracks for lists of directions (b, k): the first k tracks of each row.

        All tracks of a direction have its score; equal scores come in the order of tracks. With
        the directions of the example above and k = 3, the directions 1, 0, 2 with scores .9, .5,
        .4 become the tracks 1, 0, 2 with scores .9, .5, .5.
        """
        directions, scores = lists
        if len(self) == len(self.tracks):
            return directions, scores
        k = directions.shape[1]
        there = directions != NOTHING
        starts = self.offsets[np.where(there, directions, 0)]
        sizes = np.where(there, self.offsets[directions + 1] - starts, 0)
        better = _tracks_with_better_scores(sizes, scores)
        sizes = np.where(better < k, np.minimum(sizes, k), 0)
        of_row = sizes.sum(axis=1)
        row, place = ragged.row_of_each(of_row), ragged.place_in_row(of_row)
        items = np.full((len(sizes), max(k, of_row.max(initial=0))), NOTHING, np.int32)
        values = np.full(items.shape, -np.inf, np.float32)
        items[row, place] = self.tracks[ragged.runs(starts.ravel(), sizes.ravel())]
        values[row, place] = np.repeat(scores.ravel(), sizes.ravel())
        items, values = sort_ties(items, values)
        return items[:, :k], values[:, :k]


def _tracks_with_better_scores(sizes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(b, k): how many tracks of the row have a larger score than the direction at each place.

    sizes (b, k) are the tracks of each direction, scores (b, k) fall along a row.
    """
    before = np.cumsum(sizes, axis=1) - sizes
    before[:, 1:][scores[:, 1:] == scores[:, :-1]] = 0  # counted from the first of equal scores on
    better: np.ndarray = np.maximum.accumulate(before, axis=1)
    return better


def sort_ties(items: np.ndarray, scores: np.ndarray) -> Lists:
    """Sort equal scores by item in lists (b, k) whose scores fall; few rows have any."""
    ties = (scores[:, 1:] == scores[:, :-1]) & (items[:, 1:] < items[:, :-1])
    ties &= items[:, 1:] != NOTHING
    rows = np.flatnonzero(ties.any(axis=1))
    if len(rows):
        order = np.lexsort((items[rows], -scores[rows]), axis=1)
        items[rows] = np.take_along_axis(items[rows], order, axis=1)
    return items, scores


def _grid_keys(unit: np.ndarray, rows: np.ndarray, offset: float) -> np.ndarray:
    """(rows,) int64: equal where rows of unit (n, d) round to one point of the grid.

    offset moves the grid, in steps. A key is the sum of the point's coordinates times random odd
    numbers, modulo 2^64. Two points have one key by chance once in 2^64 times; the comparison of
    distances afterwards finds that out.
    """
    rng = np.random.default_rng(SEED)
    factors = rng.integers(-(2**62), 2**62, unit.shape[1]) | 1
    step, moved = np.float32(1 / STEP), np.float32(offset)
    parts = [
        np.rint(unit[some] * step + moved).astype(np.int64) @ factors for some in _blocks(rows)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), ROWS_A_BLOCK):
        yield rows[first : first + ROWS_A_BLOCK]
