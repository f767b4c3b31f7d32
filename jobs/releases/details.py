"""What a release has for people who look at it: names of artists and genres, counts, generators.

The arrays are optional (serving.OPTIONAL_ARRAYS): the service answers without them too, and says
what the release lacks. jobs.publish calls `pack(folder, work)` after serving_arrays.pack_tracks.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import tables
from jobs.contract.ids import find
from jobs.contract.ragged import offsets_of
from jobs.contract.serving import TREND_PERIODS
from jobs.models.sparse import incidence
from jobs.releases import serving_arrays


def pack(folder: Path, work: Path) -> None:
    """Write the arrays of names, counts and trends, and of what generators are made from.

    The last ones are written if WORK has the files of which they are made.
    """
    columns = ["track_id", "artist_names", "genre_names"]
    items = tables.read(tables.ITEMS, folder, columns).sort_by("track_id")
    tracks = items["track_id"].to_numpy()
    for kind in ("artist", "genre"):
        _write_kinds(folder, kind, items[f"{kind}_names"])
    top = tables.read(tables.TOP_POPULAR, folder, ["track_id", "listeners", "plays"])
    places = find(tracks, top["track_id"].to_numpy())
    for name in ("listeners", "plays"):
        counts = np.zeros(len(tracks), np.int32)
        counts[places] = top[name].to_numpy()
        serving_arrays.write(folder, f"{name}_items", counts)
    serving_arrays.write(folder, "trend_items", trend(folder, tracks).ravel())
    if (work / tables.FOLLOWERS.file).exists():
        serving_arrays.write_lists(
            folder, tables.FOLLOWERS, "followers", tracks, tracks, source=work
        )

    if (work / tables.ITEM_WEIGHTS.file).exists():
        serving_arrays.write_lists(
            folder, tables.ITEM_WEIGHTS, "item_weights", tracks, tracks, source=work
        )
    if (work / tables.ARTIST_TRACKS.file).exists():
        _write_artists(folder, work, tracks)
    if (work / tables.FORECAST.file).exists():
        order = tables.read(tables.FORECAST, work, ["track_id", "rank"]).sort_by("rank")
        serving_arrays.write(folder, "forecast_items", find(tracks, order["track_id"].to_numpy()))


def _write_artists(folder: Path, work: Path, tracks: np.ndarray) -> None:
    """Write the artists of each track, as numbers, and the most played tracks of each artist."""
    artists = tables.read(tables.ITEMS, folder, ["track_id", "artist_ids"]).sort_by("track_id")
    credits = incidence(artists["artist_ids"])
    ids = np.unique(pc.list_flatten(artists["artist_ids"]).to_numpy())
    serving_arrays.write(folder, "credits_offsets", credits.indptr)
    serving_arrays.write(folder, "credits_items", credits.indices)
    serving_arrays.write_lists(
        folder, tables.ARTIST_TRACKS, "artist_tracks", ids, tracks, source=work
    )


def _write_kinds(folder: Path, kind: str, lists: pa.ChunkedArray) -> None:
    """Write the distinct names of a kind, and for each track the places of its names there."""
    names = pc.list_flatten(lists).combine_chunks().dictionary_encode()
    texts = [text.encode() for text in names.dictionary.to_pylist()]
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    serving_arrays.write(folder, f"{kind}s_offsets", offsets_of(lengths))
    serving_arrays.write(folder, f"{kind}s_items", names.indices.to_numpy())
    serving_arrays.write(folder, f"{kind}_names_offsets", offsets_of([*map(len, texts)]))
    serving_arrays.write(folder, f"{kind}_names_items", np.frombuffer(b"".join(texts), np.uint8))


def trend(folder: Path, tracks: np.ndarray) -> np.ndarray:
    """Return the plays of each track in equal parts of the time of all listens, (n, periods)."""
    times = pc.min_max(tables.read(tables.LISTENS, folder, ["started_at"])["started_at"])
    first, last = (times[name].cast(pa.int64()).as_py() or 0 for name in ("min", "max"))
    result = np.zeros(len(tracks) * TREND_PERIODS, np.int32)
    for batch in tables.batches(tables.LISTENS, folder, ["track_id", "started_at"]):
        at = batch["started_at"].cast(pa.int64()).to_numpy()
        period = ((at - first) * TREND_PERIODS // (last - first + 1)).astype(np.int64)
        cells = find(tracks, batch["track_id"].to_numpy()) * TREND_PERIODS + period
        np.add.at(result, cells, 1)
    return result.reshape(len(tracks), TREND_PERIODS)
