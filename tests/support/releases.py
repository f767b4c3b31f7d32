"""Tiny releases made of hand-written lists, in the form that jobs.publish gives them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.contract import serving, storage, tables, text_ids
from jobs.contract.ids import TEXT
from jobs.contract.names import ALS_MODEL, CONTRACT_VERSION, CURRENT, MANIFEST, RELEASES
from jobs.contract.text_ids import FolderIds, Kinds, TextIds
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.releases import serving_arrays

# a user's tracks or a track's neighbours, best first; with scores, or scored 1 / rank
Lists = Mapping[int, Sequence[int] | Mapping[int, float]]


INTEGERS = Kinds()
TEXTS = Kinds(TEXT, TEXT)
# A world whose answers can be seen: tracks 1 ... 300, the top list counts upwards. User 47 has
# heard 1, 2, 3 and is recommended 200, 199, ..., 101; user 16 has heard nothing and is
# recommended 101 ... 200; everyone else is cold. The neighbours of track t are t + 1, t + 2, ...
TRACKS = range(1, 301)
TOP = [*TRACKS]
FINAL = {47: range(200, 100, -1), 16: range(101, 201)}
HEARD = {47: [1, 2, 3]}
SIMILAR = {track: [n for n in range(track + 1, track + 101) if n in TRACKS] for track in TRACKS}
NEXT = {track: [track - 1] for track in TRACKS if track > 1}


def make(
    work: Path,
    release_id: str = "first",
    *,
    tracks: Sequence[int] = TRACKS,
    top: Sequence[int] = TOP,
    final: Lists = FINAL,
    heard: Lists = HEARD,
    similar: Lists = SIMILAR,
    next_played: Lists = NEXT,
    disliked: Lists | None = None,
    heard_rule: str = "exclude",
    blending: Mapping[str, Any] | None = None,
    text: Kinds = INTEGERS,
    activate: bool = True,
) -> Path:
    """Write WORK/releases/<id> and let `current` point to it; neighbours are of `tracks` only.

    Users or tracks whose kind in `text` is "text" have the ids that `named` gives them.

    The files of a release that was made before in this process are copied.
    """
    folder = work / RELEASES / release_id
    content = {
        "tracks": tracks, "top": top, "final": final, "heard": heard, "similar": similar,
        "next_played": next_played, "disliked": disliked or {}, "heard_rule": heard_rule,
        "blending": blending or {"rule": "alternate"}, "text": text,
    }  # fmt: skip
    key = repr(content)
    if key not in _MADE:
        with TemporaryDirectory() as made:
            _write_files(Path(made), **content)
            _MADE[key] = {
                str(path.relative_to(made)): path.read_bytes()
                for path in Path(made).rglob("*")
                if path.is_file()
            }
    for name, file in _MADE[key].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a service may have it mapped
        path.write_bytes(file)
    manifest = json.loads(_MADE[key][MANIFEST])
    (folder / MANIFEST).write_text(json.dumps(manifest | {"id": release_id}))
    if activate:
        point_current(work, Path(RELEASES) / release_id)
    return folder


_MADE: dict[str, dict[str, bytes]] = {}  # by their content: the files of releases, by path


def _write_files(
    folder: Path,
    tracks: Sequence[int],
    top: Sequence[int],
    final: Lists,
    heard: Lists,
    similar: Lists,
    next_played: Lists,
    heard_rule: str,
    disliked: Lists,
    blending: Mapping[str, Any],
    text: Kinds,
) -> None:
    names = {track: f"track {track}" for track in tracks}
    if text != INTEGERS:
        of_user, of_track = _write_ids(folder, {*final, *heard, *disliked}, tracks, text)
        names = {of_track[track]: name for track, name in names.items()}
        tracks, top = [of_track[t] for t in tracks], [of_track[t] for t in top]
        final, heard, disliked = (
            _renamed(lists, of_user, of_track) for lists in (final, heard, disliked)
        )
        similar, next_played = (_renamed(x, of_track, of_track) for x in (similar, next_played))
    listens = [(user, track) for user in sorted(heard) for track in heard[user]]
    users = sorted(heard)
    empty = [[] for _ in tracks]
    columns = {
        tables.LISTENS: {
            "user_id": [user for user, _ in listens],
            "track_id": [track for _, track in listens],
            "started_at": range(len(listens)),
            "track_seq": range(len(listens)),
        },
        tables.USERS: {
            "user_id": users,
            "user_id_enc": range(len(users)),
            "listens": [len(heard[user]) for user in users],
            "last_at": range(len(users)),
        },
        tables.ITEMS: {
            "track_id": sorted(tracks),
            "track_id_enc": range(len(tracks)),
            "track_name": [names[track] for track in sorted(tracks)],
            **dict.fromkeys(["artist_ids", "artist_names", "genre_ids", "genre_names"], empty),
        },
        tables.TOP_POPULAR: {
            "track_id": top,
            "rank": range(1, len(top) + 1),
            "score": [1 / rank for rank in range(1, len(top) + 1)],
            "listeners": [1] * len(top),
            "plays": [1] * len(top),
        },
        tables.PERSONAL_ALS: _ranked(tables.PERSONAL_ALS, final),
        tables.SIMILAR: _ranked(tables.SIMILAR, _of(similar, tracks)),
        tables.NEXT_PLAYED: _ranked(tables.NEXT_PLAYED, _of(next_played, tracks)),
        tables.RECOMMENDATIONS: _ranked(tables.RECOMMENDATIONS, final),
    }
    if disliked:
        said = sorted((user, track) for user in disliked for track in disliked[user])
        columns[tables.FEEDBACK] = {
            "user_id": [user for user, _ in said],
            "track_id": [track for _, track in said],
            "at": range(len(said)),
            "kind": ["dislike"] * len(said),
        }
    for table, content in columns.items():
        arrays = [pa.array(content[field.name], field.type) for field in table.schema]
        tables.write(table, folder, pa.table(arrays, schema=table.schema))
    vectors = np.random.default_rng(0).normal(size=(len(tracks), 4)).astype(np.float32)
    np.savez(folder / ALS_MODEL, item_factors=vectors)
    chosen = Hyperparameters(heard=heard_rule, als_half_life=4, als_repeats=0.5)
    hyperparameters.save(folder, chosen)
    pack(folder, chosen)
    write_manifest(folder, chosen, blending)


def pack(folder: Path, settings: Hyperparameters) -> None:
    """Write the arrays that every release has."""
    serving_arrays.pack_users(folder, settings)
    serving_arrays.pack_tracks(folder, settings)


def named(number: int) -> str:
    """The id of a user or a track of a release with text ids."""
    return f'№ {number} "é/&?"'


def _write_ids(
    folder: Path, users: set[int], tracks: Sequence[int], text: Kinds
) -> list[dict[int, int]]:
    """Write the text ids; return the numbers inside the release, of users and of tracks."""
    numbers, kept = [], []
    for ids, kind in zip(([*users], tracks), text, strict=True):
        known = TextIds.of(pa.array(list(map(named, ids)))) if kind == TEXT else None
        own = ids if known is None else known.read(pa.array(list(map(named, ids)))).to_pylist()
        numbers.append(dict(zip(ids, own, strict=True)))
        kept.append(known)
    text_ids.write(folder, FolderIds(*kept))
    return numbers


def _renamed(lists: Lists, keys: Mapping[int, int], items: Mapping[int, int]) -> Lists:
    return {
        keys[key]: {items[item]: score for item, score in found.items()}
        if isinstance(found, Mapping)
        else [items[item] for item in found]
        for key, found in lists.items()
        if key in keys and all(item in items for item in found)
    }


def _of(lists: Lists, tracks: Sequence[int]) -> Lists:
    return {t: lists[t] for t in tracks if t in lists and set(tracks).issuperset(lists[t])}


def _ranked(table: tables.Table, lists: Lists) -> dict[str, list[Any]]:
    key, item, *_ = table.schema.names
    rows = []
    for k in sorted(lists):
        tracks = lists[k]
        scores = tracks.values() if isinstance(tracks, Mapping) else (1 / r for r in count(1))
        rows += [(k, *row) for row in zip(tracks, count(1), scores, strict=False)]
    names = (key, item, "rank", "score")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def write_manifest(folder: Path, chosen: Hyperparameters, blending: Mapping[str, Any]) -> None:
    files = [f for f in folder.rglob("*") if f.is_file() and f.name != MANIFEST]
    kinds = text_ids.kinds_of(folder)
    arrays = serving.SERVING_ARRAYS | {
        name: dtype
        for name, dtype in serving.OPTIONAL_ARRAYS.items()
        if "_keys_" in name or name.startswith("disliked_")
    }
    content = {
        "id": folder.name,
        "contract": CONTRACT_VERSION,
        "created_at": "2023-01-01T00:00:00",
        "files": {
            str(file.relative_to(folder)): {
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
                "bytes": file.stat().st_size,
                "rows": pq.read_metadata(file).num_rows if file.suffix == ".parquet" else None,
            }
            for file in files
        },
        "schemas": {
            t.file: {f.name: str(f.type) for f in tables.stored(t, kinds)} for t in tables.RELEASED
        },
        "serving": {
            name: str(dtype)
            for name, dtype in arrays.items()
            if name in serving.SERVING_ARRAYS or (folder / f"serving/{name}.npy").exists()
        },
        "metrics": {},
        "settings": chosen.values() | {"blending": dict(blending)},
        "data": {"first": "2022-01-01", "last": "2022-12-31"},
    }
    if kinds != INTEGERS:
        content["ids"] = kinds._asdict()
    storage.write_json(folder / MANIFEST, content)


def point_current(work: Path, target: Path) -> None:
    link = work / CURRENT
    link.unlink(missing_ok=True)
    link.symlink_to(target)
