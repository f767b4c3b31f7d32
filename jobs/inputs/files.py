"""Find the files that make up each input: one file, or a folder of parts as other tools write it.

An input is a file or a folder that has its name, with or without an ending, as

    interactions.parquet    interactions.csv.gz    interactions.jsonl
    interactions/part-0.parquet                          a folder of parts
    interactions.parquet/part-00000-c000.snappy.parquet  one that Spark wrote
    interactions/day=2024-01-01/data_0.parquet           Hive partitions: day is a column as well
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jobs.contract.storage import JobError

TRACKS, NAMES, INTERACTIONS = "tracks", "catalog_names", "interactions"
INPUTS = (TRACKS, NAMES, INTERACTIONS)
PARQUET, CSV, JSON = "parquet", "CSV", "JSON lines"
FORMS = {
    ".parquet": PARQUET, ".csv": CSV, ".tsv": CSV,
    ".jsonl": JSON, ".ndjson": JSON, ".json": JSON,
}  # fmt: skip
PACKED = {".gz": "gzip", ".zst": "zstd"}  # Arrow's names of the methods, for CSV and JSON lines
ENDINGS = f"{', '.join(FORMS)}, and those of text also with {' or '.join(PACKED)}"
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
Keys = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Part:
    """A file that holds rows of an input."""

    path: Path
    name: str  # the path from the folder of all inputs on, for messages and the quarantine
    form: str  # PARQUET, CSV or JSON
    packed: str | None = None  # a value of PACKED
    keys: Keys = ()  # columns whose values are in the names of Hive's folders


@dataclass(frozen=True)
class Reading:
    """How the user's files of an input are to be read, where that differs from the usual."""

    columns: dict[str, str] = field(default_factory=dict)  # what a column is called in the files
    delimiter: str | None = None  # of CSV; None: found out from the first rows
    header: bool = True  # False: no CSV has names of columns; True: found out from the first row
    unit: str | None = None  # s, ms or us: what times that are numbers count in
    origin: int = 0  # the moment that they count from, in microseconds since 1970


@dataclass(frozen=True, eq=False)
class Input:
    """One of the user's inputs, with the files that hold its rows, in their order."""

    kind: str  # one of INPUTS
    path: Path  # the file, or the folder of the parts
    parts: tuple[Part, ...]
    reading: Reading = field(default_factory=Reading)
    given: dict[str, Any] | None = None  # Arrow's columns, where no file has them as they are read
    tracks: str = "tracks.parquet"  # the file that listens are compared with, for messages
    notes: dict[str, str] = field(default_factory=dict)  # warnings by part, found while reading


def find(data: Path, kind: str, reading: Reading | None = None) -> Input | None:
    """Return the input of this kind in the folder `data`, None if there is none.

    Raises JobError where there are two, or where a folder has files that can't be its parts.
    """
    if not data.is_dir():
        of_file = (
            f"pass the folder that it is in, {data.parent}" if data.exists() else "look at the path"
        )
        raise JobError(
            f"--data {data} is not a folder: {of_file}; the folder has interactions, and, if you "
            "have them, tracks and catalog_names"
        )
    found = sorted(path for path in data.iterdir() if _is_named(path, kind))
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise JobError(f"{data} has {names}, which are the same input: keep one of them")
    return at(found[0], kind, reading) if found else None


def required(data: Path, kind: str, reading: Reading | None = None) -> Input:
    """Return the input of this kind in the folder `data`. Raises JobError if there is none."""
    source = find(data, kind, reading)
    if source is None:
        found = ", ".join(sorted(other.name for other in data.iterdir())[:10])
        raise JobError(
            f"{data / kind}.parquet is missing: add it, as parquet, CSV or JSON lines, or as a "
            f"folder {kind} of such parts; its folder has {found or 'nothing'}"
            f"{_to_rename(data, kind)}"
        )
    return source


def _to_rename(data: Path, kind: str) -> str:
    """Return what to do if files of the folder are the missing input by other names."""
    files = [
        (path, form)
        for path in sorted(data.iterdir())
        if path.is_file() and (form := _form(path.name))
        if not any(_is_named(path, one) for one in INPUTS)
    ]
    if len(files) > 1:
        return f"; if these files have the {kind}, put them into a folder {kind}"
    for path, form in files:
        ending = "".join(path.suffixes[-2 if form[1] else -1 :])
        return f"; if {path.name} has the {kind}, rename it to {kind}{ending}"
    return ""


