"""Finds a release, and checks it against its manifest and the contract before it is served."""

import hashlib
import json
import math
import mmap
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from jobs.contract import storage, tables
from jobs.contract.ids import INTEGER, TEXT, Ties
from jobs.contract.names import CONTRACT_VERSION, CURRENT, MANIFEST, RELEASES, SERVING
from jobs.contract.results import Manifest, ServedSettings, upgrade_manifest
from jobs.contract.serving import EARLIER_TYPES, OPTIONAL_ARRAYS, SERVING_ARRAYS, TREND_PERIODS

if TYPE_CHECKING:
    from jobs.contract.fold_in import FoldInModel

Array = NDArray[Any]


Arrays = dict[str, Array]


NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")  # of a release's id, which answers have in a header


class ReleaseError(Exception):
    """A release that can't be served; the text says which, what was expected, what was found."""


def current(work: Path) -> str:
    """Return the id of the release that the link WORK/current points to.

    Raises ReleaseError if there is no link, or if it points to anything but a release of WORK.
    """
    link = work / CURRENT
    if not link.is_symlink():
        raise ReleaseError(f"{link} is missing: run python -m jobs.publish --work {work}")
    target = Path(os.path.realpath(link))  # unlike resolve(), accepts a link to itself
    inside = target.parent == (work / RELEASES).resolve()
    if not inside or target.name not in storage.listed(work):
        raise ReleaseError(
            f"{link} points to {link.readlink()}: expected a release in {work / RELEASES}"
        )
    return target.name


