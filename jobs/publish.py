"""Make a release of the lists and switch the service's pointer to it.

    python -m jobs.publish --work data

Makes releases/<id>/ with every file of the contract (hard links: the files are never changed in
place), the arrays that the service maps into memory, and manifest.json; then current points to it.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from api.blending import Blending
from jobs import command, contract, serving, settings
from jobs.contract import JobError

OTHERS = {
    contract.ALS_MODEL: "jobs.train_als",
    contract.METRICS: "jobs.evaluate",
    "ranking.json": "jobs.rank",
}
IF_THERE = (settings.FILE, contract.REPLAY)  # without them the defaults are served


def check(work: Path) -> None:
    """JobError if a file is missing or not what the contract says, or current is no link."""
    for table in contract.RELEASED:
        contract.read(table, work, [])
    for name, made_by in OTHERS.items():
        if not (work / name).is_file():
            raise JobError(f"{work / name} is missing: run python -m {made_by} --work {work}")
    link = work / contract.CURRENT
    if link.exists() and not link.is_symlink():
        raise JobError(f"{link} is no link, though this job makes one: move it elsewhere")


@contextmanager
def new_folder(releases: Path, release: str) -> Iterator[Path]:
    """Yield a hidden folder that becomes releases/<release> at the end, or nothing at all."""
    temporary = releases / f".{release}.tmp"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        contract.fsync_folder(temporary)
        temporary.rename(releases / release)
        contract.fsync_folder(releases)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def describe(path: Path) -> dict[str, Any]:
    """Hash, size and rows of a file; rows is None where it is no table."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    return {"sha256": digest, "bytes": path.stat().st_size, "rows": rows}


def blending(folder: Path) -> Blending:
    """The rule that jobs.replay chose, or the default where nothing was replayed."""
    path = folder / contract.REPLAY
    if not path.exists():
        return Blending()
    content = contract.read_json(path, made_by="jobs.replay")
    try:
        return msgspec.convert(content.get("blending"), Blending)
    except msgspec.ValidationError as error:
        raise JobError(
            f"{path} has a blending that can't be served ({error}): run python -m jobs.replay again"
        ) from None


def description(folder: Path, release: str) -> dict[str, Any]:
    """What the release's files hold."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        "id": release,
        "contract": contract.VERSION,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {str(path.relative_to(folder)): describe(path) for path in files},
        "schemas": {
            table.file: {field.name: str(field.type) for field in table.schema}
            for table in contract.RELEASED
        },
        "serving": {name: str(dtype) for name, dtype in contract.SERVING_ARRAYS.items()},
    }


def manifest(folder: Path, release: str) -> dict[str, Any]:
    """The files, from which data and settings they are, and how good the lists were."""
    chosen = settings.load(folder)
    times = pc.min_max(contract.read(contract.LISTENS, folder, ["started_at"])["started_at"])
    first, last = (times[name].as_py() for name in ("min", "max"))
    return description(folder, release) | {
        "metrics": contract.read_json(folder / contract.METRICS, made_by="jobs.evaluate"),
        "settings": vars(chosen) | {"blending": msgspec.to_builtins(blending(folder))},
        "data": {"first": first.isoformat(), "last": last.isoformat()},
    }


def point(work: Path, release: str) -> None:
    """Make WORK/current a link to the release, in one step."""
    temporary = work / f".{contract.CURRENT}.{os.getpid()}.tmp"
    temporary.symlink_to(Path(contract.RELEASES) / release)
    temporary.replace(work / contract.CURRENT)
    contract.fsync_folder(work)


def main() -> str:
    """Make a release and let current point to it."""
    work = command.parser(__doc__).parse_args().work
    check(work)
    releases = work / contract.RELEASES
    release = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    with new_folder(releases, release) as folder:
        for name in [table.file for table in contract.RELEASED] + list(OTHERS):
            os.link(work / name, folder / name)
        for name in IF_THERE:
            if (work / name).exists():
                os.link(work / name, folder / name)
        serving.pack(folder, settings.load(folder))
        contract.write_json(folder / contract.MANIFEST, manifest(folder, release))
    point(work, release)
    size = sum(np.int64(path.stat().st_size) for path in (releases / release).rglob("*"))
    return f"release {release} of {size / 1e6:,.1f} MB is current"


if __name__ == "__main__":
    command.run(main)
