"""What all imports write: interactions, tracks, and the lines that could not be read.

Everything is written in blocks, so that memory does not grow with the number of listens, and the
files appear together at the end: an import that fails leaves an older one as it was.
"""

import argparse
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.contract import storage, tables
from jobs.contract.storage import JobError

LONGEST_ID = 256  # bytes of UTF-8
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # what no id may have in it
BLOCK = 1 << 20  # rows that are written at a time
TEXT, NUMBER = pa.large_string(), pa.int64()
NAME, ARTISTS = pa.field("name", TEXT), pa.field("artists", pa.large_list(TEXT))
LISTEN = "listen"
KIND = pa.field("kind", pa.string())


class Output:
    """The files of an import, open for writing, and what was counted on the way."""

    def __init__(self, writers: dict[str, pq.ParquetWriter]) -> None:
        """Take the writers by the names of the files."""
        self._writers = writers
        self._waiting: dict[str, list[pa.Table]] = {name: [] for name in writers}
        self._known: list[np.ndarray] = []  # hashes of the tracks, in ascending arrays
        self.listens = self.others = self.tracks = self.unreadable = 0
        self.left_out: Counter[str] = Counter()  # rows that are no listens, by what they are

    def add(
        self,
        user: pa.Array,
        track: pa.Array,
        seconds: np.ndarray,
        kind: pa.Array | None = None,
        **played: pa.Array,
    ) -> None:
        """Write listens: ids of users and tracks, and seconds since 1970, each (n,).

        Without `kind` all are listens. `played` has further columns of the file, null without it.
        """
        schema = self._writers["interactions"].schema
        times = np.rint(seconds * 1e6).astype(np.int64)
        kind = pa.repeat(LISTEN, len(times)) if kind is None else kind.cast(pa.string())
        found = {"user_id": user, "track_id": track, "kind": kind, **played}
        found["started_at"] = pa.array(times)
        columns = [
            found[field.name].cast(field.type)
            if field.name in found
            else pa.nulls(len(times), field.type)
            for field in schema
        ]
        self._add("interactions", pa.table(columns, schema=schema))
        n = pc.sum(pc.equal(kind, LISTEN)).as_py() or 0
        self.listens += n
        self.others += len(times) - n

    def add_tracks(self, columns: dict[str, Any]) -> None:
        """Write those of some tracks, by the columns of tracks.parquet, that are new."""
        table = pa.table(columns, schema=self._writers["tracks"].schema)
        hashes = pd.util.hash_array(table["track_id"].to_pandas().to_numpy())
        unique, first = np.unique(hashes, return_index=True)
        known = np.zeros(len(unique), bool)
        for part in self._known:
            known |= part[np.searchsorted(part, unique).clip(max=len(part) - 1)] == unique
        self._add("tracks", table.take(np.sort(first[~known])))
        self.tracks += int(np.count_nonzero(~known))
        if not known.all():
            self._known.append(unique[~known])
        while len(self._known) > 1 and len(self._known[-1]) * 2 > len(self._known[-2]):
            self._known.append(np.union1d(self._known.pop(), self._known.pop()))

    def add_unreadable(self, file: str, rows: Sequence[int], lines: Sequence[str]) -> None:
        """Write lines that are no listens into the quarantine, with their numbers from 0."""
        n = len(rows)
        columns = [[file] * n, rows, ["the line can't be read"] * n, lines]
        self._add("quarantine", pa.table(columns, schema=tables.QUARANTINE.schema))
        self.unreadable += n

    def _add(self, name: str, table: pa.Table) -> None:
        self._waiting[name].append(table)
        if sum(map(len, self._waiting[name])) >= BLOCK:
            self.write(name)

    def write(self, name: str) -> None:
        """Write what waits for the file of this name."""
        if self._waiting[name]:
            self._writers[name].write_table(pa.concat_tables(self._waiting[name]))
        self._waiting[name] = []

    def summary(self, folder: Path) -> str:
        """Return the summary line of an import into a folder."""
        others = f", {self.others:,} skips, likes and the like" if self.others else ""
        return (
            f"{self.listens:,} listens{others} and {self.tracks:,} tracks in {folder}"
            f"{self.not_written()}"
        )

    def not_written(self) -> str:
        """Return how many rows were left out, and how many could not be read."""
        left = "".join(f"; {n:,} {what} left out" for what, n in self.left_out.items() if n)
        bad = f"; {self.unreadable:,} unreadable lines in quarantine.parquet"
        return left + (bad if self.unreadable else "")


@contextmanager
def output(
    folder: Path,
    ids: pa.DataType,
    names: Sequence[pa.Field] | None = None,
    played: Sequence[pa.Field] = (),
) -> Iterator[Output]:
    """Yield the output of an import into a folder, with ids of this type.

    interactions.parquet has the columns `played` (see data/kinds) beside the usual ones, and
    tracks.parquet the columns track_id and `names`, by default name and artists. The files
    replace older ones at the end, if there was no error. Raises JobError if there is no listen.
    """
    of_track = names or [NAME, ARTISTS]
    listens = {"user_id": ids, "track_id": ids, "started_at": pa.timestamp("us")}
    schemas = {
        "interactions": pa.schema([*map(pa.field, listens, listens.values()), *played]),
        "tracks": pa.schema([pa.field("track_id", ids), *of_track]),
        "quarantine": tables.QUARANTINE.schema,
    }
    with ExitStack() as stack:
        writers = {}
        for name, schema in schemas.items():
            path = stack.enter_context(storage.atomic(folder / f"{name}.parquet"))
            writers[name] = stack.enter_context(pq.ParquetWriter(path, schema))
        result = Output(writers)
        yield result
        if not result.listens:
            raise JobError(f"no listen was found{result.not_written()}: is it the right folder?")
        for name in writers:
            result.write(name)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with --in and --out."""
    result = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    result.add_argument(
        "--in", dest="source", type=Path, required=True, help="folder of the files as they came"
    )
    result.add_argument(
        "--out", type=Path, required=True, help="folder to write, which is --data of run_all.sh"
    )
    return result


def files(folder: Path, *patterns: str) -> list[Path]:
    """Return the files of a folder and its folders that match, by name; JobError if none does."""
    if not folder.is_dir():
        raise JobError(f"{folder} is not a folder: unpack the data, and pass its folder as --in")
    found = sorted(path for pattern in patterns for path in folder.rglob(pattern))
    if not found:
        raise JobError(f"{folder} has no {' or '.join(patterns)}: is it the right folder?")
    return found


def id_of(text: str) -> str:
    """Return a text as an id: itself, or a hash where it is too long or has control characters.

    >>> id_of("Queen - Innuendo"), id_of("x" * 300)[:15]
    ('Queen - Innuendo', 'blake2b-c2f093e')
    """
    if not CONTROL.search(text) and len(text.encode()) <= LONGEST_ID:
        return text
    return "blake2b-" + hashlib.blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()
