"""Make a release of random lists of any size, to test how fast the service starts and answers.

    python -m jobs.sample_release --work DIR [--users 1373221] [--tracks 1000000] [--name sample]
        [--names] [--text-ids]

Makes DIR/releases/NAME and points DIR/current to it. It has 100 recommendations a user, 100 similar
and 100 next tracks a track, histories as long as those of a real service, and vectors as long as
jobs.tune makes them for so many listens. All arrays that the service maps into memory are filled;
the tables are empty, since the service doesn't read them. With --text-ids, the ids of users and
tracks are UUIDs; those of tracks end in the last two digits of --first, as whole numbers do, so
that a test can tell two releases apart. With --names, tracks and artists have names and there is a
search index; the last line says how large it is and how long it took.
"""

import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.contract import serving, storage, tables, text_ids
from jobs.contract.blending import LISTED, Blending
from jobs.contract.fold_in import FoldInModel
from jobs.contract.names import CURRENT, LIST_LENGTH, MANIFEST, RELEASES, SERVING
from jobs.contract.ragged import offsets_of
from jobs.contract.results import Manifest
from jobs.contract.search import SEARCH
from jobs.contract.storage import JobError
from jobs.contract.text_ids import FolderIds, TextIds
from jobs.models.als_model import fold_in_model
from jobs.models.hyperparameters import Hyperparameters
from jobs.releases import build, details, search_index, serving_arrays, store
from jobs.runtime import cli
from jobs.runtime.progress import progress_bar
from jobs.selection.hyperparameter_search import factors_for
from jobs.synthetic import many_names

SEED = 20
ROWS_A_BLOCK = 50_000
# Listens of a user: log-normal with this median and this standard deviation of the logarithm.
MEDIAN_HISTORY, SPREAD = 54, 1.46
LONGEST_HISTORY = 16_637  # listens


