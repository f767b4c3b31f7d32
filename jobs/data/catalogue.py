"""Make up for a missing file of tracks or of names.

Without catalog_names, the names may stand in the file of tracks: in columns name, artist (or
artists) and genre (or genres). Without a file of tracks, the tracks are those of the listens.
What is made has the columns of the usual two files, so that all that follows is the same.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract.ragged import offsets_of_sorted, row_of_each
from jobs.contract.storage import JobError
from jobs.data import raw_columns, raw_files
from jobs.data.raw_columns import NAMED_TRACKS
from jobs.inputs import files
from jobs.inputs.files import INTERACTIONS, NAMES, TRACKS, Input, Reading
from jobs.inputs.lines import BAD_LINE


class Inputs(NamedTuple):
    """The user's inputs; what no file has is made of the other files."""

    tracks: Input
    names: Input
    played: Input
    note: str = ""  # says what no file has


def find(data: Path, readings: dict[str, Reading], read_listens: bool = True) -> Inputs:
    """Return the inputs in a folder, checked. Raises JobError if one can't be used.

    Without `read_listens`, tracks that would be those of the listens are left without a row.
    """
    tracks, names = (files.find(data, kind, readings[kind]) for kind in (TRACKS, NAMES))
    played = files.required(data, INTERACTIONS, readings[INTERACTIONS])
    for source in filter(None, (tracks and _named(tracks, names), names, played)):
        raw_columns.check(source)
    note = ""
    if tracks is None:
        tracks = _of_listens(played) if read_listens else Input(TRACKS, played.path, ())
        without = "" if names else ", without names"
        note = f"no file of tracks, so they are those of the listens{without}, and live events of "
        note += "other tracks wait"
        names = names or _none_named(data)
    elif names is None:
        tracks, names, has_names = _split(_named(tracks, names))
        note = "" if has_names else "no file of names, so tracks have none"
    return Inputs(tracks, names, replace(played, tracks=tracks.path.name), note)


def _named(tracks: Input, names: Input | None) -> Input:
    """Return the tracks as an input that has the names as well, if no other file has them."""
    return tracks if names else replace(tracks, kind=NAMED_TRACKS)


def _none_named(data: Path) -> Input:
    columns = {name: pa.nulls(0) for name in raw_columns.COLUMNS[NAMES]}
    return Input(NAMES, data / NAMES, (), given=columns)


def _of_listens(played: Input) -> Input:
    """Return the tracks that have a listen, without artists and genres."""
    ids: list[pa.Array] = []
    for batch in raw_files.batches(played, ["track_id"]):
        ids.append(batch["track_id"].unique())
        if len(ids) > 100:
            ids = [raw_files.joined(ids).unique()]
    if not ids:
        raise JobError(f"{played.path} holds no rows: add the listens")
    found = raw_files.joined(ids).unique().drop_null()
    nothing = pa.nulls(len(found))
    columns = {"track_id": found, "artists": nothing, "genres": nothing}
    return Input(TRACKS, played.path, (), given=columns)


def _split(source: Input) -> tuple[Input, Input, bool]:
    """Return the tracks and the names of a file that has both, and whether tracks have names.

    Artists and genres that are text get numbers by the order of their names.
    """
    columns = raw_files.table(source)
    n = len(columns["track_id"])
    has_names = "name" in columns
    tracks = {
        name: columns[name] for name in ("track_id", "duration_ms", BAD_LINE) if name in columns
    }
    ids, types, names = [], [], []
    if has_names:
        ids, names = [columns["track_id"]], [raw_files.text(columns["name"])]
        types = [pa.repeat("track", n)]
    for kind in ("artist", "genre"):
        given = [name for name in (f"{kind}s", kind) if name in columns]
        if len(given) > 1:
            raise JobError(f"{source.path} has {given[1]} and {given[0]}: keep one of them")
        column = columns[given[0]] if given else pa.nulls(n)
        lists, texts = _numbered(column)
        tracks[f"{kind}s"] = lists
        ids.append(pa.array(np.arange(len(texts))))
        types.append(pa.repeat(kind, len(texts)))
        names.append(texts)
    columns = {
        name: raw_files.joined(arrays)
        for name, arrays in zip(("id", "type", "name"), (ids, types, names), strict=True)
    }
    return replace(source, given=tracks), Input(NAMES, source.path, (), given=columns), has_names


def _numbered(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return lists of text (n,) as lists of numbers, and the text of each number, in order.

    Lists of whole numbers stay as they are.

    >>> lists, texts = _numbered(pa.array([["rock", "pop"], None, [" rock ", ""]]))
    >>> lists.to_pylist(), texts.to_pylist()
    ([[1, 0], [], [1]], ['pop', 'rock'])
    """
    if pa.types.is_null(column.type) or not raw_columns.is_text(column.type.value_type):
        return column, pa.array([], pa.large_string())
    rows = row_of_each(pc.list_value_length(column).fill_null(0).to_numpy())
    values = raw_files.text(pc.list_flatten(column))
    rows, values = rows[values.is_valid().to_numpy(zero_copy_only=False)], values.drop_null()
    texts = values.unique()
    texts = texts.take(pc.sort_indices(texts))
    numbers = pc.index_in(values, texts).cast(pa.int64())
    offsets = pa.array(offsets_of_sorted(rows, len(column)).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, numbers), texts
