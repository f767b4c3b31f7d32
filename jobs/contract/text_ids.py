"""The ids of a folder that are text, with their numbers: user_ids.parquet and track_ids.parquet.

Jobs compute with numbers (see contract.ids), and the files that people read have the texts. Tables
are translated where they are read and written, in contract.tables, and nowhere else. A folder whose
ids are whole numbers has neither file, and nothing is translated.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.contract import storage
from jobs.contract.ids import INTEGER, MISSING, TEXT, assigned, find
from jobs.contract.storage import JobError

USER_IDS, TRACK_IDS = "user_ids.parquet", "track_ids.parquet"
SCHEMA = pa.schema([("number", pa.int64()), ("id", pa.string())])
# The columns of tables that have ids, by what they are ids of.
USER_COLUMNS = frozenset({"user_id"})
TRACK_COLUMNS = frozenset(
    {"track_id", "similar_track_id", "next_track_id", "other_track_id", "song_id"}
)


class TextIds(NamedTuple):
    """Text ids with their numbers."""

    numbers: np.ndarray  # (n,) int64, ascending
    texts: pa.Array  # (n,) string

    @classmethod
    def of(cls, texts: pa.Array) -> "TextIds":
        """Give numbers to different texts, which may be in any order."""
        texts = texts.cast(pa.large_binary())
        texts = texts.take(pc.sort_indices(texts))
        numbers = assigned(texts.to_pylist())
        order = np.argsort(numbers)
        return cls(numbers[order], texts.take(pa.array(order)).cast(pa.large_string()))

    def take(self, kept: np.ndarray) -> "TextIds":
        """Return some of the ids, by their places, ascending."""
        return TextIds(self.numbers[kept], self.texts.take(pa.array(kept)))

    def written(self, numbers: pa.Array) -> pa.DictionaryArray:
        """Return the texts of numbers (n,). JobError if a number stands for no text."""
        encoded = numbers.dictionary_encode()
        places = find(self.numbers, encoded.dictionary.to_numpy(zero_copy_only=False))
        if (places == MISSING).any():
            raise JobError(
                "a table has ids that user_ids.parquet or track_ids.parquet lacks, so the files "
                "are of different runs: run python -m jobs.prepare and all later jobs again"
            )
        texts = self.texts.take(pa.array(places)).cast(pa.string())
        return pa.DictionaryArray.from_arrays(encoded.indices, texts)

    def read(self, texts: pa.Array) -> pa.Array:
        """Return the numbers of texts (n,) int64, MISSING for an unknown one."""
        if not pa.types.is_dictionary(texts.type):
            texts = texts.dictionary_encode()
        numbers = self.numbers_of(texts.dictionary)
        return pa.array(numbers[texts.indices.to_numpy(zero_copy_only=False)])

    def numbers_of(self, texts: pa.Array) -> np.ndarray:
        """Return the numbers of different texts (n,) int64, MISSING for an unknown one."""
        texts = texts.cast(self.texts.type)
        numbers = np.full(len(texts), MISSING)
        # The table of index_in is made anew in each call, so it is made of the fewer texts.
        if len(texts) < len(self.texts):
            places = pc.index_in(self.texts, texts)
            known = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
            numbers[places.drop_null().to_numpy()] = self.numbers[known]
        else:
            places = pc.index_in(texts, self.texts)
            known = np.flatnonzero(places.is_valid().to_numpy(zero_copy_only=False))
            numbers[known] = self.numbers[places.drop_null().to_numpy()]
        return numbers


class FolderIds(NamedTuple):
    """The text ids of a folder's users and tracks; None where they are whole numbers."""

    users: TextIds | None = None
    tracks: TextIds | None = None

    def of_column(self, name: str) -> TextIds | None:
        """Return the text ids that a column of a table has; None if it has numbers."""
        if name in USER_COLUMNS:
            return self.users
        return self.tracks if name in TRACK_COLUMNS else None

    def text_columns(self, names: Sequence[str]) -> list[str]:
        """Return those of the columns that have text ids."""
        return [name for name in names if self.of_column(name) is not None]

    def kinds(self) -> "Kinds":
        """Return the kinds of the ids."""
        return Kinds(*(INTEGER if ids is None else TEXT for ids in self))


class Kinds(NamedTuple):
    """Of which kind ids are, each "integer" or "text"."""

    users: str = INTEGER
    tracks: str = INTEGER


def of(folder: Path) -> FolderIds:
    """Return the text ids of a folder. JobError if a file of them can't be read."""
    return FolderIds(*(_read_unless_known(folder / name) for name in (USER_IDS, TRACK_IDS)))


def kinds_of(folder: Path) -> Kinds:
    """Return the kinds of the ids in a folder, without reading them."""
    return Kinds(
        *(TEXT if (folder / name).is_file() else INTEGER for name in (USER_IDS, TRACK_IDS))
    )


def write(folder: Path, ids: FolderIds) -> None:
    """Write the text ids of a folder; remove the file of a kind that is whole numbers."""
    for name, found in zip((USER_IDS, TRACK_IDS), ids, strict=True):
        if found is None:
            (folder / name).unlink(missing_ok=True)
            continue
        with storage.atomic(folder / name) as path:
            rows = pa.table([pa.array(found.numbers), found.texts.cast(pa.string())], SCHEMA.names)
            pq.write_table(rows.cast(SCHEMA), path, compression="zstd")


def _read_unless_known(path: Path) -> TextIds | None:
    try:
        seen = path.stat()
    except FileNotFoundError:
        return None
    return _read(path, seen.st_size, seen.st_mtime_ns, seen.st_ino)


@lru_cache(4)  # of the two files of two folders: they are read once for all tables
def _read(path: Path, size: int, changed: int, inode: int) -> TextIds:
    try:
        rows = pq.read_table(path)
        if not rows.schema.equals(SCHEMA):
            raise pa.ArrowInvalid(f"its columns are {', '.join(rows.schema.names)}")
    except (pa.ArrowException, OSError) as error:
        raise JobError(f"{path} can't be read ({error}): run python -m jobs.prepare") from None
    texts = rows["id"].combine_chunks().cast(pa.large_string())
    return TextIds(rows["number"].to_numpy(), texts)
