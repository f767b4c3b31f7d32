"""Group tracks whose vectors point in one direction and so have the same neighbours.

Two tracks that only one user plays, the same for both, get vectors of one direction from ALS, such
as (1, 2) and (3, 6). Their lengths differ, but their cosine to any other track is the same, so
their lists of neighbours are the same too. Where a few hundred people have listened to 100,000
tracks, more than half of the tracks share a direction with others. So the search compares
directions with directions, once for each, and `expand` replaces each direction that was found by
its tracks.

Because the solver rounds, two such vectors scaled to unit length differ by about 2e-7. Tracks are
grouped if their unit vectors round to the same point of a grid and differ by at most TOLERANCE, so
no score changes by more than that. Two nearly equal vectors can lie on both sides of a rounding
edge, as 0.4999 and 0.5001 round to 0 and 1. A second grid, which is moved by half a step, rounds
them to the same point. A few pairs are separated by both grids; they stay two directions, which
costs a little time and has no other effect.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.contract import ragged
from jobs.contract.top_k import NOTHING

STEP = 2.0**-12  # distance of two neighbouring points of the grid, on each axis
TOLERANCE = 1e-5  # largest distance of two unit vectors that count as one direction
SEED = 20
ROWS_A_BLOCK = 8192  # vectors that are rounded at a time


Lists = tuple[np.ndarray, np.ndarray]  # items int32 and scores float32, (b, k) each, best first


@dataclass(frozen=True)
class Directions:
    """Tracks 0 … n - 1, grouped by direction.

    Directions are numbered in the order of their first tracks. An example with five tracks: 0, 2
    and 3 point in one direction, 1 in a second, and 4 in a third:

        of_track  0 1 0 0 2       tracks  0 2 3 1 4       offsets  0 3 4 5
    """

    vectors: np.ndarray  # (m, d) float32: the unit vector of each direction's first track
    of_track: np.ndarray  # (n,) int32: the direction of each track
    tracks: np.ndarray  # (n,) int32: the tracks of direction 0, then of 1, …; ascending in each
    offsets: np.ndarray  # (m + 1,): direction i has tracks[offsets[i]:offsets[i + 1]]

    @classmethod
    def of(cls, unit: np.ndarray) -> "Directions":
        """Group tracks by their vectors (n, d) float32, which have unit length."""
        leader = np.arange(len(unit))  # the first track of each track's group
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
        """Replace directions by their tracks in lists (b, k), and keep the first k of each row.

        Every track gets the score of its direction; equal scores are in the order of tracks. With
        the directions of the example above and k = 3, the directions 1, 0, 2 with the scores 0.75,
        0.5, 0.25 become the tracks 1, 0, 2 with the scores 0.75, 0.5, 0.5. Direction 0 has the
        tracks 0, 2 and 3, so there is no place left for track 3 and for direction 2.

        >>> offsets, tracks = np.array([0, 3, 4, 5]), np.array([0, 2, 3, 1, 4])
        >>> example = Directions(np.zeros((3, 2)), np.array([0, 1, 0, 0, 2]), tracks, offsets)
        >>> items, scores = example.expand((np.array([[1, 0, 2]]), np.array([[0.75, 0.5, 0.25]])))
        >>> items.tolist(), scores.tolist()
        ([[1, 0, 2]], [[0.75, 0.5, 0.5]])
        """
        directions, scores = lists
        several = np.append(np.diff(self.offsets) > 1, False)  # the last one is that of NOTHING
        rows = several[directions].any(axis=1)
        items = np.append(self.tracks[self.offsets[:-1]], np.int32(NOTHING))[directions]
        if rows.any():  # in other rows each direction has one track
            scores = scores.copy()
            items[rows], scores[rows] = self._expanded(directions[rows], scores[rows])
        return sort_ties(items, scores)

    def _expanded(self, directions: np.ndarray, scores: np.ndarray) -> Lists:
        """Return what expand does, for lists that may have any directions."""
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
    """Return for each place of a list (b, k) how many tracks of the row have a larger score.

    sizes (b, k) are the numbers of tracks of each direction; scores (b, k) fall along a row. Sizes
    1, 3, 1 with scores 0.75, 0.5, 0.5 give 0, 1, 1.
    """
    before = np.cumsum(sizes, axis=1) - sizes
    before[:, 1:][scores[:, 1:] == scores[:, :-1]] = 0  # equal scores share the count of the first
    better: np.ndarray = np.maximum.accumulate(before, axis=1)
    return better


def sort_ties(items: np.ndarray, scores: np.ndarray) -> Lists:
    """Sort items of equal scores by item, in place, in lists (b, k) whose scores fall."""
    ties = (scores[:, 1:] == scores[:, :-1]) & (items[:, 1:] < items[:, :-1])
    ties &= items[:, 1:] != NOTHING
    rows = np.flatnonzero(ties.any(axis=1))  # few rows have equal scores in the wrong order
    if len(rows):
        order = np.lexsort((items[rows], -scores[rows]), axis=1)
        items[rows] = np.take_along_axis(items[rows], order, axis=1)
    return items, scores


def _grid_keys(unit: np.ndarray, rows: np.ndarray, offset: float) -> np.ndarray:
    """Return a key (rows,) int64 of the grid point to which each row of unit (n, d) rounds.

    offset moves the grid, in steps. A key is a hash: the sum of the point's coordinates, each times
    a random odd number, modulo 2^64. Two different points have the same key by chance about once in
    2^64 pairs; the caller compares distances afterwards and so separates such points.
    """
    rng = np.random.default_rng(SEED)
    factors = rng.integers(-(2**62), 2**62, unit.shape[1]) | 1
    step, moved = np.float32(1 / STEP), np.float32(offset)
    parts = [
        np.rint(unit[block] * step + moved).astype(np.int64) @ factors for block in _blocks(rows)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), ROWS_A_BLOCK):
        yield rows[first : first + ROWS_A_BLOCK]
