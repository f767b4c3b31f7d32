"""Tell whether equal rows of the interactions are several plays, or copies of one.

Where times are exact to the second, nobody plays a track twice at the same time, so equal rows are
copies. Where all times are whole minutes or days, a track may well be played twice at one time.
"""

from collections import Counter

import numpy as np

from jobs.contract.ids import hashes
from jobs.contract.storage import JobError
from jobs.data.allocator import BLOCK, Allocator, blocks
from jobs.data.histories import NO_SEQ, Listens, parts
from jobs.data.raw_files import row_name
from jobs.inputs.files import Input

MINUTE = 60_000_000  # microseconds
RULES = ("auto", "plays", "copies")
LONG_PART = 1_000  # rows of a part that is there twice; shorter ones may be by chance
COPIED = 0.95  # share of the rows in equal pairs from which on the file probably has its rows twice


def are_plays(listens: Listens, n: int, rule: str) -> bool:
    """Return whether equal rows among the first n are several plays, by a rule of RULES.

    "auto" says so where no good row has a track_seq, and all their times are whole minutes.
    """
    if rule != "auto":
        return rule == "plays"
    for rows in blocks(n):
        good = listens.user[rows] >= 0
        if (listens.time[rows][good] % MINUTE).any() or (listens.seq[rows][good] != NO_SEQ).any():
            return False
    return True


def stop_if_doubled(listens: Listens, n: int, source: Input, allocator: Allocator) -> None:
    """Raise JobError if the first n rows seem to have all rows twice, or a long part twice.

    Nearly all rows are then there an even number of times, or a part is the same as a later one.
    Such a file, or part of it, was probably written or delivered twice, and would double its plays.
    `allocator` makes what is needed to compare all rows.
    """
    n_good = doubled = 0
    distances: Counter[int] = Counter()  # between neighbours of equal rows: how often each is found
    for rows, part, _ in parts(Listens(*(column[:n] for column in listens)), allocator):
        numbers = mixed(part.user, part.track, part.time)
        order = np.argsort(numbers, kind="stable")  # equal rows keep file order
        same = np.append(False, numbers[order[1:]] == numbers[order[:-1]])  # as the one before
        counts = np.diff(np.append(np.flatnonzero(~same), len(rows)))
        n_good += len(rows)
        doubled += int(counts[counts % 2 == 0].sum())
        later = np.flatnonzero(same)
        far, times = np.unique(rows[order[later]] - rows[order[later - 1]], return_counts=True)
        distances.update(dict(zip(far.tolist(), times.tolist(), strict=True)))
    advice = (
        "Pass --equal-rows copies to keep one of equal rows, or --equal-rows plays if all of them "
        "are plays"
    )
    if doubled > COPIED * n_good:
        raise JobError(
            f"{source.path}: {doubled:,} of {n_good:,} rows are there twice, or another "
            f"even number of times, so the file seems to have all its rows twice. {advice}"
        )
    if distances.total() < LONG_PART:
        return
    distance = min(distances, key=lambda far: (-distances[far], far))
    if copy := repeated_part(listens, n, distance):
        first, last, earlier = (row_name(source, row) for row in (*copy, copy[0] - distance))
        raise JobError(
            f"{source.path}: {first} to {last} are the same as those from {earlier} on, so a part "
            f"of the file seems to be there twice. {advice}"
        )


def repeated_part(listens: Listens, n: int, distance: int) -> tuple[int, int] | None:
    """Return the first and the last row of the longest part of the first n rows that is a copy.

    It is the same as the rows that are so far before it. Bad rows are the same as bad rows. A part
    has at least LONG_PART rows, mostly different ones.

    >>> again = np.arange(3 * LONG_PART) % (2 * LONG_PART)
    >>> repeated_part(Listens(again, again, again, again), len(again), 2 * LONG_PART)
    (2000, 2999)
    """

    def numbers(rows: slice) -> np.ndarray:
        return mixed(listens.user[rows], listens.track[rows], listens.time[rows])

    same = np.zeros(n - distance + 2, bool)  # with False before and after
    for rows in blocks(n - distance):
        later = slice(rows.start + distance, rows.stop + distance)
        bad = (listens.user[rows] < 0) & (listens.user[later] < 0)
        same[1 + rows.start : 1 + rows.stop] = bad | (numbers(rows) == numbers(later))
    edges = np.flatnonzero(same[1:] != same[:-1]).reshape(-1, 2)
    first, last = (edges[np.argmax(edges[:, 1] - edges[:, 0])] + distance).tolist()
    looked_at = slice(first, min(last, first + BLOCK))
    different = len(np.unique(numbers(looked_at)))
    if last - first < LONG_PART or different < (looked_at.stop - first) / 2:
        return None
    return first, last - 1


def mixed(*columns: np.ndarray) -> np.ndarray:
    """Return a number (n,) uint64 for each row of some columns of whole numbers.

    Equal rows share it, and other rows very rarely.
    """
    result = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        result = hashes(result ^ column.astype(np.uint64))
    return result
