"""A new release in a folder of its own: the contract's files, the service's arrays, a manifest."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from api.blending import Blending
from jobs import contract, forgotten, gate, release_page, releases, serving, settings
from jobs.contract import JobError

OTHERS = {
    contract.ALS_MODEL: "jobs.train_als",
    contract.METRICS: "jobs.evaluate",
    "ranking.json": "jobs.rank",
}
PAGE = Path("report/release.html")
# without these the defaults are served
IF_THERE = (settings.FILE, contract.REPLAY, contract.FORGOTTEN_UNTIL)


def check(work: Path) -> None:
    """JobError if a file is missing or not what the contract says."""
    for table in contract.RELEASED:
        contract.read(table, work, [])
    for name, made_by in OTHERS.items():
        if not (work / name).is_file():
            raise JobError(f"{work / name} is missing: run python -m {made_by} --work {work}")


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
        "forgotten_until": forgotten.noted(folder),
    }


def make(work: Path) -> tuple[str, list[str], str]:
    """Make a release of what stands in WORK: its id, what fell too far for it to be served.

    And for the summary, why it was compared with none, where there is a current one.
    """
    release = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    with releases.new_folder(work / contract.RELEASES, release) as folder:
        for name in [table.file for table in contract.RELEASED] + list(OTHERS):
            os.link(work / name, folder / name)
        for name in IF_THERE:
            if (work / name).exists():
                os.link(work / name, folder / name)
        serving.pack(folder, settings.load(folder))
        check_users(folder)
        releases.share(folder, work / contract.CURRENT)
        fell, beside = compare(work, folder, release)
        contract.write_json(folder / contract.MANIFEST, manifest(folder, release))
    return release, fell, beside


def check_users(folder: Path) -> None:
    """JobError if a list is of someone who is no user, as who was forgotten since it was made."""
    users = np.load(folder / contract.SERVING / "user_ids.npy", mmap_mode="r")
    if len(users) > contract.n_rows(contract.USERS, folder):
        raise JobError(
            f"{contract.RECOMMENDATIONS.file} has users that {contract.USERS.file} lacks: "
            f"run all jobs after jobs.prepare again, as run_all.sh does"
        )


def compare(work: Path, folder: Path, release: str) -> tuple[list[str], str]:
    """Compare a new release with the current one: what fell too far, or why that can't be told.

    Makes comparison.json beside its files, and report/release.html.
    """
    current = work / contract.CURRENT
    (work / PAGE).unlink(missing_ok=True)
    if not current.is_symlink():
        return [], ""
    try:
        if not gate.comparable(current):
            raise JobError("it is not whole, or of another version")
        found = gate.compare(current, folder)
    except (JobError, OSError, ValueError, TypeError, AttributeError) as error:
        return [], f", not compared with {current.resolve().name} ({error})"
    content = {"old": current.resolve().name, "new": release} | found
    contract.write_json(folder / contract.COMPARISON, content)
    release_page.page(content).write(work / PAGE)
    return list(content["falls"]), ""
