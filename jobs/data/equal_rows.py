"""Tell whether equal rows of the interactions are several plays, or copies of one.

Where times are exact to the second, nobody plays a track twice at the same time, so equal rows are
copies. Where all times are whole minutes or days, a track may well be played twice at one time.
"""

import numpy as np

from jobs.contract.ids import hashes
from jobs.contract.storage import JobError
from jobs.data.histories import NO_SEQ, Listens, blocks
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


def stop_if_doubled(listens: Listens, n: int, source: Input) -> None:
    """Raise JobError if the first n rows seem to have all rows twice, or a long part twice.

    Nearly all rows are then there an even number of times, or a part is the same as a later one.
    Such a file, or part of it, was probably written or delivered twice, and would double its plays.
    """
    equal = np.zeros(n, np.uint64)  # a number that equal rows share, and other rows very rarely
    for rows in blocks(n):
        equal[rows] = mixed(listens.user[rows], listens.track[rows], listens.time[rows])
    good = np.flatnonzero(listens.user[:n] >= 0)
    equal = equal[good]
    if not len(equal):
        return
    order = np.argsort(equal, kind="stable")
    same = np.append(False, equal[order[1:]] == equal[order[:-1]])  # as the one before
    starts = np.flatnonzero(~same)
    counts = np.diff(np.append(starts, len(equal)))
    doubled = counts[counts % 2 == 0].sum()
    advice = (
        "Pass --equal-rows copies to keep one of equal rows, or --equal-rows plays if all of them "
        "are plays"
    )
    if doubled > COPIED * len(equal):
        raise JobError(
            f"{source.path}: {doubled:,} of {len(equal):,} rows are there twice, or another "
            f"even number of times, so the file seems to have all its rows twice. {advice}"
        )
    later = np.flatnonzero(same)
    distances = order[later] - order[later - 1]
    if part := repeated_part(equal, distances):
        first, last, earlier = (
            row_name(source, int(good[row])) for row in (part[0], part[1], part[0] - part[2])
        )
        raise JobError(
            f"{source.path}: {first} to {last} are the same as those from {earlier} on, so a part "
            f"of the file seems to be there twice. {advice}"
        )


def repeated_part(equal: np.ndarray, distances: np.ndarray) -> tuple[int, int, int] | None:
    """Return the first and last place of the longest part that repeats an earlier one, or None.

    equal (n,) has a number for each row, which equal rows share; distances (m,) are those between
    neighbours of equal rows. The third number that is returned is how far back the earlier part is,
    which is the most frequent distance. A part has at least LONG_PART rows, mostly different ones.

    >>> rows = np.arange(3 * LONG_PART) % (2 * LONG_PART)
    >>> repeated_part(rows, np.full(LONG_PART, 2 * LONG_PART))
    (2000, 2999, 2000)
    """
    if len(distances) < LONG_PART:
        return None
    values, counts = np.unique(distances, return_counts=True)
    distance = int(values[np.argmax(counts)])
    again = np.concatenate([[False], equal[distance:] == equal[:-distance], [False]])
    edges = np.flatnonzero(np.diff(again.astype(np.int8))).reshape(-1, 2)
    first, last = edges[np.argmax(edges[:, 1] - edges[:, 0])] + distance
    different = len(np.unique(equal[first:last]))
    if last - first < LONG_PART or different < (last - first) / 2:
        return None
    return int(first), int(last) - 1, distance


def mixed(*columns: np.ndarray) -> np.ndarray:
    """Return a number (n,) uint64 for each row of some columns of whole numbers."""
    result = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        result = hashes(result ^ column.astype(np.uint64))
    return result