def write_lists(rng: np.random.Generator, folder: Path, name: str, rows: int, n: int) -> None:
    """Write a list of different random tracks (of n) for each row, with falling scores."""
    length = min(LIST_LENGTH, n)
    scores = np.geomspace(1, 0.05, length, dtype=np.float32)
    with serving_arrays.array(folder, f"{name}_items") as append:
        for start in progress_bar(range(0, rows, ROWS_A_BLOCK), name):
            size = (min(ROWS_A_BLOCK, rows - start), 1)
            first, step = rng.integers(0, n, size), rng.integers(1, max(n // length, 2), size)
            append(((first + step * np.arange(length)) % n).ravel())
    serving_arrays.write(folder, f"{name}_offsets", np.arange(rows + 1) * length)
    if f"{name}_scores" in serving.SERVING_ARRAYS:
        with serving_arrays.array(folder, f"{name}_scores") as append:
            for start in range(0, rows, ROWS_A_BLOCK):
                append(np.tile(scores, min(ROWS_A_BLOCK, rows - start)))


def write_history(rng: np.random.Generator, folder: Path, users: int, n: int) -> int:
    """Write random listens of n tracks for each user, and return how many there are.

    Each user has as many as in a real service.
    """
    lengths = rng.lognormal(np.log(MEDIAN_HISTORY), SPREAD, users).astype(np.int64)
    lengths = lengths.clip(1, LONGEST_HISTORY)
    with serving_arrays.array(folder, "history_items") as append:
        for start in progress_bar(range(0, users, ROWS_A_BLOCK), "history"):
            append(rng.integers(0, n, lengths[start : start + ROWS_A_BLOCK].sum()))
    serving_arrays.write(folder, "history_offsets", offsets_of(lengths))
    return int(lengths.sum())


def random_model(rng: np.random.Generator, n: int, factors: int) -> FoldInModel:
    """Return n random vectors, whose lengths differ as much as those of popular and rare tracks."""
    vectors = rng.standard_normal((n, factors), np.float32)
    vectors *= rng.lognormal(-4, 1, (n, 1)).astype(np.float32)
    return fold_in_model(vectors, vectors.T @ vectors, Hyperparameters(), None)


def uuids(rng: np.random.Generator, n: int, end: str = "") -> TextIds:
    """Return n random UUIDs that end so as text ids."""
    digits = [rng.bytes(16).hex()[: 32 - len(end)] + end for _ in range(n)]
    return TextIds.of(pa.array([str(uuid.UUID(text)) for text in digits]))


def write_release(folder: Path, users: int, tracks: int, first: int, text: bool = False) -> None:
    """Write all files but the manifest.

    Track ids are first, first + 100, first + 200, ...; user ids are 0, 1, 2, ... With `text` all
    ids are UUIDs, and those of tracks end in the last two digits of `first`.
    """
    rng = np.random.default_rng(SEED)
    track_ids, user_ids, ids = first + np.arange(tracks) * 100, np.arange(users), FolderIds()
    if text:
        ids = FolderIds(uuids(rng, users), uuids(rng, tracks, f"{first % 100:02}"))
        assert ids.users and ids.tracks
        user_ids, track_ids = ids.users.numbers, ids.tracks.numbers
        text_ids.write(folder, ids)
    serving_arrays.write_user_ids(folder, user_ids, ids.users)
    serving_arrays.write_track_ids(folder, track_ids, ids.tracks)
    serving_arrays.write(folder, "top_items", rng.permutation(tracks))
    listens = write_history(rng, folder, users, tracks)
    serving_arrays.write(folder, "names_offsets", np.zeros(tracks + 1))
    serving_arrays.write(folder, "names_items", np.empty(0))
    serving_arrays.write_model(folder, random_model(rng, tracks, factors_for(listens)), tracks)
    write_lists(rng, folder, "recommendations", users, tracks)
    write_lists(rng, folder, "similar", tracks, tracks)
    write_lists(rng, folder, "next_played", tracks, tracks)
    for table in tables.RELEASED:
        tables.write(table, folder, table.schema.empty_table())


def write_names(folder: Path) -> str:
    """Give tracks and artists names and a search index; return its size and how long it took."""
    track_ids = np.load(folder / SERVING / "track_ids.npy")
    top = np.load(folder / SERVING / "top_items.npy")
    rng = np.random.default_rng(SEED)
    items = many_names.items(rng, track_ids)
    tables.write(tables.ITEMS, folder, items)
    listeners = np.empty(len(top), np.int64)
    listeners[top] = len(top) // np.arange(1, len(top) + 1)
    rows = {"track_id": track_ids[top], "rank": np.arange(1, len(top) + 1), "score": listeners[top]}
    counts = {"listeners": listeners[top], "plays": listeners[top]}
    tables.write(tables.TOP_POPULAR, folder, pa.table(rows | counts))
    serving_arrays.write_names(folder)
    details.pack(folder, folder)
    start = time.monotonic()
    search_index.make(folder)
    size = (folder / SEARCH).stat().st_size
    return f"; search index of {size / 1e6:,.1f} MB made in {time.monotonic() - start:.0f} s"


def manifest(folder: Path, name: str) -> Manifest[build.ReleaseSettings]:
    """Return the manifest of the release in `folder`, as the service needs it."""
    blending = Blending("weighted", LISTED, events=5, neighbours=50, offline_half_life=4)
    return build.manifest(folder, name, Hyperparameters(), blending)


def main(argv: Sequence[str]) -> str:
    """Make the release and point DIR/current to it."""
    parser = cli.parser(__doc__)
    parser.add_argument("--users", type=int, default=1_373_221, help="number of users (1373221)")
    parser.add_argument("--tracks", type=int, default=1_000_000, help="number of tracks (1000000)")
    parser.add_argument("--name", default="sample", help="the release's id (sample)")
    parser.add_argument("--first", type=int, default=26, help="the lowest track id (26)")
    parser.add_argument("--text-ids", action="store_true", help="make all ids UUIDs")
    parser.add_argument("--names", action="store_true", help="give tracks and artists names")
    args = parser.parse_args(argv)
    for name in ("users", "tracks"):
        if getattr(args, name) < 1:
            raise JobError(f"--{name} is {getattr(args, name)}: expected at least 1")
    with store.new_folder(args.work / RELEASES, args.name) as folder:
        write_release(folder, args.users, args.tracks, args.first, args.text_ids)
        index = write_names(folder) if args.names else ""
        storage.write_json(folder / MANIFEST, manifest(folder, args.name))
    store.activate(args.work, args.name)
    return f"{args.users:,} users and {args.tracks:,} tracks in {args.work / CURRENT}{index}"


if __name__ == "__main__":
    cli.run(main)
