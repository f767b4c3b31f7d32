"""Make a release: a folder with the contract's files, the service's arrays and a manifest."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import UNSET

from jobs.contract import serving, storage, tables, text_ids
from jobs.contract.blending import Blending
from jobs.contract.names import (
    ALS_MODEL,
    COMPARISON,
    CONTRACT_VERSION,
    CURRENT,
    FORGOTTEN_UNTIL,
    MANIFEST,
    METRICS,
    RELEASE_PAGE,
    RELEASES,
    REPLAY,
    REPORTS,
    SERVING,
    SETTINGS,
)
from jobs.contract.results import (
    DataRange,
    FileEntry,
    Manifest,
    Metrics,
    MixedProcessor,
    ReleaseComparison,
    Replay,
    upgrade_blending,
)
from jobs.contract.storage import JobError
from jobs.contract.text_ids import Kinds
from jobs.data import feedback, tombstones
from jobs.models import hyperparameters
from jobs.models.hyperparameters import Hyperparameters
from jobs.releases import details, gate, search_index, serving_arrays, store
from jobs.runtime import parallel, processors

# Files that a release must have besides the tables, and the job that makes each.
REQUIRED_FILES = {
    ALS_MODEL: "jobs.train_als",
    METRICS: "jobs.evaluate",
    "ranking.json": "jobs.rank",
}


# Files that a release has if they exist. Without songs.parquet no song has several ids; without the
# others the service uses the defaults.
OPTIONAL_FILES = (
    *(tables.SONGS.file, tables.NEW_TRACKS.file, text_ids.USER_IDS, text_ids.TRACK_IDS),
    tables.FEEDBACK.file,
    *(SETTINGS, REPLAY, FORGOTTEN_UNTIL),
    *(f"{REPORTS}/{name}.html" for name in ("data", "evaluation", "replay")),
)


def check(work: Path) -> None:
    """Raise JobError if a file of the contract is missing or has other columns."""
    for table in tables.RELEASED:
        tables.read(table, work, [])
    for name, made_by in REQUIRED_FILES.items():
        if not (work / name).is_file():
            raise JobError(f"{work / name} is missing: run python -m {made_by} --work {work}")


def describe(path: Path) -> FileEntry:
    """Return the SHA-256, the bytes and (of a parquet file) the rows of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    return FileEntry(digest, path.stat().st_size, rows)


def blending(folder: Path) -> Blending:
    """Return the blending that jobs.replay chose, or the default if jobs.replay has not run."""
    path = folder / REPLAY
    if not path.exists():
        return Blending()
    return storage.read_json(path, "jobs.replay", Replay, upgrade_blending).blending


@dataclass(frozen=True)
class ReleaseSettings(Hyperparameters):
    """The settings of the run that made a release, and how live events change its answers."""

    blending: Blending = field(default_factory=Blending)


def manifest(
    folder: Path, release: str, hyperparameters: Hyperparameters, blending: Blending
) -> Manifest[ReleaseSettings]:
    """Describe the files of a release, for the service and for the next release."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    described = zip(files, parallel.each(describe, files), strict=True)
    kinds = text_ids.kinds_of(folder)
    return Manifest(
        id=release,
        contract=CONTRACT_VERSION,
        created_at=datetime.now(UTC).replace(microsecond=0),
        files={str(path.relative_to(folder)): entry for path, entry in described},
        schemas={
            table.file: {column.name: str(column.type) for column in tables.stored(table, kinds)}
            for table in tables.RELEASED
        },
        serving={
            name: str(dtype)
            for name, dtype in (serving.SERVING_ARRAYS | serving.OPTIONAL_ARRAYS).items()
            if (folder / SERVING / f"{name}.npy").exists()
        },
        settings=ReleaseSettings(**vars(hyperparameters), blending=blending),
        ids=UNSET if kinds == Kinds() else kinds._asdict(),
    )


def manifest_of_run(folder: Path, release: str) -> Manifest[ReleaseSettings]:
    """Return the manifest with the run's settings and metrics and the time span of its listens."""
    times = pc.min_max(tables.read(tables.LISTENS, folder, ["started_at"])["started_at"])
    first, last = (times[name].as_py().isoformat() for name in ("min", "max"))
    result = manifest(folder, release, hyperparameters.load(folder), blending(folder))
    result.metrics = storage.read_json(folder / METRICS, "jobs.evaluate", Metrics)
    result.data = DataRange(first, last)
    result.forgotten_until = tombstones.noted(folder)
    return result


