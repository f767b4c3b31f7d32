"""Sort listens into the users' histories, part by part, so that little memory is needed."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jobs.contract.names import MAX_ID
from jobs.runtime.progress import progress_bar

PART = 1 << 22  # listens sorted at a time
BLOCK = 1 << 24  # listens looked at at a time
NO_SEQ = np.iinfo(np.int32).max  # for no track_seq: sorts after the others of the same time


class Listens(NamedTuple):
    """Listens, column by column, each (n,)."""

    user: np.ndarray  # user_id, or a place among text ids; -1 where the row is bad
    track: np.ndarray  # position among the sorted track_ids
    time: np.ndarray  # microseconds
    seq: np.ndarray  # track_seq or NO_SEQ

    def take(self, index: np.ndarray) -> "Listens":
        """Return the listens at these places."""
        return Listens(*(column[index] for column in self))


class History(NamedTuple):
    """The listens of some whole users, in order."""

    listens: Listens
    repeated: np.ndarray  # (m,) rows that were left out because they equal an earlier one
    rows: np.ndarray  # (n,) the row of each listen; (0,) if they were not asked for


def histories(listens: Listens, plays: int = 0, with_rows: bool = False) -> Iterator[History]:
    """Yield the good listens by user_id, time, track_seq and row, in parts of whole users.

    The first `plays` rows are never left out: there equal rows are several plays.
    """
    with progress_bar(total=len(listens.user), desc="sort", unit=" rows", unit_scale=True) as bar:
        for low, high in pairwise(cuts(listens.user)):
            rows = np.flatnonzero((listens.user >= low) & (listens.user < high))
            if rows.size == 0:
                continue
            part = listens.take(rows)
            order = np.lexsort((part.seq, part.time, part.user))  # stable: ties keep file order
            part = part.take(order)
            repeated = repeats(part) & (rows[order] >= plays)
            kept = rows[order[~repeated]] if with_rows else np.empty(0, np.int64)
            yield History(numbered(part.take(~repeated)), rows[order[repeated]], kept)
            bar.update(len(rows))


def cuts(user: np.ndarray) -> np.ndarray:
    """Return bounds of user_id, ascending, that divide the listens into parts of about PART."""
    sample = np.sort(user[:: max(1, len(user) >> 20)])
    n = -(-len(user) // PART)
    inner = sample[np.arange(1, n) * len(sample) // n]
    return np.unique([0, *inner.clip(0), MAX_ID + 1])


def repeats(listens: Listens) -> np.ndarray:
    """Return whether each of the sorted listens (n,) equals an earlier one."""
    user, track, time, seq = listens
    tied = (user[1:] == user[:-1]) & (time[1:] == time[:-1]) & (seq[1:] == seq[:-1])
    repeated = np.zeros(len(user), bool)
    if not tied.any():
        return repeated
    group = np.append(0, np.cumsum(~tied))  # of listens that differ in the track only
    rows = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
    rows = rows[np.lexsort((track[rows], group[rows]))]
    same = (np.diff(group[rows]) == 0) & (np.diff(track[rows]) == 0)
    repeated[rows[1:][same]] = True
    return repeated


def numbered(listens: Listens) -> Listens:
    """Return the sorted listens (n,) with a track_seq for each.

    An unknown one continues from the listen before it in the user's history, the first is 1.
    """
    unknown = listens.seq == NO_SEQ
    place = np.arange(len(unknown))
    first = np.append(True, listens.user[1:] != listens.user[:-1])
    # The place of the last listen with a known track_seq, or of the user's first listen:
    last = np.maximum.accumulate(np.where(first | ~unknown, place, 0))
    seq = np.where(unknown[last], 1, listens.seq[last]) + place - last
    return listens._replace(seq=np.minimum(seq, NO_SEQ))


def blocks(n: int) -> Iterator[slice]:
    """Yield n rows in blocks."""
    for start in range(0, n, BLOCK):
        yield slice(start, min(start + BLOCK, n))
