"""Make a release of the lists and switch the service's pointer to it.

    python -m jobs.publish --work data [--keep 5] [--force]
    python -m jobs.publish --work data --list | --activate ID | --rollback

Makes releases/<id>/ with every file of the contract (hard links: the files are never changed in
place; what is as it was in the current release is a hard link to that), the arrays that the service
maps into memory, and manifest.json; then current points to it, and previous to the one before.
Beside the current release it may not fall too far (gate.MAY_FALL): without --force it is then kept
but not activated, and the exit code is 1; comparison.json and report/release.html compare them. Of
the releases the last --keep stay, and those two. --list shows them; --activate and --rollback move
the links, and the service follows at /load_recommendations.
"""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from api.blending import Blending
from jobs import (
    command,
    contract,
    forgotten,
    gate,
    release_page,
    releases,
    serving,
    settings,
)
from jobs.contract import JobError

OTHERS = {
    contract.ALS_MODEL: "jobs.train_als",
    contract.METRICS: "jobs.evaluate",
    "ranking.json": "jobs.rank",
}
KEEP = 5  # releases
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


def check_link(work: Path) -> None:
    """JobError if current or previous is something else than this job's link."""
    for link in (work / contract.CURRENT, work / contract.PREVIOUS):
        if link.exists() and not link.is_symlink():
            raise JobError(f"{link} is no link, though this job makes one: move it elsewhere")


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


def make(work: Path) -> tuple[str, list[str]]:
    """Make a release of what stands in WORK: its id, and what fell too far for it to be served."""
    release = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    with releases.new_folder(work / contract.RELEASES, release) as folder:
        for name in [table.file for table in contract.RELEASED] + list(OTHERS):
            os.link(work / name, folder / name)
        for name in IF_THERE:
            if (work / name).exists():
                os.link(work / name, folder / name)
        serving.pack(folder, settings.load(folder))
        releases.share(folder, work / contract.CURRENT)
        fell = compare(work, folder, release)
        contract.write_json(folder / contract.MANIFEST, manifest(folder, release))
    return release, fell


def compare(work: Path, folder: Path, release: str) -> list[str]:
    """Compare a new release with the current one, if there is any: what fell too far.

    Makes comparison.json beside its files, and report/release.html.
    """
    current = work / contract.CURRENT
    if not gate.comparable(current):
        return []
    content = {"old": current.resolve().name, "new": release} | gate.compare(current, folder)
    contract.write_json(folder / contract.COMPARISON, content)
    release_page.page(content).write(work / PAGE)
    return list(content["falls"])


def listing(work: Path) -> pd.DataFrame:
    """A row a release, the newest first: which it is, from when, of which data, how good."""
    links = {releases.pointed(work, name): name for name in (contract.PREVIOUS, contract.CURRENT)}
    rows = []
    for release in reversed(contract.listed(work)):
        path = work / contract.RELEASES / release / contract.MANIFEST
        content = contract.read_json(path, made_by="jobs.publish")
        lists = content.get("metrics", {}).get("lists", {})
        rows.append(
            {
                "release": release,
                "is": links.get(release, ""),
                "made": content["created_at"],
                "data until": content.get("data", {}).get("last", ""),
                "NDCG@10": lists.get("final list", {}).get("all", {}).get("@10", {}).get("ndcg"),
                "MB": sum(file["bytes"] for file in content["files"].values()) / 1e6,
            }
        )
    return pd.DataFrame(rows)


def main() -> str:
    """Make a release and let current point to it, or move current, or show what there is."""
    parser = command.parser(__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="show the releases")
    what.add_argument("--activate", metavar="ID", help="let current point to this release")
    what.add_argument("--rollback", action="store_true", help="exchange current and previous")
    parser.add_argument("--keep", type=int, default=KEEP, help=f"last releases that stay ({KEEP})")
    parser.add_argument("--force", action="store_true", help="activate it however far it fell")
    args = parser.parse_args()
    work = args.work
    if args.keep < 1:
        raise JobError(f"--keep is {args.keep}: expected at least 1")
    if args.list:
        print(listing(work).to_string(index=False, float_format="{:,.4f}".format))
        return f"{len(contract.listed(work))} releases in {work}"
    check_link(work)
    if args.activate or args.rollback:
        known = (
            releases.chosen(work, args.activate) if args.activate else releases.before_current(work)
        )
        releases.activate(work, known)
        return f"release {known} is current; a service takes it at /load_recommendations"
    return publish(work, args.keep, args.force)


def publish(work: Path, keep: int, force: bool) -> str:
    """Make a release, activate it unless it fell too far, and remove old ones; the summary."""
    check(work)
    release, fell = make(work)
    if force or not fell:
        releases.activate(work, release)
    gone = releases.prune(work, keep)
    if fell and not force:
        raise JobError(
            f"release {release} is kept but not activated: {'; '.join(fell)}. See {work / PAGE}; "
            f"python -m jobs.publish --work {work} --activate {release} activates it, and so does "
            "--force at once"
        )
    folder = work / contract.RELEASES / release
    size = sum(path.stat().st_size for path in folder.rglob("*"))
    return f"release {release} of {size / 1e6:,.1f} MB is current; {len(gone)} old ones removed"


if __name__ == "__main__":
    command.run(main)
