"""The arrays of a release that the service maps into memory: serving/<name>.npy.

jobs.publish calls `pack_users` and `pack_tracks` once the parquet files of a release are in
`folder`. These are read block by block: memory holds the ids, the offsets and one block at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.contract import serving, storage, tables, text_ids
from jobs.contract.fold_in import FoldInModel
from jobs.contract.ids import MISSING, Ties, find, ties_of
from jobs.contract.names import ALS_MODEL, SERVING
from jobs.contract.ragged import offsets_of
from jobs.contract.storage import JobError
from jobs.contract.tables import Table
from jobs.contract.text_ids import TextIds
from jobs.data import feedback, songs
from jobs.data.feedback import DISLIKE
from jobs.models import als_model
from jobs.models.hyperparameters import Hyperparameters
from jobs.runtime.progress import progress_bar


def pack_users(folder: Path, settings: Hyperparameters) -> None:
    """Write the arrays of users: their ids, histories, dislikes and final lists.

    The final lists are packed without tracks that the user dislikes and, if the settings exclude
    heard tracks, without these, so that the service need not check. Raises JobError if the tables
    do not fit together.
    """
    tracks = _track_ids(folder)
    listeners = _distinct(tables.LISTENS, folder, "user_id")
    users = np.union1d(listeners, _distinct(tables.RECOMMENDATIONS, folder, "user_id"))
    users = np.union1d(users, feedback.users_who_dislike(folder))
    write_user_ids(folder, users, text_ids.of(folder).users)
    shown = songs.shown(folder, tracks)
    _write_history(folder, users, tracks, shown)
    disliked = _write_disliked(folder, users, tracks, shown)
    filters = [_allowed_rows(folder, "history", len(tracks))] if settings.heard == "exclude" else []
    filters += [_allowed_rows(folder, "disliked", len(tracks))] if disliked else []
    write_lists(folder, tables.RECOMMENDATIONS, "recommendations", users, tracks, filters)


def pack_tracks(folder: Path, settings: Hyperparameters) -> None:
    """Write the arrays of tracks: their ids, names, neighbours and vectors, and the top list.

    shown_items is written if songs have several ids. Raises JobError if the tables do not fit
    together.
    """
    tracks = _track_ids(folder)
    top = tables.read(tables.TOP_POPULAR, folder, ["track_id", "rank"]).sort_by("rank")
    write_track_ids(folder, tracks, text_ids.of(folder).tracks)
    write_names(folder)
    top_items = _positions(tracks, top["track_id"].to_numpy(), tables.TOP_POPULAR)
    shown = songs.shown(folder, tracks)
    if shown is not None:
        write(folder, "shown_items", shown)
    write_lists(folder, tables.SIMILAR, "similar", tracks, tracks)
    write_lists(folder, tables.NEXT_PLAYED, "next_played", tracks, tracks)
    ties = ties_of(tracks)
    model = als_model.load_model(folder, settings, ties)
    write_model(folder, model, len(tracks))
    others = _others(top_items, songs.hidden(folder, tracks), model, ties)
    write(folder, "top_items", np.concatenate([top_items, others]))


def _others(top: np.ndarray, hidden: np.ndarray, model: FoldInModel, ties: Ties) -> np.ndarray:
    """Return the tracks that are not in the top list, so that answers can be filled up with them.

    They are in the order of the lengths of their vectors, which say how popular a track is expected
    to be, then of ties. Tracks that are `hidden`, (tracks,) bool, are left out.
    """
    left = ~hidden
    left[top] = False
    known = model.order.items
    known = known[left[known]]
    left[known] = False
    unknown = ties.at[:-1][left[ties.at[:-1]]]
    return np.concatenate([known, unknown])


def write_model(folder: Path, model: FoldInModel, n: int) -> None:
    """Write the ALS vectors of n tracks, by falling norm: the order in which they are searched.

    They are turned so that their gram matrix is diagonal, and have half the bytes: see
    FoldInModel.on_axes and in_halves.
    """
    model = model.on_axes().in_halves()
    order = model.order
    if len(order.position) != n:
        raise JobError(
            f"{ALS_MODEL} has {len(order.position):,} tracks, but {tables.ITEMS.file} has {n:,}: "
            f"run python -m jobs.train_als again"
        )
    write(folder, "als_items", order.items)
    write(folder, "als_places", order.position)
    write(folder, "als_norms", order.norms)
    write(folder, "als_vectors", order.vectors.ravel())
    write(folder, "als_gram", model.gram.ravel())


def write_names(folder: Path) -> None:
    """Write the names of the tracks, in the order of their ids; a missing name is empty."""
    items = tables.read(tables.ITEMS, folder, ["track_id", "track_name"]).sort_by("track_id")
    names = pc.cast(items["track_name"], pa.large_binary()).fill_null(b"").combine_chunks()
    lengths = pc.binary_length(names).to_numpy()
    write(folder, "names_offsets", offsets_of(lengths))
    write(folder, "names_items", np.frombuffer(b"".join(names.to_pylist()), np.uint8))


def texts(ids: np.ndarray) -> np.ndarray:
    """Return each id as text with a comma, padded on the left to one width: (n * width,) uint8.

    The service builds a JSON list by copying pieces of this one size; JSON allows the blanks.

    >>> texts(np.array([7, 12])).tobytes()
    b' 7,12,'
    """
    digits = len(str(ids.max(initial=0)))
    result = np.full((len(ids), digits + 1), ord(","), np.uint8)
    rest = ids.copy()
    for place in range(digits - 1, -1, -1):
        blank = (rest == 0) & (place < digits - 1)
        result[:, place] = np.where(blank, ord(" "), ord("0") + rest % 10)
        rest //= 10
    return result.ravel()


def json_texts(ids: TextIds) -> np.ndarray:
    r"""The same of text ids, padded on the right by bytes 0, which no id has: (n * width,) uint8.

    An id is as JSON has it, so with quotes and with a backslash before a quote or a backslash.

    >>> json_texts(TextIds(np.arange(2), pa.array(["u7", 'a"']))).tobytes()
    b'"u7",\x00"a\\"",'
    """
    escaped = ids.texts
    for mark in ("\\", '"'):
        escaped = pc.replace_substring(escaped, mark, f"\\{mark}")
    before, after, between = (pa.scalar(mark, pa.large_string()) for mark in ('"', '",', ""))
    quoted = pc.binary_join_element_wise(before, escaped.cast(pa.large_string()), after, between)
    width = pc.max(pc.binary_length(quoted)).as_py() or 1
    return np.array(quoted.cast(pa.large_binary()).to_pylist(), f"S{width}").view(np.uint8)


def write_user_ids(folder: Path, users: np.ndarray, ids: TextIds | None) -> None:
    """Write the ids of users, ascending, and the texts that they stand for, if any."""
    write(folder, "user_ids", users)
    write_keys(folder, "user", users, ids)


def write_track_ids(folder: Path, tracks: np.ndarray, ids: TextIds | None) -> None:
    """Write the ids of tracks, ascending, the texts that they stand for, if any, and their JSON."""
    write(folder, "track_ids", tracks)
    write(folder, "track_texts", texts(tracks) if ids is None else json_texts(ids))
    write_keys(folder, "track", tracks, ids)


def write_keys(folder: Path, kind: str, numbers: np.ndarray, ids: TextIds | None) -> None:
    """Write the texts that numbers stand for, if ids are text."""
    if ids is None:
        return
    texts = ids.texts.take(pa.array(find(ids.numbers, numbers))).cast(pa.large_binary())
    write(folder, f"{kind}_keys_offsets", offsets_of(pc.binary_length(texts).to_numpy()))
    write(folder, f"{kind}_keys_items", np.frombuffer(b"".join(texts.to_pylist()), np.uint8))


def _track_ids(folder: Path) -> np.ndarray:
    """Return the ids of all tracks, ascending."""
    return np.sort(tables.read(tables.ITEMS, folder, ["track_id"])["track_id"].to_numpy())


def _distinct(table: Table, folder: Path, name: str) -> np.ndarray:
    """Return the distinct values of a column, ascending."""
    blocks = [_unique(b[name].to_numpy()) for b in tables.batches(table, folder, [name])]
    return _unique(np.concatenate([np.empty(0, np.int64), *blocks]))


def _unique(values: np.ndarray) -> np.ndarray:
    """Return the distinct values, ascending; np.unique hashes and takes ten times as long here."""
    values = np.sort(values)
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def _positions(ids: np.ndarray, keys: np.ndarray, table: Table) -> np.ndarray:
    """Return the position of each key in the sorted ids. Raises JobError if a key is not there."""
    positions = find(ids, keys)
    unknown = positions == MISSING
    if unknown.any():
        raise JobError(
            f"{table.file} has the id {keys[unknown][0]}, which {tables.ITEMS.file} lacks: "
            f"run python -m {table.made_by} again"
        )
    return positions


def _write_history(
    folder: Path, users: np.ndarray, tracks: np.ndarray, shown: np.ndarray | None
) -> None:
    """Write each user's listens, oldest first, by the ids under which songs are shown."""
    counts = np.zeros(len(users), np.int64)
    last = np.empty(0, np.int64)
    with array(folder, "history_items") as append:
        for batch in _blocks(tables.LISTENS, folder, ["user_id", "track_id"]):
            user = np.searchsorted(users, batch["user_id"])
            _check_sorted(np.append(last, user), tables.LISTENS)
            last = user[-1:]
            counts += _count(user, len(users))
            played = _positions(tracks, batch["track_id"], tables.LISTENS)
            append(played if shown is None else shown[played])
    write(folder, "history_offsets", offsets_of(counts))


