"""Rank tracks by their listeners; with a half-life, recent listeners count more than others."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.contract import tables
from jobs.data.bounds import track_counts
from jobs.data.ids import encode
from jobs.data.listens import Listens


def popularity(data: Listens, half_life_days: float | None) -> pa.Table:
    """Return the rows of top_popular.parquet: all tracks with a listen, best first.

    The score is the number of listeners; with a half-life, each counts half after every half-life
    since their last play of the track. So one user adds at most 1 to a track's score. Equal scores
    are in the order of listeners, then of ties.
    """
    counts = track_counts(data, half_life_days=half_life_days)
    score = counts.listeners if half_life_days is None else counts.faded
    items = np.lexsort((data.ties.places[:-1], -counts.listeners, -score))
    items = items[counts.plays[items] > 0]
    return pa.table(
        {
            "track_id": data.track_ids[items],
            "rank": np.arange(1, len(items) + 1, dtype=np.int32),
            "score": score[items].astype(np.float32),
            "listeners": counts.listeners[items],
            "plays": counts.plays[items],
        }
    )


def read_top(work: Path, track_ids: np.ndarray) -> np.ndarray:
    """Return WORK's top list, (tracks with a listen,) int32 positions in track_ids, best first.

    Raises JobError if a track of the list is not among track_ids.
    """
    ids = tables.read(tables.TOP_POPULAR, work, ["track_id"])["track_id"].to_numpy()
    return encode(ids, track_ids, "track_id", tables.TOP_POPULAR, work)