def at(path: Path, kind: str, reading: Reading | None = None) -> Input:
    """Return the input that is this file, or the files in this folder."""
    if not path.is_dir():
        return Input(kind, path, (_part(path, path.name),), reading or Reading())
    whole = path.resolve()
    parts: list[Part] = []
    taken: dict[Path, str] = {}
    for file, keys in _files(path, whole, ()):
        name = f"{path.name}/{file.relative_to(path).as_posix()}"
        real = file.resolve()
        if real in taken:
            raise JobError(f"{file} and {taken[real]} are one file, by a link: keep one of them")
        taken[real] = name
        parts.append(_part(file, name, keys, path.suffix))
    if not parts:
        raise JobError(f"{path} has no parts: add files that end in {ENDINGS}")
    forms = {part.form: part for part in parts}
    if len(forms) > 1:
        both = " and ".join(f"{part.name} ({form})" for form, part in sorted(forms.items()))
        raise JobError(f"{path} has parts of two kinds, {both}: keep one kind")
    return Input(kind, path, tuple(parts), reading or Reading())


def _is_named(path: Path, kind: str) -> bool:
    """Return whether a file or folder is an input of this kind, by its name.

    >>> _is_named(Path("tracks.csv.gz"), "tracks"), _is_named(Path("tracks.txt"), "tracks")
    (True, False)
    """
    return path.name == kind or (path.name.startswith(f"{kind}.") and _form(path.name) is not None)


def _form(name: str) -> tuple[str, str | None] | None:
    """Return the form of a file and how it is packed, by the end of its name, or None.

    >>> _form("part-0.snappy.parquet"), _form("a.CSV.gz"), _form("a.parquet.gz"), _form("a.txt")
    (('parquet', None), ('CSV', 'gzip'), None, None)
    """
    *_, before, last = ["", "", *(f".{end}" for end in name.lower().split(".")[1:])]
    if last in PACKED:
        form = FORMS.get(before)
        return (form, PACKED[last]) if form in (CSV, JSON) else None
    return (FORMS[last], None) if last in FORMS else None


def _part(path: Path, name: str, keys: Keys = (), folder_suffix: str = "") -> Part:
    """Return a part, whose form is that of its name, or of its first bytes, or of its folder.

    Hive's parts have no endings: 000000_0.
    """
    form = _form(path.name)
    if form is None and path.is_file():
        with path.open("rb") as file:
            start = file.read(4)
        in_folder = FORMS.get(folder_suffix.lower())
        if start == b"PAR1":
            form = PARQUET, None
        elif "." not in path.name and in_folder:
            form = in_folder, None
    if form is None:
        raise JobError(
            f"{path} is none of the files that can be read, which end in {ENDINGS}: "
            "remove it, or write it in one of these forms"
        )
    return Part(path, name, form[0], form[1], keys)


def _files(folder: Path, whole: Path, keys: Keys) -> Iterator[tuple[Path, Keys]]:
    """Yield the files of a folder with the Hive keys of its path, in the natural order of names.

    `whole` is the folder of all parts: a link that leads out of it is refused.
    """
    for path in sorted(folder.iterdir(), key=lambda path: _natural(path.name)):
        if _is_passed_over(path.name):
            continue
        real = path.resolve()
        if path.is_symlink() and (not real.is_relative_to(whole) or not real.exists()):
            raise JobError(f"{path} is a link to {real}: put the file itself there")
        if not path.is_dir():
            yield path, keys
            continue
        if path.is_symlink():
            raise JobError(f"{path} is a link to a folder that is read anyway: remove it")
        key, is_key, value = path.name.partition("=")
        named = (unquote(key), None if value == HIVE_NULL else unquote(value))
        yield from _files(path, whole, (*keys, named) if is_key else keys)


def _is_passed_over(name: str) -> bool:
    """Return whether a name is one that Spark and others give to what are no rows.

    >>> [*map(_is_passed_over, ["_SUCCESS", "_temporary", ".part-0.crc", "_day=1", "part-0.csv"])]
    [True, True, True, False, False]
    """
    return name.startswith(".") or name.endswith(".crc") or (name[0] == "_" and "=" not in name)


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a key that orders names as people do: the numbers in them by their values.

    >>> sorted(["part-10", "part-9", "part", "part-09"], key=_natural)
    ['part', 'part-09', 'part-9', 'part-10']
    """
    pieces = re.split(r"(\d+)", name)
    return [(int(p), "") if i % 2 else (-1, p) for i, p in enumerate(pieces)], name
