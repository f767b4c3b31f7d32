"""Find the nearest tracks of each track by the cosine of their vectors, exactly or by cells.

Comparing all tracks with all takes time in proportion to n^2. In a large catalogue an inverted file
takes less (Jegou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search", 2011; here
the vectors are stored as 16-bit floats instead of product codes). It is approximate:

1. k-means divides the n directions (see directions) into about 4 sqrt(n) cells.
2. A search compares its vector with the centres of all cells, and then only with the vectors in the
   nearest `nprobe` cells. A neighbour in any other cell is missed.
3. nprobe is raised until enough neighbours of a random sample of tracks are found (choose_cells).

With 250,000 directions there are 2,000 cells of 125 directions on average. With nprobe = 20, a
search compares a vector with 2,000 centres and about 2,500 vectors, instead of 250,000.
"""

from collections.abc import Iterator

import faiss
import numpy as np
from scipy.sparse import csr_matrix
from tqdm import tqdm

from jobs.contract.names import LIST_LENGTH
from jobs.contract.top_k import NOTHING, NormOrder, top_k
from jobs.models.directions import Directions, Lists, sort_ties
from jobs.models.sparse import dots
from jobs.runtime.parallel import in_blocks

TRACKS_A_BLOCK = 1024  # tracks or directions that one matrix product compares with all others
MOST_COMPARED = 50_000  # directions: up to this number, all are compared with all
SAMPLE = 1_000  # tracks on which recall is measured
ENOUGH = 0.985  # recall, 0 to 1, that a search by cells must reach
ENOUGH_OF_SAMPLE = 0.85  # the same in a window that is made of a sample of the users
ROUNDING = 1e-6  # two cosines that differ by no more count as equal
CELLS_AT_FIRST = 8  # nprobe from which choose_cells starts

# The largest share of all vectors that a search by cells may compare. A comparison inside a cell
# takes 4 to 5 times as long as one in a matrix product, so at a share of 0.2 both ways take the
# same time.
MOST_VISITED = 0.2
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
    index = make_index(directions.vectors)
    measured = choose_cells(index, directions, enough)
    if measured is None:
        return _track_lists(directions, _compared(directions), rows), f"exact{n}"
    how = f"recall@100 {measured:.4f} by {index.nprobe} of {index.nlist:,} cells{n}"
    return _track_lists(directions, _searched(index, directions), rows), how


def make_index(vectors: np.ndarray) -> faiss.IndexIVFScalarQuantizer:
    """Return an index of the vectors (n, d) in cells, whose centres are found by k-means.

    The centres have unit length, as the vectors do; otherwise a few cells would hold most vectors.
    """
    n, d = vectors.shape
    kind, metric = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(d), d, int(4 * np.sqrt(n)), kind, metric
    )
    index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = SEED, 10, 64
    index.cp.spherical, index.cp.min_points_per_centroid = True, 1
    index.train(vectors)
    index.add(vectors)
    return index


def choose_cells(
    index: faiss.IndexIVFScalarQuantizer, directions: Directions, enough: float
) -> float | None:
    """Set index.nprobe to the number of cells that gives enough recall on a sample of tracks.

    Returns the recall on another sample of the same size, or None where comparing all with all
    takes less time.
    """
    order = NormOrder.of(directions.vectors)

    def expected(tracks: np.ndarray) -> np.ndarray:
        lists = top_k(directions.vectors[directions.of_track[tracks]], order, WITH_ITSELF)
        return _without_itself(directions.expand(lists), tracks)[1]

    def found(tracks: np.ndarray) -> np.ndarray:
        lists = search(index, directions.vectors, directions.of_track[tracks])
        return _without_itself(directions.expand(lists), tracks)[1]

    drawn = np.random.default_rng(SEED).permutation(len(directions.of_track))
    choose_by, others = drawn[:SAMPLE], drawn[SAMPLE : 2 * SAMPLE]
    exact = expected(choose_by)
    index.nprobe = min(CELLS_AT_FIRST, index.nlist)
    while recall(found(choose_by), exact) < enough:
        if index.nprobe == index.nlist:
            return None
        index.nprobe = min(5 * index.nprobe // 4, index.nlist)
        if visited_share(index, directions.vectors[directions.of_track[choose_by]]) > MOST_VISITED:
            return None
    return recall(found(others), expected(others))


def visited_share(index: faiss.IndexIVFScalarQuantizer, queries: np.ndarray) -> float:
    """Return the share of all vectors that lie in the cells searched for queries (b, d), 0 to 1.

    It is larger than nprobe / nlist, since a large cell is near to more queries than a small one.
    """
    sizes = np.array([index.get_list_size(cell) for cell in range(index.nlist)])
    _, cells = index.quantizer.search(queries, index.nprobe)
    return float(sizes[cells].sum() / (len(queries) * index.ntotal))


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the share of the expected neighbours (b, k) that are found (b, k), by their scores.

    A found item counts if its score reaches the row's lowest expected score: of several items with
    equal scores any may be found. Missing items have a score of -inf.

    >>> expected = np.array([[0.9, 0.5]])
    >>> recall(np.array([[0.9, 0.5]]), expected), recall(np.array([[0.9, 0.4]]), expected)
    (1.0, 0.5)
    """
    exists = expected > -np.inf
    lowest = np.where(exists, expected, np.inf).min(axis=1, keepdims=True)
    return int((found >= lowest - ROUNDING).sum()) / max(int(exists.sum()), 1)


def search(index: faiss.IndexIVFScalarQuantizer, vectors: np.ndarray, rows: np.ndarray) -> Lists:
    """Return the nearest vectors (b, 101) of some rows, in their nearest index.nprobe cells.

    The vector of the row itself is among them. The index compares 16-bit floats; the scores and the
    order are then computed from the vectors (n, d) float32.
    """
    _, items = index.search(vectors[rows], WITH_ITSELF)
    row = np.repeat(np.arange(len(rows)), WITH_ITSELF)
    scores = dots(vectors[rows], row, vectors, items.ravel()).reshape(items.shape)
    scores[items < 0], items[items < 0] = -np.inf, NOTHING
    best_first = np.argsort(-scores, axis=1, kind="stable")
    items, scores = (np.take_along_axis(part, best_first, axis=1) for part in (items, scores))
    return sort_ties(items.astype(np.int32), scores)


def _compared(directions: Directions) -> Iterator[tuple[np.ndarray, Lists]]:
    """Yield directions and their nearest tracks (b, 101), by comparing all with all."""
    order = NormOrder.of(directions.vectors)

    def block(first: int, last: int) -> tuple[np.ndarray, Lists]:
        lists = top_k(directions.vectors[first:last], order, WITH_ITSELF)
        return np.arange(first, last), directions.expand(lists)

    return in_blocks(block, len(directions), TRACKS_A_BLOCK, "similar")


def _searched(
    index: faiss.IndexIVFScalarQuantizer, directions: Directions
) -> Iterator[tuple[np.ndarray, Lists]]:
    """Yield directions and their nearest tracks (b, 101), by cells, one block after the other.

    faiss itself uses all threads for a block. Directions of one cell are in the same block, since
    their nearest cells are mostly the same ones and then stay in the processor's cache.
    """
    _, cell = index.quantizer.search(directions.vectors, 1)
    by_cell = np.argsort(cell[:, 0], kind="stable")
    size = 16 * TRACKS_A_BLOCK
    with tqdm(total=len(by_cell), desc="similar", leave=False, disable=None) as progress:
        for first in range(0, len(by_cell), size):
            rows = by_cell[first : first + size]
            yield rows, directions.expand(search(index, directions.vectors, rows))
            progress.update(len(rows))


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
