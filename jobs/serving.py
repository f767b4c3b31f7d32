"""The arrays of a release that the service maps into memory: serving/<name>.npy.

`pack(folder)` is called by jobs.publish once the parquet files of a release stand in `folder`.
It reads them block by block; what it holds at a time is the ids, the offsets and one block.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jobs import contract
from jobs.contract import JobError, Table


def pack(folder: Path) -> None:
    """Write every array of contract.SERVING_ARRAYS; JobError where the tables disagree."""
    tracks = np.sort(_column(contract.ITEMS, folder, "track_id"))
    listeners = _distinct(contract.LISTENS, folder, "user_id")
    users = np.union1d(listeners, _distinct(contract.RECOMMENDATIONS, folder, "user_id"))
    top = contract.read(contract.TOP_POPULAR, folder, ["track_id", "rank"]).sort_by("rank")
    _write(folder, "track_ids", tracks)
    _write(folder, "user_ids", users)
    top_items = _positions(tracks, top["track_id"].to_numpy(), contract.TOP_POPULAR)
    _write(folder, "top_items", top_items)
    _write_heard(folder, users, tracks)
    _write_lists(folder, contract.RECOMMENDATIONS, "recommendations", users, tracks)
    _write_lists(folder, contract.SIMILAR, "similar", tracks, tracks)
    _write_lists(folder, contract.NEXT_PLAYED, "next_played", tracks, tracks)


def _column(table: Table, folder: Path, name: str) -> np.ndarray:
    values: np.ndarray = contract.read(table, folder, [name])[name].to_numpy()
    return values


def _distinct(table: Table, folder: Path, name: str) -> np.ndarray:
    """The distinct values of a column by which the file is sorted, ascending."""
    blocks = [_unique(b[name].to_numpy()) for b in contract.batches(table, folder, [name])]
    return _unique(np.concatenate([np.empty(0, np.int64), *blocks]))


def _unique(values: np.ndarray) -> np.ndarray:
    """The distinct values, ascending: np.unique hashes, which takes ten times as long here."""
    values = np.sort(values)
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def _positions(ids: np.ndarray, keys: np.ndarray, table: Table) -> np.ndarray:
    """Where each key stands in the sorted ids."""
    found = np.searchsorted(ids, keys)
    found[found == len(ids)] = 0  # compared below, and so refused
    known = ids[found] == keys if len(ids) else np.zeros(len(keys), bool)
    if not known.all():
        raise JobError(
            f"{table.file} has the id {keys[~known][0]}, which {contract.ITEMS.file} lacks: "
            f"run python -m {table.made_by} again"
        )
    return found


def _write_heard(folder: Path, users: np.ndarray, tracks: np.ndarray) -> None:
    """Each user's tracks, once each and ascending. A user cut by a block waits for the next."""
    counts = np.zeros(len(users), np.int64)
    waiting = np.empty(0, np.int64)  # user position * number of tracks + track position
    with _array(folder, "heard_items") as append:
        for batch in _blocks(contract.LISTENS, folder, ["user_id", "track_id"]):
            user = np.searchsorted(users, batch["user_id"])
            track = _positions(tracks, batch["track_id"], contract.LISTENS)
            _check_sorted(np.append(waiting // len(tracks), user), contract.LISTENS)
            pairs = _unique(np.concatenate([waiting, user * len(tracks) + track]))
            complete = np.searchsorted(pairs, user[-1] * len(tracks))
            waiting = pairs[complete:]
            counts += _count(pairs[:complete] // len(tracks), len(users))
            append(pairs[:complete] % len(tracks))
        if len(waiting):
            counts += _count(waiting // len(tracks), len(users))
            append(waiting % len(tracks))
    _write(folder, "heard_offsets", _offsets(counts))


def _write_lists(
    folder: Path, table: Table, name: str, keys: np.ndarray, tracks: np.ndarray
) -> None:
    """The ranked lists of `table`, one for each of the sorted `keys` (empty where it has none)."""
    key, item, *_ = table.schema.names
    counts = np.zeros(len(keys), np.int64)
    scored = f"{name}_scores" in contract.SERVING_ARRAYS
    last = np.empty(0, np.int64)
    with _array(folder, f"{name}_items") as append, _scores(folder, name, scored) as append_scores:
        for batch in _blocks(table, folder, [key, item, "rank", "score"]):
            position = _positions(keys, batch[key], table)
            order = np.append(last, (position << 32) + batch["rank"])
            _check_sorted(order, table, strictly=True)
            last = order[-1:]
            counts += _count(position, len(keys))
            append(_positions(tracks, batch[item], table))
            append_scores(batch["score"])
    _write(folder, f"{name}_offsets", _offsets(counts))


def _blocks(table: Table, folder: Path, columns: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """The columns of a file as arrays, a block of rows at a time, with a progress bar."""
    rows = contract.n_rows(table, folder)
    with tqdm(
        total=rows, desc=f"pack {table.file}", unit=" rows", unit_scale=True, disable=None
    ) as bar:
        for batch in contract.batches(table, folder, columns):
            if batch.num_rows:
                yield {name: batch[name].to_numpy() for name in columns}
                bar.update(batch.num_rows)


def _check_sorted(values: np.ndarray, table: Table, strictly: bool = False) -> None:
    steps = np.diff(values)
    if (steps < (1 if strictly else 0)).any():
        raise JobError(
            f"{table.file} is not sorted by {', '.join(table.order)}: "
            f"run python -m {table.made_by} again"
        )


def _count(positions: np.ndarray, length: int) -> np.ndarray:
    return np.bincount(positions, minlength=length)


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


def _write(folder: Path, name: str, values: np.ndarray) -> None:
    with _array(folder, name) as append:
        append(values)


@contextmanager
def _scores(folder: Path, name: str, scored: bool) -> Iterator[Callable[[np.ndarray], None]]:
    """The append of the list's scores, or one that drops them where the service needs none."""
    if not scored:
        yield lambda values: None
        return
    with _array(folder, f"{name}_scores") as append:
        yield append


@contextmanager
def _array(folder: Path, name: str) -> Iterator[Callable[[np.ndarray], None]]:
    """Write serving/<name>.npy piece by piece: yields append(values); it appears whole at the end.

    The length is known only then, so the header is written again; NumPy pads it for growth.
    """
    dtype = contract.SERVING_ARRAYS[name]
    path = folder / contract.SERVING / f"{name}.npy"
    with contract.atomic(path) as temporary, temporary.open("wb") as file:
        length = 0

        def write_header() -> None:
            header = {"descr": dtype.str, "fortran_order": False, "shape": (length,)}
            np.lib.format.write_array_header_1_0(file, header)

        def append(values: np.ndarray) -> None:
            nonlocal length
            file.write(np.ascontiguousarray(values, dtype).data)
            length += len(values)

        write_header()
        yield append
        file.seek(0)
        write_header()
