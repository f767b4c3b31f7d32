"""Tell whether equal rows of the interactions are several plays, or copies of one.

Where times are exact to the second, nobody plays a track twice at the same time, so equal rows are
copies. Where all times are whole minutes or days, a track may well be played twice at one time.
"""

import numpy as np

from jobs.contract.storage import JobError
from jobs.data.clock import blocks
from jobs.data.histories import NO_SEQ, Listens

MINUTE = 60_000_000  # microseconds
RULES = ("auto", "plays", "copies")
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


def stop_if_doubled(listens: Listens, n: int, path: object) -> None:
    """Raise JobError if nearly all of the first n rows are there an even number of times.

    Then the file was probably written or delivered twice, and would double every play.
    """
    equal = np.zeros(n, np.uint64)  # a number that equal rows share, and other rows very rarely
    for rows in blocks(n):
        equal[rows] = mixed(listens.user[rows], listens.track[rows], listens.time[rows])
    equal = np.sort(equal[listens.user[:n] >= 0])
    if not len(equal):
        return
    starts = np.flatnonzero(np.append(True, equal[1:] != equal[:-1]))
    counts = np.diff(np.append(starts, len(equal)))
    doubled = counts[counts % 2 == 0].sum()
    if doubled > COPIED * len(equal):
        raise JobError(
            f"{path}: {doubled:,} of {len(equal):,} rows are there twice, or another even number "
            "of times, so the file seems to have all its rows twice. Pass --equal-rows copies to "
            "keep one of equal rows, or --equal-rows plays if all of them are plays"
        )


def mixed(*columns: np.ndarray) -> np.ndarray:
    """Return a number (n,) uint64 for each row of some columns of whole numbers."""
    result = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        result = (result ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        result ^= result >> np.uint64(29)
    return result
