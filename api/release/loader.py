"""Finding a release and checking it against its manifest and the contract, before it is served."""

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
from jobs.contract.names import CONTRACT_VERSION, CURRENT, MANIFEST, RELEASES, SERVING
from jobs.contract.results import Manifest, ServedSettings, upgrade_manifest
from jobs.contract.serving import SERVING_ARRAYS

if TYPE_CHECKING:
    from jobs.contract.fold_in import FoldInModel

Array = NDArray[Any]


Arrays = dict[str, Array]


NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")  # it stands in the head of answers


class ReleaseError(Exception):
    """A release that can't be served: says which one, what was expected and what was found."""


def current(work: Path) -> str:
    """The id that the link WORK/current points to; only a folder of WORK/releases will do."""
    link = work / CURRENT
    if not link.is_symlink():
        raise ReleaseError(f"{link} is missing: run python -m jobs.publish --work {work}")
    target = Path(os.path.realpath(link))  # unlike resolve(), takes a link to itself
    inside = target.parent == (work / RELEASES).resolve()
    if not inside or target.name not in storage.listed(work):
        raise ReleaseError(f"{link} points to {link.readlink()}, which is no release of {work}")
    return target.name


def check(folder: Path, hashes: bool = True) -> Manifest[ServedSettings]:
    """Read the manifest of a release and compare it with the contract and with the files.

    Comparing the files' hashes reads all of them, 1.3 GB a second; without that, sizes must do.
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
    for table in tables.RELEASED:
        schema = {field.name: str(field.type) for field in table.schema}
        _expect(folder, f"schema of {table.file}", schema, manifest.schemas.get(table.file))
    for name, dtype in SERVING_ARRAYS.items():
        _expect(folder, f"dtype of {name}", str(dtype), manifest.serving.get(name))
    arrays = [f"{SERVING}/{name}.npy" for name in SERVING_ARRAYS]
    for file in [*(table.file for table in tables.RELEASED), *arrays, *manifest.files]:
        entry = manifest.files.get(file)
        _expect(folder, f"bytes of {file}", entry and entry.bytes, _size(folder / file))
    for table in tables.RELEASED:
        _check_table(folder, table, manifest.files[table.file].rows)
    for file, entry in manifest.files.items() if hashes else ():
        with (folder / file).open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        _expect(folder, f"sha256 of {file}", entry.sha256, digest)
    return manifest


def _check_table(folder: Path, table: tables.Table, rows: int | None) -> None:
    """Compare the columns and the rows that a file tells of itself."""
    try:
        found = pq.read_metadata(folder / table.file)
    except (pa.ArrowException, OSError) as error:
        raise ReleaseError(f"{folder.name}: {table.file} can't be read: {error}") from None
    same = found.schema.to_arrow_schema().equals(table.schema)
    _require(folder, f"{table.file} with the columns of the contract", same)
    _expect(folder, f"rows of {table.file}", rows, found.num_rows)


def _expect(folder: Path, what: str, expected: object, found: object) -> None:
    if expected != found or expected is None:
        raise ReleaseError(f"{folder.name}: {what}: expected {expected}, found {found}")


def _size(path: Path) -> int | None:
    """Bytes of a regular file; None where there is none (a link is none)."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None


def arrays(folder: Path) -> Arrays:
    """Map the serving arrays of a checked release into memory and check that they fit together."""
    try:
        found = {name: _map(folder, name) for name in SERVING_ARRAYS}
    except Exception as error:  # NumPy's reader of headers lets errors of many kinds through
        raise ReleaseError(f"{folder.name}: a serving array can't be read: {error}") from None
    for name, array in found.items():
        shape = (array.dtype, array.ndim, bool(array.flags.c_contiguous))
        _expect(folder, f"layout of {name}", (SERVING_ARRAYS[name], 1, True), shape)
    users, tracks = len(found["user_ids"]), len(found["track_ids"])
    for name in ("user_ids", "track_ids"):
        _require(folder, f"{name} ascending", bool((np.diff(found[name]) > 0).all()))
    for name, rows in (
        ("recommendations", users),
        ("history", users),
        ("similar", tracks),
        ("next_played", tracks),
    ):
        _check_lists(folder, name, found, rows)
        _check_range(folder, f"{name}_items", found, tracks)
    _check_lists(folder, "names", found, tracks)
    _check_range(folder, "top_items", found, tracks)
    width = len(found["track_texts"]) // max(tracks, 1)
    _expect(folder, "length of track_texts", width * tracks, len(found["track_texts"]))
    _check_model(folder, found, tracks)
    for array in found.values():
        _let_go(array)
    return found


def _let_go(array: Array) -> None:
    """Give back the memory of what was read to check it; the file stays mapped."""
    base = array.base
    while not isinstance(base, mmap.mmap):
        base = base.base  # type: ignore[union-attr]
    base.madvise(mmap.MADV_DONTNEED)


def _check_model(folder: Path, found: Arrays, tracks: int) -> None:
    known, dimensions = len(found["als_items"]), math.isqrt(len(found["als_gram"]))
    for name, length in (
        ("als_gram", dimensions**2),
        ("als_places", tracks),
        ("als_norms", known),
        ("als_vectors", known * dimensions),
    ):
        _expect(folder, f"length of {name}", length, len(found[name]))
    _check_range(folder, "als_items", found, tracks)
    _check_range(folder, "als_places", found, known + 1)


def model(arrays: Arrays, settings: ServedSettings) -> "FoldInModel":
    """The ALS model as users are folded in with it."""
    from jobs.contract.fold_in import FoldInModel
    from jobs.contract.top_k import NormOrder  # loads for half a second, and few need it

    threadpool_limits(limits=1, user_api="blas")  # threads take longer for so little at a time
    dimensions = math.isqrt(len(arrays["als_gram"]))
    order = NormOrder(
        arrays["als_items"],
        arrays["als_vectors"].reshape(-1, dimensions),
        arrays["als_norms"],
        arrays["als_places"],
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


def texts(arrays: Arrays) -> Array:
    """(tracks,): each track's text, as pieces of one size."""
    flat = arrays["track_texts"]
    return flat.view(f"V{max(len(flat) // max(len(arrays['track_ids']), 1), 1)}")


def _map(folder: Path, name: str) -> Array:
    path = folder / SERVING / f"{name}.npy"
    writable = name.startswith("als_")  # implicit takes no other, but writes nothing
    # the plain view: slices of np.memmap itself take ten times as long
    return np.asarray(np.load(path, mmap_mode="c" if writable else "r", allow_pickle=False))


def _check_lists(folder: Path, name: str, found: Arrays, rows: int) -> None:
    offsets, items = found[f"{name}_offsets"], found[f"{name}_items"]
    _expect(folder, f"length of {name}_offsets", rows + 1, len(offsets))
    _require(
        folder,
        f"{name}_offsets from 0 upwards",
        bool(offsets[0] == 0 <= np.diff(offsets).min(initial=0)),
    )
    _expect(folder, f"length of {name}_items", int(offsets[-1]), len(items))
    if (scores := found.get(f"{name}_scores")) is not None:
        _expect(folder, f"length of {name}_scores", len(items), len(scores))


def _check_range(folder: Path, name: str, found: Arrays, tracks: int) -> None:
    items = found[name].view(np.uint32)  # as such, what is below 0 is large
    within = not len(items) or bool(items.max() < tracks)
    _require(folder, f"{name} within the {tracks} tracks", within)


def _require(folder: Path, what: str, holds: bool) -> None:
    if not holds:
        raise ReleaseError(f"{folder.name}: expected {what}, which does not hold")
