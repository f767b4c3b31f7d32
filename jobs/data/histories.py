"""Sort listens into the users' histories, part by part, so that little memory is needed."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jobs.contract.names import MAX_ID
from jobs.contract.ragged import offsets_of
from jobs.data.allocator import Allocator, blocks
from jobs.runtime.progress import progress_bar

PART = 1 << 22  # listens sorted at a time
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
    share: np.ndarray | None  # (n,) how much of the track was played in each listen, if it is known


def histories(
    listens: Listens, allocator: Allocator, plays: int = 0, share: np.ndarray | None = None
) -> Iterator[History]:
    """Yield the good listens by user_id, time, track_seq and row, in parts of whole users.

    The first `plays` rows are never left out: there equal rows are several plays. `share` (n,) are
    how much of the track was played in each row. What is needed beside is made by `allocator`.
    """
    with progress_bar(total=len(listens.user), desc="sort", unit=" rows", unit_scale=True) as bar:
        for part in parts(listens, allocator, share):
            order = np.lexsort(  # stable: ties keep file order
                (part.listens.seq, part.listens.time, part.listens.user)
            )
            found, rows = part.listens.take(order), part.rows[order]
            repeated = repeats(found) & (rows >= plays)
            yield History(
                numbered(found.take(~repeated)),
                rows[repeated],
                None if part.share is None else part.share[order[~repeated]],
            )
            bar.update(len(rows))


class Part(NamedTuple):
    """The good rows of some whole users, in the order of the input."""

    rows: np.ndarray  # (n,) ascending
    listens: Listens
    share: np.ndarray | None  # (n,)


def parts(
    listens: Listens, allocator: Allocator, share: np.ndarray | None = None
) -> Iterator[Part]:
    """Yield the good rows in parts of about PART, by user_id.

    Of arrays in files, each page is read once for all parts: the rows are copied into files that
    have one part after the other.
    """
    bounds = cuts(listens.user)
    if allocator.folder is None:
        for low, high in pairwise(bounds):
            rows = np.flatnonzero((listens.user >= low) & (listens.user < high))
            if rows.size:
                yield Part(rows, listens.take(rows), None if share is None else share[rows])
        return
    columns = [*listens, *([] if share is None else [share])]
    starts, rows, columns = _divided(columns, bounds, allocator)
    for first, end in pairwise(starts.tolist()):
        if end > first:
            user, track, time, seq, *more = (np.array(column[first:end]) for column in columns)
            yield Part(
                np.array(rows[first:end]),
                Listens(user, track, time, seq),
                more[0] if more else None,
            )


def _divided(
    columns: list[np.ndarray], bounds: np.ndarray, allocator: Allocator
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return where the rows of each part start, (parts + 1,), and the rows and columns by part.

    The first column are the users, and a part has those from one of the bounds to the next one.

    >>> divided = _divided([np.array([7, 1, -1, 8, 2])], np.array([0, 5, 9]), Allocator())
    >>> [array.tolist() for array in (*divided[:2], *divided[2])]
    [[0, 2, 4], [1, 4, 0, 3], [1, 2, 7, 8]]
    """
    user = columns[0]
    counts = np.zeros(len(bounds) - 1, np.int64)
    for block in blocks(len(user), PART):
        counts += np.bincount(1 + _part_of(user[block], bounds), minlength=len(bounds))[1:]
    starts = offsets_of(counts)
    n = int(starts[-1])
    of_rows = allocator.empty(n, np.min_scalar_type(len(user)))
    result = [allocator.empty(n, column.dtype) for column in columns]
    free = starts[:-1].copy()  # where the next rows of each part go
    for block in blocks(len(user), PART):
        part = _part_of(user[block], bounds)
        order = np.argsort(part, kind="stable")
        ends = np.cumsum(np.bincount(1 + part, minlength=len(bounds)))
        for column, out in ((None, of_rows), *zip(columns, result, strict=True)):
            values = block.start + order if column is None else column[block][order]
            for i, (first, end) in enumerate(pairwise(ends.tolist())):
                out[free[i] : free[i] + end - first] = values[first:end]
        free += np.diff(ends)
    return starts, of_rows, result


def _part_of(user: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return in which part each user (n,) is, -1 for that of bad rows."""
    part = np.searchsorted(bounds, user, side="right") - 1
    return part.astype(np.min_scalar_type(-len(bounds)))  # NumPy sorts short numbers faster


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
