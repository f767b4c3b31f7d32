"""Write what two generators are made from, so that a release can show their lists to people.

The generators "artist" and "forecast" compute it from all listens, which takes the memory of
jobs.rank. jobs.publish only copies it into arrays.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import tables
from jobs.models.ranked_lists import rows_of
from jobs.ranking.snapshot import FORECAST, Snapshot


def write(work: Path, snapshot: Snapshot) -> None:
    """Write artist_tracks.parquet and forecast.parquet of a snapshot of WORK.

    The forecast is written also where it is switched off: people may look at its list.
    """
    items, scores = snapshot.best_of_artists
    artists = tables.read(tables.ITEMS, work, ["artist_ids"])["artist_ids"]
    ids = np.unique(pc.list_flatten(artists).to_numpy())  # the rows of snapshot.artists
    table = rows_of(
        tables.ARTIST_TRACKS, ids, snapshot.data.track_ids, items[: len(ids)], scores[: len(ids)]
    )
    tables.write(tables.ARTIST_TRACKS, work, table)
    if FORECAST in snapshot.switched_off:
        snapshot = replace(snapshot, switched_off=snapshot.switched_off - {FORECAST})
    rising = snapshot.rising
    ranked = {
        "track_id": snapshot.data.track_ids[rising],
        "rank": np.arange(1, len(rising) + 1, dtype=np.int32),
        "score": snapshot.forecast[rising],
    }
    tables.write(tables.FORECAST, work, pa.table(ranked, schema=tables.FORECAST.schema))