def _write_disliked(
    folder: Path, users: np.ndarray, tracks: np.ndarray, shown: np.ndarray | None
) -> bool:
    """Write the tracks that each user dislikes; return whether anybody dislikes any."""
    said = feedback.read(folder, users, tracks)
    if said is None:
        return False
    disliked = said.standing(DISLIKE, (len(users), len(tracks)), shown)
    if not disliked.nnz:
        return False
    disliked.sort_indices()
    write(folder, "disliked_offsets", disliked.indptr)
    write(folder, "disliked_items", disliked.indices)
    return True


# Returns the rows of a block to keep, (m,) bool, given the positions of their users and tracks.
RowFilter = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _allowed_rows(folder: Path, name: str, n: int) -> RowFilter:
    """Return a filter that keeps the rows whose track the user, ascending, does not have in lists.

    These are the arrays of the given name, "history" or "disliked", which are written already. A
    pair of user and track is one number, user * n + track, for n tracks.
    """
    begins, items = (
        np.load(folder / SERVING / f"{name}_{part}.npy", mmap_mode="r")
        for part in ("offsets", "items")
    )

    def allowed_rows(user: np.ndarray, track: np.ndarray) -> np.ndarray:
        first, last = user[0], user[-1] + 1
        owner = np.repeat(np.arange(first, last), np.diff(begins[first : last + 1]))
        out = np.sort(owner * n + items[begins[first] : begins[last]])
        pairs = user * n + track
        allowed: np.ndarray = find(out, pairs) == MISSING
        return allowed

    return allowed_rows


