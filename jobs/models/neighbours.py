"""Find the nearest tracks of each track by the cosine of their vectors, exactly or by cells.

Comparing all tracks with all takes time in proportion to n^2. In a large catalogue, cells take less
(after Sivic and Zisserman, "Video Google", 2003, and other inverted files). They are approximate:

1. k-means divides the n directions (see directions) into about 2 sqrt(n) cells.
2. Each direction is compared with all those in the cells whose centres are nearest to it. A
   neighbour in any other cell is missed. For a block of directions, the cells are taken one after
   the other: those of the block that look into a cell are compared with its directions by one
   matrix product.
3. For a random sample of tracks it is known in which cells their neighbours are. So many cells are
   searched that they hold enough of these neighbours (choose_cells).

With 250,000 directions there are 1,000 cells of 250 directions on average. If 20 cells are
searched for each, a direction is compared with about 5,000 others, instead of 250,000.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.names import LIST_LENGTH
from jobs.contract.ragged import offsets_of
from jobs.contract.top_k import NOTHING, NormOrder, best_of_parts, top_k
from jobs.models.directions import Directions, Lists
from jobs.runtime.engine import in_blocks

TRACKS_A_BLOCK = 1024  # tracks or directions that one matrix product compares with all others
CELLS_A_BLOCK = 16  # cells whose directions are a block
MOST_COMPARED = 50_000  # directions: up to this number, all are compared with all
SAMPLE = 1_000  # tracks on which recall is measured
ENOUGH = 0.985  # recall, 0 to 1, that a search by cells must reach
ENOUGH_OF_SAMPLE = 0.935  # the same in a window that is made of a sample of the users

# The largest share of all vectors that a search by cells may compare. Both ways compare by matrix
# products, but those of cells are smaller, and vectors have to be copied first.
MOST_VISITED = 0.5
SEED = 20
WITH_ITSELF = LIST_LENGTH + 1  # length of a list that still has the track itself, which is removed


def exact_lists(unit: np.ndarray, rows: np.ndarray) -> Iterator[Lists]:
    """Yield the lists (b, 100) of the tracks `rows` (m,), in this order, by comparing all with all.

    unit (n, d) are the tracks' vectors, which have unit length. Of tracks with equal cosines the
    one in the lower row comes first.
    """
    order = NormOrder.of(unit)

    def block(first: int, last: int) -> Lists:
        tracks = rows[first:last]
        itself = np.ones(len(tracks)), tracks, np.arange(len(tracks) + 1)
        itself = csr_matrix(itself, (len(tracks), len(unit)))
        return top_k(unit[tracks], order, LIST_LENGTH, itself)

    return in_blocks(block, len(rows), TRACKS_A_BLOCK, "similar")


def direction_lists(
    unit: np.ndarray, rows: np.ndarray, enough: float
) -> tuple[Iterator[Lists], str]:
    """Return the same lists as exact_lists, from directions, and how they are made, in words.

    Each direction is searched for once. All directions are compared with all where there are at
    most MOST_COMPARED, or where so many cells would have to be searched that it takes longer.
    Otherwise a search looks into as many cells as are needed for a recall of `enough`.
    """
    directions = Directions.of(unit)
    n = f" of {len(directions):,} directions" if len(directions) < len(unit) else ""
    if len(directions) <= MOST_COMPARED:
        return _track_lists(directions, _compared(directions), rows), f"exact{n}"
    cells = Cells.of(directions.vectors)
    chosen = choose_cells(cells, directions, enough)
    if chosen is None:
        return _track_lists(directions, _compared(directions), rows), f"exact{n}"
    how = f"recall@100 {chosen.recall:.4f} by {chosen.n} of {len(cells):,} cells{n}"
    return _track_lists(directions, _searched(cells, directions, chosen.n), rows), how


@dataclass(frozen=True)
class Cells:
    """Vectors in cells, of which each has a centre; centres have unit length, as the vectors do.

    The vectors of cell i are those at members[offsets[i]:offsets[i + 1]], ascending.
    """

    centres: np.ndarray  # (cells, d) float32
    of_vector: np.ndarray  # (n,): the cell of each vector, the one with the nearest centre
    members: np.ndarray  # (n,) int32
    offsets: np.ndarray  # (cells + 1,)

    @classmethod
    def of(cls, vectors: np.ndarray) -> "Cells":
        """Find the centres of the cells of vectors (n, d) by k-means on a sample of them."""
        n, d = vectors.shape
        kmeans = faiss.Kmeans(
            d,
            int(2 * np.sqrt(n)),
            niter=5,
            seed=SEED,
            spherical=True,  # otherwise a few cells would hold most vectors
            max_points_per_centroid=64,
            min_points_per_centroid=1,
        )
        kmeans.train(vectors)
        centres = np.asarray(kmeans.centroids)
        _, found = kmeans.index.search(vectors, 1)
        of_vector = found[:, 0]
        members = np.argsort(of_vector, kind="stable").astype(np.int32)
        offsets = offsets_of(np.bincount(of_vector, minlength=len(centres)))
        return cls(centres, of_vector, members, offsets)

    def __len__(self) -> int:
        return len(self.centres)

    def nearest(self, vectors: np.ndarray, n: int) -> np.ndarray:
        """Return the n cells whose centres are nearest to each vector (b, d): (b, n), unsorted."""
        cosines = vectors @ self.centres.T
        return np.argpartition(-cosines, n - 1, axis=1)[:, :n]

    def members_of(self, first: int, last: int) -> np.ndarray:
        """Return the vectors of the cells from first to last, cell after cell."""
        return self.members[self.offsets[first] : self.offsets[last]]


@dataclass(frozen=True)
class Choice:
    """How many cells are searched, and which share of the neighbours is in them, 0 to 1."""

    n: int
    recall: float


def choose_cells(cells: Cells, directions: Directions, enough: float) -> Choice | None:
    """Return how many cells hold enough neighbours, by those of a sample of the tracks.

    The recall is that of another sample of the same size. Returns None where comparing all with all
    takes less time.
    """
    order = NormOrder.of(directions.vectors)
    drawn = np.random.default_rng(SEED).permutation(len(directions.of_track))

    def places(tracks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells by nearness to each track, and the places of its neighbours' cells."""
        vectors = directions.vectors[directions.of_track[tracks]]
        lists = top_k(vectors, order, WITH_ITSELF)
        found, _ = _without_itself(directions.expand(lists), tracks)
        near = np.argsort(-(vectors @ cells.centres.T), axis=1, kind="stable")
        place_of = np.argsort(near, axis=1)
        row, at = np.nonzero(found != NOTHING)
        return near, place_of[row, cells.of_vector[directions.of_track[found[row, at]]]]

    near, found = places(drawn[:SAMPLE])
    needed = np.sort(found)[max(math.ceil(enough * len(found)), 1) - 1]
    n = int(needed) + 1
    visited = np.diff(cells.offsets)[near[:, :n]].sum(axis=1).mean() / len(directions)
    if visited > MOST_VISITED:
        return None
    _, of_others = places(drawn[SAMPLE : 2 * SAMPLE])
    return Choice(n, float(np.mean(of_others < n)))