@dataclass(frozen=True)
class NewRelease:
    """A release that was just made, and how it compares with the current one.

    comparison is None if there is no current release or it can't be read. In the second case
    not_compared says why.
    """

    id: str
    comparison: ReleaseComparison | None
    not_compared: str = ""

    @property
    def falls(self) -> list[str]:
        """Return a sentence for each value that fell further than the gate allows."""
        return [] if self.comparison is None else self.comparison.falls


PageWriter = Callable[[ReleaseComparison, Path], None]  # writes a comparison as a page to a path


def make(work: Path, write_page: PageWriter) -> NewRelease:
    """Make a release of the files in WORK and compare it with the current one."""
    release = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    with store.new_folder(work / RELEASES, release) as folder:
        for name in [table.file for table in tables.RELEASED] + list(REQUIRED_FILES):
            storage.link(work / name, folder / name)
        for name in OPTIONAL_FILES:
            if (work / name).exists():
                (folder / name).parent.mkdir(exist_ok=True)
                storage.link(work / name, folder / name)
        pack(folder, work)
        check_users(folder)
        store.link_unchanged(folder, work / CURRENT)
        made = compare(work / CURRENT, folder, release)
        if made.comparison is not None:
            storage.write_json(folder / COMPARISON, made.comparison)
            write_page(made.comparison, folder / RELEASE_PAGE)
        content = manifest_of_run(folder, release)
        if mixed := processors.of_files(work):
            content.mixed_processors = [MixedProcessor(*kind) for kind in mixed]
        storage.write_json(folder / MANIFEST, content)
    processors.note(mixed)
    return made


def pack(folder: Path, work: Path) -> None:
    """Write the arrays of a release and its search index.

    The arrays of users are written at the same time as all others, in another thread.
    """
    settings = hyperparameters.load(folder)

    def pack_users() -> None:
        serving_arrays.pack_users(folder, settings)

    def pack_others() -> None:
        serving_arrays.pack_tracks(folder, settings)
        details.pack(folder, work)
        search_index.make(folder)

    parallel.each(lambda write: write(), [pack_users, pack_others])


def check_users(folder: Path) -> None:
    """Raise JobError if a list belongs to someone who is not in users.parquet.

    For example, a user was forgotten after the lists were made.
    """
    users = np.load(folder / SERVING / "user_ids.npy", mmap_mode="r")
    listeners = tables.read(tables.USERS, folder, ["user_id"])["user_id"].to_numpy()
    others = np.setdiff1d(feedback.users_who_dislike(folder), listeners)
    if len(users) > len(listeners) + len(others):
        raise JobError(
            f"{tables.RECOMMENDATIONS.file} has users that {tables.USERS.file} lacks: "
            f"run all jobs after jobs.prepare again, as run_all.sh does"
        )


def compare(current: Path, folder: Path, release: str) -> NewRelease:
    """Compare a new release, whose files are in `folder`, with the current one, if there is one."""
    if not current.is_symlink():
        return NewRelease(release, None)
    old = current.resolve().name
    try:
        if not gate.comparable(current):
            raise JobError("it is incomplete, or of another version of the code")
        return NewRelease(release, gate.compare(current, folder, release))
    except (JobError, OSError, ValueError, TypeError, AttributeError) as error:
        return NewRelease(release, None, f"not compared with {old} ({error})")
