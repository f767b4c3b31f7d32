"""What everyone plays: listeners of each track, or plays that fade with their age."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.contract import tables
from jobs.data.ids import encode
from jobs.data.listens import SECONDS_A_DAY, Listens


def decayed_plays(data: Listens, half_life_days: float) -> np.ndarray:
    """(items,) float64: a track's plays, each halved for every half-life before the last listen."""
    result = np.zeros(data.shape[1])
    end = data.at.max()
    for block in data.blocks():
        days = (end - block.at) / SECONDS_A_DAY
        result += np.bincount(block.item, np.exp2(-days / half_life_days), len(result))
    return result


def popularity(data: Listens, half_life_days: float | None) -> pa.Table:
    """The rows of top_popular.parquet; equal scores in the order of listeners, then of id."""
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
    """Read WORK's top list, (tracks with a listen,) int32 positions in track_ids, best first."""
    ids = tables.read(tables.TOP_POPULAR, work, ["track_id"])["track_id"].to_numpy()
    return encode(ids, track_ids, "track_id", tables.TOP_POPULAR, work)