def _compared(directions: Directions) -> Iterator[tuple[np.ndarray, Lists]]:
    """Yield directions and their nearest tracks (b, 101), by comparing all with all."""
    order = NormOrder.of(directions.vectors)

    def block(first: int, last: int) -> tuple[np.ndarray, Lists]:
        lists = top_k(directions.vectors[first:last], order, WITH_ITSELF)
        return np.arange(first, last), directions.expand(lists)

    return in_blocks(block, len(directions), TRACKS_A_BLOCK, "similar")


def _searched(cells: Cells, directions: Directions, n: int) -> Iterator[tuple[np.ndarray, Lists]]:
    """Yield directions and their nearest tracks (b, 101), by comparing them with n cells each."""
    vectors = directions.vectors

    def block(first: int, last: int) -> tuple[np.ndarray, Lists]:
        own = cells.members_of(first, last)
        queries = vectors[own]
        cell = cells.nearest(queries, n).ravel().astype(np.int32)
        by_cell = np.argsort(cell, kind="stable")
        row, starts = by_cell // n, offsets_of(np.bincount(cell, minlength=len(cells)))

        def parts() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
            for number in np.flatnonzero(np.diff(starts)).tolist():
                items = cells.members_of(number, number + 1)
                yield row[starts[number] : starts[number + 1]], vectors[items], items

        return own, directions.expand(best_of_parts(queries, parts(), WITH_ITSELF))

    return in_blocks(block, len(cells), CELLS_A_BLOCK, "similar")


def _track_lists(
    directions: Directions, found: Iterator[tuple[np.ndarray, Lists]], tracks: np.ndarray
) -> Iterator[Lists]:
    """Yield the lists (b, 100) of tracks, in the given order, from the lists of the directions."""
    items = np.empty((len(directions), WITH_ITSELF), np.int32)
    scores = np.empty((len(directions), WITH_ITSELF), np.float32)
    for rows, lists in found:
        items[rows], scores[rows] = lists
    size = 16 * TRACKS_A_BLOCK
    for first in range(0, len(tracks), size):
        block = tracks[first : first + size]
        rows = directions.of_track[block]
        yield _without_itself((items[rows], scores[rows]), block)


def _without_itself(lists: Lists, tracks: np.ndarray) -> Lists:
    """Return lists (b, k - 1) from which the track itself is removed, or else the last track."""
    items, scores = lists
    left_out = items == tracks[:, None]
    left_out[~left_out.any(axis=1), -1] = True
    shape = len(items), items.shape[1] - 1
    return items[~left_out].reshape(shape), scores[~left_out].reshape(shape)