def write_lists(
    folder: Path,
    table: Table,
    name: str,
    keys: np.ndarray,
    tracks: np.ndarray,
    keep: Sequence[RowFilter] = (),
    source: Path | None = None,
) -> None:
    """Write the ranked lists of a table, one for each of the sorted keys; some may be empty.

    The table is in `folder`, or in `source` if that is given.
    """
    key, item, *_ = table.schema.names
    counts = np.zeros(len(keys), np.int64)
    scored = f"{name}_scores" in serving.SERVING_ARRAYS | serving.OPTIONAL_ARRAYS
    last = np.empty(0, np.int64)
    with array(folder, f"{name}_items") as append, _scores(folder, name, scored) as append_scores:
        for batch in _blocks(table, source or folder, [key, item, "rank", "score"]):
            position = _positions(keys, batch[key], table)
            # By key, then by rank, as one number that must ascend from row to row.
            order = np.append(last, (position << 32) + batch["rank"])
            _check_sorted(order, table, strictly=True)
            last = order[-1:]
            items = _positions(tracks, batch[item], table)
            kept: np.ndarray | slice = slice(None)
            if keep:
                kept = np.logical_and.reduce([rows(position, items) for rows in keep])
            counts += _count(position[kept], len(keys))
            append(items[kept])
            append_scores(batch["score"][kept])
    write(folder, f"{name}_offsets", offsets_of(counts))


def _blocks(table: Table, folder: Path, columns: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the columns of a file as arrays, a block of rows at a time, with a progress bar."""
    rows = tables.n_rows(table, folder)
    with progress_bar(total=rows, desc=f"pack {table.file}", unit=" rows", unit_scale=True) as bar:
        for batch in tables.batches(table, folder, columns):
            if batch.num_rows:
                yield {name: batch[name].to_numpy() for name in columns}
                bar.update(batch.num_rows)


def _check_sorted(values: np.ndarray, table: Table, strictly: bool = False) -> None:
    """Raise JobError if the values fall, or, with `strictly`, if two neighbours are equal."""
    steps = np.diff(values)
    if (steps < (1 if strictly else 0)).any():
        raise JobError(
            f"{table.file} is not sorted by {', '.join(table.order)}: "
            f"run python -m {table.made_by} again"
        )


def _count(positions: np.ndarray, length: int) -> np.ndarray:
    return np.bincount(positions, minlength=length)


def write(folder: Path, name: str, values: np.ndarray) -> None:
    """Write serving/<name>.npy."""
    with array(folder, name) as append:
        append(values)


@contextmanager
def _scores(folder: Path, name: str, scored: bool) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield append(scores), which does nothing if the service needs no scores of this list."""
    if not scored:
        yield lambda values: None
        return
    with array(folder, f"{name}_scores") as append:
        yield append


@contextmanager
def array(folder: Path, name: str) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield append(values), which writes serving/<name>.npy piece by piece.

    The file appears only at the end, complete. Its length is known only then, so the header is
    written a second time; NumPy leaves room in it for a larger length.
    """
    dtype = (serving.SERVING_ARRAYS | serving.OPTIONAL_ARRAYS)[name]
    path = folder / SERVING / f"{name}.npy"
    with storage.atomic(path) as temporary, temporary.open("wb") as file:
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
