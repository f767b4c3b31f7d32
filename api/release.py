"""Finding a release and checking it against its manifest and the contract, before it is served."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.blending import Blending
from jobs import contract

Array = NDArray[Any]
Arrays = dict[str, Array]


class ReleaseError(Exception):
    """A release that can't be served: says which one, what was expected and what was found."""


class FileEntry(msgspec.Struct):
    """What the manifest says of one file."""

    bytes: int


class ReleaseSettings(msgspec.Struct):
    """How the release wants to be served."""

    heard: Literal["exclude", "include"]
    blending: Blending


class Manifest(msgspec.Struct):
    """What the service needs of manifest.json; whatever else stands there is not its business."""

    id: str
    contract: int
    files: dict[str, FileEntry]
    schemas: dict[str, dict[str, str]]
    serving: dict[str, str]
    settings: ReleaseSettings


def listed(work: Path) -> list[str]:
    """The ids of the releases in WORK/releases: real folders only, never a link."""
    releases = work / contract.RELEASES
    if not releases.is_dir():
        return []
    folders = (f for f in releases.iterdir() if f.is_dir() and not f.is_symlink())
    return sorted(f.name for f in folders if not f.name.startswith("."))


def current(work: Path) -> str:
    """The id that the link WORK/current points to; only a folder of WORK/releases will do."""
    link = work / contract.CURRENT
    if not link.is_symlink():
        raise ReleaseError(f"{link} is missing: run python -m jobs.publish --work {work}")
    target = Path(os.path.realpath(link))  # unlike resolve(), takes a link to itself
    if target.parent != (work / contract.RELEASES).resolve() or target.name not in listed(work):
        raise ReleaseError(f"{link} points to {link.readlink()}, which is no release of {work}")
    return target.name


def check(folder: Path) -> Manifest:
    """Read the manifest of a release and compare it with the contract and the files' sizes."""
    try:
        content = json.loads((folder / contract.MANIFEST).read_bytes())
        version = content["contract"] if isinstance(content, dict) else None
        _expect(folder, "contract version", contract.VERSION, version)
        manifest = msgspec.convert(content, Manifest)
    except (OSError, ValueError, KeyError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ReleaseError(f"{folder.name}: {contract.MANIFEST} can't be used ({reason})") from None
    _expect(folder, "id", folder.name, manifest.id)
    for table in contract.RELEASED:
        schema = {field.name: str(field.type) for field in table.schema}
        _expect(folder, f"schema of {table.file}", schema, manifest.schemas.get(table.file))
    for name, dtype in contract.SERVING_ARRAYS.items():
        _expect(folder, f"dtype of {name}", str(dtype), manifest.serving.get(name))
    arrays = [f"{contract.SERVING}/{name}.npy" for name in contract.SERVING_ARRAYS]
    for file in [*(table.file for table in contract.RELEASED), *arrays]:
        entry = manifest.files.get(file)
        _expect(folder, f"bytes of {file}", entry and entry.bytes, _size(folder / file))
    return manifest


def _expect(folder: Path, what: str, expected: object, found: object) -> None:
    if expected != found or expected is None:
        raise ReleaseError(f"{folder.name}: {what}: expected {expected}, found {found}")


def _size(path: Path) -> int | None:
    """Bytes of a regular file; None where there is none (a link is none)."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None


def arrays(folder: Path) -> Arrays:
    """Map the serving arrays of a checked release into memory and check that they fit together."""
    try:
        found = {name: _map(folder, name) for name in contract.SERVING_ARRAYS}
    except Exception as error:  # NumPy's reader of headers lets errors of many kinds through
        raise ReleaseError(f"{folder.name}: a serving array can't be read: {error}") from None
    for name, array in found.items():
        shape = (array.dtype, array.ndim, bool(array.flags.c_contiguous))
        _expect(folder, f"layout of {name}", (contract.SERVING_ARRAYS[name], 1, True), shape)
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
    return found


def texts(arrays: Arrays) -> Array:
    """(tracks,): each track's text, as pieces of one size."""
    flat = arrays["track_texts"]
    return flat.view(f"V{max(len(flat) // max(len(arrays['track_ids']), 1), 1)}")


def _map(folder: Path, name: str) -> Array:
    path = folder / contract.SERVING / f"{name}.npy"
    # the plain view: slices of np.memmap itself take ten times as long
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


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
    items = found[name]
    _require(
        folder,
        f"{name} within the {tracks} tracks",
        bool(items.min(initial=0) >= 0 and items.max(initial=-1) < tracks),
    )


def _require(folder: Path, what: str, holds: bool) -> None:
    if not holds:
        raise ReleaseError(f"{folder.name}: expected {what}, which does not hold")
