"""The nearest tracks of each track by the cosine of their vectors: all compared, or by cells.

Comparing all with all takes time in proportion to n^2. In a large catalogue an inverted file does
with less (Jegou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search", 2011; here
with plain 16-bit numbers): k-means parts the directions into some 4 sqrt(n) cells, and a search
looks into the nearest of them only.
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

TRACKS_A_BLOCK = 1024
MOST_COMPARED = 50_000  # directions: up to so many, all are compared with all
SAMPLE = 1_000  # tracks by which recall is measured
ENOUGH, ENOUGH_OF_SAMPLE = 0.985, 0.85  # recall
ROUNDING = 1e-6  # of a cosine: two that differ by no more are equal
CELLS_AT_FIRST = 8

# The share of all vectors that a search may look at. One vector in a cell costs 4 to 5 times as
# much as one in the blocks of a matrix product: at a share of 0.2 both ways cost the same.
MOST_VISITED = 0.2
SEED = 20
WITH_ITSELF = LIST_LENGTH + 1  # a track is its own nearest neighbour and left out in the end


def exact_lists(unit: np.ndarray) -> Iterator[Lists]:
    """Yield the lists (b, 100) of all tracks, block by block, by comparing all with all.

    unit (n, d) are the tracks' vectors, of unit length.
    """
    order = NormOrder.of(unit)

    def block(first: int, last: int) -> Lists:
        tracks = np.arange(first, last)
        itself = csr_matrix((np.ones(len(tracks)), (tracks - first, tracks)), (len(tracks), n))
        return top_k(unit[tracks], order, LIST_LENGTH, itself)

    n = len(unit)
    return in_blocks(block, n, TRACKS_A_BLOCK, "similar")


def direction_lists(unit: np.ndarray, enough: float) -> tuple[Iterator[Lists], str]:
    """Yield the lists (b, 100) of all tracks, block by block, by searching for directions.

    Directions are compared with all others where they are few, or where cells would have to be so
    many that they cost more; otherwise in as many cells as it takes for a recall of `enough`.
    Returns with the lists how they are made.
    """
    directions = Directions.of(unit)
    n = f" of {len(directions):,} directions" if len(directions) < len(unit) else ""
    if len(directions) <= MOST_COMPARED:
        return _track_lists(directions, _compared(directions)), f"exact{n}"
    index = make_index(directions.vectors)
    found = choose_cells(index, directions, enough)
    if found is None:
        return _track_lists(directions, _compared(directions)), f"exact{n}"
    how = f"recall@100 {found:.4f} by {index.nprobe} of {index.nlist:,} cells{n}"
    return _track_lists(directions, _searched(index, directions)), how


def make_index(vectors: np.ndarray) -> faiss.IndexIVFScalarQuantizer:
    """Cells of near directions, by k-means on a sample; of unit length, or few hold most tracks."""
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
    """Set index.nprobe to as many cells as give enough recall, measured on a sample of tracks.

    Returns the recall of as many other tracks, or None where comparing all with all costs less.
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
    wanted = expected(choose_by)
    index.nprobe = min(CELLS_AT_FIRST, index.nlist)
    while recall(found(choose_by), wanted) < enough:
        if index.nprobe == index.nlist:
            return None
        index.nprobe = min(5 * index.nprobe // 4, index.nlist)
        if visited_share(index, directions.vectors[directions.of_track[choose_by]]) > MOST_VISITED:
            return None
    return recall(found(others), expected(others))


def visited_share(index: faiss.IndexIVFScalarQuantizer, queries: np.ndarray) -> float:
    """The share of the index's vectors that stand in the cells searched for queries (b, d).

    It is more than nprobe / nlist, as large cells are near more queries.
    """
    sizes = np.array([index.get_list_size(cell) for cell in range(index.nlist)])
    _, cells = index.quantizer.search(queries, index.nprobe)
    return float(sizes[cells].sum() / (len(queries) * index.ntotal))


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of the places of expected scores (b, k) for which as good a score is found (b, k).

    A found item counts if its score reaches the row's last expected score, whichever of several
    equal items it is. Missing items have a score of -inf.
    """
    there = expected > -np.inf
    last = np.where(there, expected, np.inf).min(axis=1, keepdims=True)
    return int((found >= last - ROUNDING).sum()) / max(int(there.sum()), 1)


def search(index: faiss.IndexIVFScalarQuantizer, vectors: np.ndarray, rows: np.ndarray) -> Lists:
    """The nearest vectors (b, 101) of some rows, themselves too, in the nearest index.nprobe cells.

    The index finds them by their 16-bit numbers; scores and order are those of the vectors (n, d).
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
    """Yield directions and their nearest tracks (b, 101) by cells; faiss uses all threads for one.

    Directions of one cell are searched for together, as they look into much the same cells.
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
    directions: Directions, found: Iterator[tuple[np.ndarray, Lists]]
) -> Iterator[Lists]:
    """Yield the lists (b, 100) of all tracks in their order, from those of the directions."""
    items = np.empty((len(directions), WITH_ITSELF), np.int32)
    scores = np.empty((len(directions), WITH_ITSELF), np.float32)
    for rows, lists in found:
        items[rows], scores[rows] = lists
    n, size = len(directions.of_track), 16 * TRACKS_A_BLOCK
    for first in range(0, n, size):
        rows = directions.of_track[first : first + size]
        yield _without_itself((items[rows], scores[rows]), np.arange(first, first + len(rows)))


def _without_itself(lists: Lists, tracks: np.ndarray) -> Lists:
    """Lists (b, k - 1) without the track that each is of, or without the last if it isn't there."""
    items, scores = lists
    left_out = items == tracks[:, None]
    left_out[~left_out.any(axis=1), -1] = True
    shape = len(items), items.shape[1] - 1
    return items[~left_out].reshape(shape), scores[~left_out].reshape(shape)
