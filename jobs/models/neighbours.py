"""The nearest tracks of each track by the cosine of their vectors: all compared, or by cells."""

from collections.abc import Iterator

import faiss
import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.names import LIST_LENGTH
from jobs.contract.top_k import NOTHING, NormOrder, top_k
from jobs.models.sparse import dots
from jobs.runtime.parallel import in_blocks
from jobs.runtime.progress import progress_bar

TRACKS_A_BLOCK = 1024


MOST_EXACT = 50_000  # tracks


SAMPLE = 1_000  # tracks by which recall is measured


ENOUGH, ENOUGH_OF_SAMPLE = 0.985, 0.85  # recall


CELLS_AT_FIRST = 8


SEED = 20


Lists = tuple[np.ndarray, np.ndarray]  # items and scores, (b, 100) each, best first


def exact(unit: np.ndarray, tracks: np.ndarray, order: NormOrder) -> Lists:
    """The lists of some tracks, by comparing with all; unit (n, d) are the tracks' directions."""
    rows = np.arange(len(tracks))
    itself = csr_matrix((np.ones(len(rows)), (rows, tracks)), (len(rows), len(unit)))
    return top_k(unit[tracks], order, LIST_LENGTH, itself)


def exact_lists(unit: np.ndarray) -> Iterator[Lists]:
    """The lists of all tracks, block by block."""
    order = NormOrder.of(unit)

    def block(first: int, last: int) -> Lists:
        return exact(unit, np.arange(first, last), order)

    return in_blocks(block, len(unit), TRACKS_A_BLOCK, "similar")


def make_index(unit: np.ndarray) -> faiss.IndexIVFScalarQuantizer:
    """Cells of near directions, by k-means on a sample; of unit length, or few hold most tracks."""
    n, d = unit.shape
    kind, metric = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(d), d, int(4 * np.sqrt(n)), kind, metric
    )
    index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = SEED, 10, 64
    index.cp.spherical, index.cp.min_points_per_centroid = True, 1
    index.train(unit)
    index.add(unit)
    return index


def search(index: faiss.IndexIVFScalarQuantizer, unit: np.ndarray, tracks: np.ndarray) -> Lists:
    """The lists of some tracks, by the nearest index.nprobe cells."""
    _, items = index.search(unit[tracks], LIST_LENGTH + 1)
    row = np.repeat(np.arange(len(tracks)), LIST_LENGTH + 1)
    scores = dots(unit[tracks], row, unit, items.ravel()).reshape(items.shape)
    gone = (items == tracks[:, None]) | (items < 0)
    scores[gone], items[gone] = -np.inf, NOTHING
    for key in (items, -scores):  # best first, equal scores in the order of items
        by_key = np.argsort(key, axis=1, kind="stable")
        items, scores = (np.take_along_axis(part, by_key, axis=1) for part in (items, scores))
    return items[:, :LIST_LENGTH].astype(np.int32), scores[:, :LIST_LENGTH]


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of the expected items (b, 100) that are found (b, 100) in the same row."""
    n = max(found.max(), expected.max()) + 1
    row = np.arange(len(found))[:, None] * n
    there = np.isin((expected + row)[expected != NOTHING], (found + row)[found != NOTHING])
    return float(there.mean())


def choose_cells(index: faiss.IndexIVFScalarQuantizer, unit: np.ndarray, enough: float) -> float:
    """Set index.nprobe so that enough is found; returns the recall of tracks not chosen by."""
    drawn = np.random.default_rng(SEED).permutation(len(unit))
    order = NormOrder.of(unit)
    choose_by, others = drawn[:SAMPLE], drawn[SAMPLE : 2 * SAMPLE]
    expected, _ = exact(unit, choose_by, order)
    index.nprobe = CELLS_AT_FIRST
    while index.nprobe < index.nlist:
        if recall(search(index, unit, choose_by)[0], expected) >= enough:
            break
        index.nprobe = min(5 * index.nprobe // 4, index.nlist)
    return recall(search(index, unit, others)[0], exact(unit, others, order)[0])


def near_lists(index: faiss.IndexIVFScalarQuantizer, unit: np.ndarray) -> Iterator[Lists]:
    """The lists of all tracks, block by block; faiss uses all threads for one.

    Tracks of one cell are searched for together, as they look into much the same cells.
    """
    n = len(unit)
    _, cell = index.quantizer.search(unit, 1)
    by_cell = np.argsort(cell[:, 0], kind="stable")
    items, scores = np.empty((n, LIST_LENGTH), np.int32), np.empty((n, LIST_LENGTH), np.float32)
    size = 16 * TRACKS_A_BLOCK
    with progress_bar(total=n, desc="similar") as progress:
        for first in range(0, n, size):
            tracks = by_cell[first : first + size]
            items[tracks], scores[tracks] = search(index, unit, tracks)
            progress.update(len(tracks))
    for first in range(0, n, size):
        yield items[first : first + size], scores[first : first + size]