def check(folder: Path, hashes: bool = True) -> Manifest[ServedSettings]:
    """Read the manifest of a release and compare it with the contract and with the files.

    With `hashes`, every file is read and hashed, at 1.3 GB per second; without, only the sizes of
    files are compared. Raises ReleaseError for the first difference.
    """
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        version = content["contract"] if isinstance(content, dict) else None
        _expect(folder, "contract version", CONTRACT_VERSION, version)
        manifest = msgspec.convert(upgrade_manifest(content), Manifest[ServedSettings])
    except (OSError, ValueError, KeyError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ReleaseError(f"{folder.name}: {MANIFEST} can't be used ({reason})") from None
    _expect(folder, "id", folder.name, manifest.id)
    _require(folder, "an id of letters, digits and . _ -", bool(NAME.fullmatch(manifest.id)))
    known = set(manifest.kinds) <= {INTEGER, TEXT}
    _require(folder, f"ids of the kinds {INTEGER} or {TEXT}", known)
    for table in tables.RELEASED:
        stored = tables.stored(table, manifest.kinds)
        schema = {field.name: str(field.type) for field in stored}
        _expect(folder, f"schema of {table.file}", schema, manifest.schemas.get(table.file))
    for name, dtype in _dtypes(manifest).items():
        _expect(folder, f"dtype of {name}", str(dtype), manifest.serving.get(name))
    arrays = [f"{SERVING}/{name}.npy" for name in _dtypes(manifest)]
    for file in [*(table.file for table in tables.RELEASED), *arrays, *manifest.files]:
        entry = manifest.files.get(file)
        _expect(folder, f"bytes of {file}", entry and entry.bytes, _size(folder / file))
    for table in tables.RELEASED:
        stored = tables.stored(table, manifest.kinds)
        _check_table(folder, table, stored, manifest.files[table.file].rows)
    for file, entry in manifest.files.items() if hashes else ():
        with (folder / file).open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        _expect(folder, f"sha256 of {file}", entry.sha256, digest)
    return manifest


def _dtypes(manifest: Manifest[ServedSettings]) -> dict[str, np.dtype[Any]]:
    """Return the types of the arrays that a release must have, by its manifest."""
    optional = {n: dtype for n, dtype in OPTIONAL_ARRAYS.items() if n in manifest.serving}
    earlier = {n: dtype for n, dtype in EARLIER_TYPES.items() if manifest.serving.get(n) == dtype}
    return SERVING_ARRAYS | optional | earlier


def _check_table(folder: Path, table: tables.Table, stored: pa.Schema, rows: int | None) -> None:
    """Compare a table's columns with the contract, and its number of rows with the manifest."""
    try:
        found = pq.read_metadata(folder / table.file)
    except (pa.ArrowException, OSError) as error:
        raise ReleaseError(f"{folder.name}: {table.file} can't be read: {error}") from None
    same = found.schema.to_arrow_schema().equals(stored)
    _require(folder, f"{table.file} with the columns of the contract", same)
    _expect(folder, f"rows of {table.file}", rows, found.num_rows)


def _expect(folder: Path, what: str, expected: object, found: object) -> None:
    if expected != found or expected is None:
        raise ReleaseError(
            f"{folder.name}: {what}: expected {expected}, found {found}; run python -m "
            "jobs.publish again, or roll back"
        )


def _size(path: Path) -> int | None:
    """Return the size of a regular file in bytes; None if there is none, or if it is a link."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None


def arrays(folder: Path, manifest: Manifest[ServedSettings]) -> Arrays:
    """Map the serving arrays of a checked release into memory and check that they fit together.

    Returns the arrays by name. Raises ReleaseError for the first one that cannot be used.
    """
    dtypes = _dtypes(manifest)
    try:
        mapped = {name: _map(folder, name) for name in dtypes}
    except Exception as error:  # NumPy's reader of headers raises errors of many kinds
        raise ReleaseError(f"{folder.name}: a serving array can't be read: {error}") from None
    for name, array in mapped.items():
        shape = (array.dtype, array.ndim, bool(array.flags.c_contiguous))
        _expect(folder, f"layout of {name}", (dtypes[name], 1, True), shape)
    users, tracks = len(mapped["user_ids"]), len(mapped["track_ids"])
    for name in ("user_ids", "track_ids"):
        _require(folder, f"{name} ascending", bool((np.diff(mapped[name]) > 0).all()))
    for name, rows in (
        ("recommendations", users),
        ("history", users),
        ("similar", tracks),
        ("next_played", tracks),
    ):
        _check_lists(folder, name, mapped, rows)
        _check_range(folder, f"{name}_items", mapped, tracks)
    _check_lists(folder, "names", mapped, tracks)
    _check_range(folder, "top_items", mapped, tracks)
    width = len(mapped["track_texts"]) // max(tracks, 1)
    _expect(folder, "length of track_texts", width * tracks, len(mapped["track_texts"]))
    _check_model(folder, mapped, tracks)
    if (shown := mapped.get("shown_items")) is not None:
        _expect(folder, "length of shown_items", tracks, len(shown))
        _check_range(folder, "shown_items", mapped, tracks)
        _require(
            folder, "tracks in shown_items that are shown", bool((shown[shown] == shown).all())
        )
    _check_details(folder, mapped, tracks)
    if _has(folder, mapped, "disliked_offsets", "disliked_items"):
        _check_lists(folder, "disliked", mapped, users)
        _check_range(folder, "disliked_items", mapped, tracks)
    for name, kind, rows in zip(("user", "track"), manifest.kinds, (users, tracks), strict=True):
        there = _has(folder, mapped, f"{name}_keys_offsets", f"{name}_keys_items")
        _require(folder, f"{name}_keys where ids of {name}s are text", there == (kind == TEXT))
        if there:
            _check_lists(folder, f"{name}_keys", mapped, rows)
    for array in mapped.values():
        _free_pages(array)
    return mapped


def _check_details(folder: Path, arrays: Arrays, tracks: int) -> None:
    """Check the arrays of names, counts and generators, if they are there."""
    for kind in ("artist", "genre"):
        parts = (f"{kind}s_offsets", f"{kind}s_items")
        texts = (f"{kind}_names_offsets", f"{kind}_names_items")
        if _has(folder, arrays, *parts, *texts):
            names = len(arrays[f"{kind}_names_offsets"]) - 1
            _check_lists(folder, f"{kind}s", arrays, tracks)
            _check_lists(folder, f"{kind}_names", arrays, names)
            _check_range(folder, f"{kind}s_items", arrays, names)
    counts = {"listeners_items": tracks, "plays_items": tracks}
    counts["trend_items"] = tracks * TREND_PERIODS
    if _has(folder, arrays, *counts):
        for name, length in counts.items():
            _expect(folder, f"length of {name}", length, len(arrays[name]))
    if _has(folder, arrays, *(f"followers_{part}" for part in ("offsets", "items", "scores"))):
        _check_lists(folder, "followers", arrays, tracks)
        _check_range(folder, "followers_items", arrays, tracks)
    if _has(folder, arrays, *(f"item_weights_{part}" for part in ("offsets", "items", "scores"))):
        _check_lists(folder, "item_weights", arrays, tracks)
        _check_range(folder, "item_weights_items", arrays, tracks)
    lists = (f"artist_tracks_{part}" for part in ("offsets", "items", "scores"))
    if _has(folder, arrays, "credits_offsets", "credits_items", *lists):
        artists = len(arrays["artist_tracks_offsets"]) - 1
        _check_lists(folder, "credits", arrays, tracks)
        _check_range(folder, "credits_items", arrays, artists)
        _check_lists(folder, "artist_tracks", arrays, artists)
        _check_range(folder, "artist_tracks_items", arrays, tracks)
    if "forecast_items" in arrays:
        _check_range(folder, "forecast_items", arrays, tracks)


def _has(folder: Path, arrays: Arrays, *names: str) -> bool:
    """Return whether optional arrays that belong together are there: all, or none of them."""
    there = [name in arrays for name in names]
    _require(folder, f"all of {', '.join(names)} or none", all(there) or not any(there))
    return all(there)


def _free_pages(array: Array) -> None:
    """Free the memory pages that a check has read; the file stays mapped."""
    base = array.base
    while not isinstance(base, mmap.mmap):
        base = base.base  # type: ignore[union-attr]
    base.madvise(mmap.MADV_DONTNEED)


def _check_model(folder: Path, arrays: Arrays, tracks: int) -> None:
    known, dimensions = len(arrays["als_items"]), math.isqrt(len(arrays["als_gram"]))
    for name, length in (
        ("als_gram", dimensions**2),
        ("als_places", tracks),
        ("als_norms", known),
        ("als_vectors", known * dimensions),
    ):
        _expect(folder, f"length of {name}", length, len(arrays[name]))
    _check_range(folder, "als_items", arrays, tracks)
    _check_range(folder, "als_places", arrays, known + 1)


def model(arrays: Arrays, settings: ServedSettings, ties: Ties) -> "FoldInModel":
    """Return the ALS model with which users are folded in.

    Limits BLAS to one thread: for so few numbers at a time, several threads take longer.
    """
    from jobs.contract.fold_in import FoldInModel
    from jobs.contract.top_k import NormOrder  # imported here: takes half a second, and few need it

    threadpool_limits(limits=1, user_api="blas")
    dimensions = math.isqrt(len(arrays["als_gram"]))
    order = NormOrder(
        arrays["als_items"],
        arrays["als_vectors"].reshape(-1, dimensions),
        arrays["als_norms"],
        arrays["als_places"],
        ties,
    )
    return FoldInModel(
        order,
        arrays["als_gram"].reshape(dimensions, dimensions),
        settings.als_regularization,
        settings.als_unobserved,
        settings.als_exponent,
        settings.als_repeats,
        settings.als_half_life,
    )


def _map(folder: Path, name: str) -> Array:
    path = folder / SERVING / f"{name}.npy"
    writable = name.startswith("als_")  # implicit requires writable arrays, but does not write
    # a plain array: slices of np.memmap itself take ten times as long
    return np.asarray(np.load(path, mmap_mode="c" if writable else "r", allow_pickle=False))


def _check_lists(folder: Path, name: str, arrays: Arrays, rows: int) -> None:
    offsets, items = arrays[f"{name}_offsets"], arrays[f"{name}_items"]
    _expect(folder, f"length of {name}_offsets", rows + 1, len(offsets))
    _require(
        folder,
        f"{name}_offsets from 0 upwards",
        bool(offsets[0] == 0 <= np.diff(offsets).min(initial=0)),
    )
    _expect(folder, f"length of {name}_items", int(offsets[-1]), len(items))
    if (scores := arrays.get(f"{name}_scores")) is not None:
        _expect(folder, f"length of {name}_scores", len(items), len(scores))


def _check_range(folder: Path, name: str, arrays: Arrays, tracks: int) -> None:
    items = arrays[name].view(np.uint32)  # so a negative number is a large one
    within = not len(items) or bool(items.max() < tracks)
    _require(folder, f"{name} within the {tracks} tracks", within)


def _require(folder: Path, what: str, holds: bool) -> None:
    if not holds:
        raise ReleaseError(
            f"{folder.name} can't be served: expected {what}; run python -m jobs.publish again"
        )
