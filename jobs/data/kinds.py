"""What the rows of the interactions are, listens, skips, likes or others, and how much was played.

    kind          listen, skip, like, unlike, dislike or undislike; without one a row is a listen
    played_share  how much of the track was played, 0 to 1; or
    played_ms     the same in milliseconds, which is compared with the track's duration_ms

A listen of which less than --skip-under was played is a skip. A skip is no listen: it only counts
in kinds.json. Likes and dislikes, and what takes them back, go to feedback.parquet.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.data import raw_files
from jobs.data.allocator import Allocator, blocks
from jobs.data.feedback import KINDS, LISTEN, SKIP
from jobs.data.histories import Listens

KIND, SHARE, MILLISECONDS, DURATION = "kind", "played_share", "played_ms", "duration_ms"
COLUMNS = (KIND, SHARE, MILLISECONDS)
SKIP_UNDER = 0.5  # of a track: by Yambda's rule, too, a track is listened to from half of it on
REASONS = (  # why a row is bad, by its flaw, which is 1 for the first of them
    f"{KIND} is none of {', '.join(KINDS)}",
    f"{SHARE} is not a number from 0 to 1",
    f"{MILLISECONDS} is not a number from 0 on",
)


class Told(NamedTuple):
    """What the rows tell beside user, track and time; (0,) where no input has the column."""

    kind: np.ndarray  # (n,) uint8: places in KINDS
    share: np.ndarray  # (n,) float32: how much of the track was played, NaN where unknown
    ms: np.ndarray  # (n,) float32: how many milliseconds were played, NaN where unknown

    def put(self, rows: slice, others: "Told | None") -> None:
        """Set some rows to what a part of the input tells; None tells that all are listens."""
        for column, values, unknown in zip(
            self, others or (np.empty(0),) * 3, (LISTEN, np.nan, np.nan), strict=True
        ):
            if len(column):
                column[rows] = values if len(values) else unknown


def of_columns(names: set[str], n: int, allocator: Allocator) -> Told | None:
    """Return arrays for n rows, for the columns that an input has; None if it has none of them."""
    if not names.intersection(COLUMNS):
        return None
    types = zip(COLUMNS, (np.uint8, np.float32, np.float32), strict=True)
    return Told(*(allocator.empty(n if name in names else 0, dtype) for name, dtype in types))


def read(batch: pa.RecordBatch) -> tuple[Told | None, np.ndarray | None]:
    """Return what rows of the interactions tell, and their flaws, (n,) places in REASONS from 1.

    Both are None where no column tells anything. A row without a kind is a listen.
    """
    if not {*COLUMNS}.intersection(batch.schema.names):
        return None, None
    flaws = np.zeros(len(batch), np.uint8)
    found = [np.empty(0)] * 3
    if KIND in batch.schema.names:
        text = pc.utf8_lower(raw_files.text(batch[KIND]))
        place = pc.index_in(text, pa.array(KINDS, text.type))
        known = place.is_valid().to_numpy(zero_copy_only=False)
        missing = text.is_null().to_numpy(zero_copy_only=False)
        found[0] = place.fill_null(LISTEN).to_numpy(zero_copy_only=False).astype(np.uint8)
        flaws[~known & ~missing] = 1
    for column, most in ((1, 1.0), (2, np.inf)):
        if COLUMNS[column] in batch.schema.names:
            values, unreadable = raw_files.numbers(batch[COLUMNS[column]])
            wrong = (unreadable == raw_files.UNREADABLE) | (values < 0) | (values > most)
            flaws[wrong & (flaws == 0)] = column + 1
            found[column] = np.where(wrong, np.nan, values).astype(np.float32)
    return Told(*found), flaws


class SortedOut(NamedTuple):
    """What is left of the interactions when their kinds are told apart."""

    counts: dict[str, int]  # how many good rows there are of each kind of KINDS
    under: int  # how many of the skips are so because less than --skip-under was played
    shares: int  # of how many listens it is known how much was played
    feedback: Listens  # likes and dislikes and what takes them back, in the order of the rows
    kind: np.ndarray  # (m,) uint8: that of each of them
    share: np.ndarray | None  # (n,) float32 by row; None where it is known of no listen


def sort_out(
    listens: Listens,
    told: Told,
    durations: np.ndarray | None,
    skip_under: float,
    allocator: Allocator,
) -> SortedOut:
    """Leave the listens among the rows: all that are none get the user -1.

    durations (tracks,) are in milliseconds, NaN where unknown; None if none is known. `allocator`
    makes what has a value for each row.
    """
    n = len(listens.user)
    share = told.share
    if len(told.ms) and durations is not None and not len(share):
        share = allocator.empty(n, np.float32)
        share.fill(np.nan)
    counts, under, known = np.zeros(len(KINDS), np.int64), 0, 0
    feedback, kinds = [listens.take(np.empty(0, np.int64))], [np.empty(0, np.uint8)]
    for rows in blocks(n):
        user = listens.user[rows]
        good = user >= 0
        kind = told.kind[rows] if len(told.kind) else np.full(len(user), LISTEN, np.uint8)
        if len(told.ms) and durations is not None:
            of_track = told.ms[rows] / durations[listens.track[rows]]
            share[rows] = np.where(np.isnan(share[rows]), np.minimum(of_track, 1), share[rows])
        if len(share):
            short = good & (kind == LISTEN) & (share[rows] < skip_under)
            under += int(np.count_nonzero(short))
            kind = np.where(short, np.uint8(SKIP), kind)
            known += int(np.count_nonzero(~np.isnan(share[rows][good & (kind == LISTEN)])))
        counts += np.bincount(kind[good], minlength=len(KINDS))
        told_of = np.flatnonzero(good & (kind > SKIP))
        feedback.append(listens.take(rows.start + told_of))
        kinds.append(kind[told_of])
        user[kind != LISTEN] = -1
    return SortedOut(
        dict(zip(KINDS, counts.tolist(), strict=True)),
        under,
        known,
        Listens(*map(np.concatenate, zip(*feedback, strict=True))),
        np.concatenate(kinds),
        share if known else None,
    )
