"""Rank tracks by what everyone plays: by listeners, or by plays that count less with age."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.contract import tables
from jobs.data.ids import encode
from jobs.data.listens import SECONDS_A_DAY, Listens


def decayed_plays(data: Listens, half_life_days: float) -> np.ndarray:
    """Return each track's plays, (items,) float64, where older plays count less.

    A play counts 2 ^ (-age / half-life): 1 at the end of the data's span, 0.5 one half-life before,
    0.25 two half-lives before. Here the half-life is a week; track 0 is played a
    week before the end, and track 1 then and at the end:

    >>> at = np.array([0, 0, 7 * SECONDS_A_DAY], np.uint32)
    >>> item, ids = np.array([0, 1, 1], np.int32), np.array([10, 20])
    >>> decayed_plays(Listens(np.array([0, 3]), item, at, np.array([5]), ids), 7.0).tolist()
    [0.5, 1.5]
    """
    result = np.zeros(data.shape[1])
    _, end = data.span
    for block in data.blocks():
        days = (end - np.minimum(block.at, end)) / SECONDS_A_DAY
        result += np.bincount(block.item, np.exp2(-days / half_life_days), len(result))
    return result


def popularity(data: Listens, half_life_days: float | None) -> pa.Table:
    """Return the rows of top_popular.parquet: all tracks with a listen, best first.

    The score is the number of listeners, or with a half-life the decayed plays. Equal scores are in
    the order of listeners, then of ids.
    """
    plays = data.plays()
    listeners = np.zeros_like(plays)
    for block in data.blocks():
        listeners += block.pairs().getnnz(axis=0)
    score = listeners if half_life_days is None else decayed_plays(data, half_life_days)
    items = np.lexsort((-listeners, -score))
    items = items[plays[items] > 0]
    return pa.table(
        {
            "track_id": data.track_ids[items],
            "rank": np.arange(1, len(items) + 1, dtype=np.int32),
            "score": score[items].astype(np.float32),
            "listeners": listeners[items],
            "plays": plays[items],
        }
    )


def read_top(work: Path, track_ids: np.ndarray) -> np.ndarray:
    """Return WORK's top list, (tracks with a listen,) int32 positions in track_ids, best first.

    Raises JobError if a track of the list is not among track_ids.
    """
    ids = tables.read(tables.TOP_POPULAR, work, ["track_id"])["track_id"].to_numpy()
    return encode(ids, track_ids, "track_id", tables.TOP_POPULAR, work)
