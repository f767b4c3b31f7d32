"""Whether a job has run before on the same input, with the same options and code.

Only the standard library is imported here: skipping a job takes some 30 ms.
"""

import ast
import hashlib
import json
import resource
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


DONE = ".done"  # the folder of the records


IGNORED_OPTIONS = ("--work", "--out", "--memory-limit")  # options that change no output


NAMES_A_FILE = ("--events", "--forgotten")  # options that name an absolute path which is read


def _in(windows: tuple[str, ...], *files: str) -> tuple[str, ...]:
    """The files of some windows, as seen from WORK."""
    return tuple(f"windows/{window}/{file}" for window in windows for file in files)


WINDOWS = ("train", "validation", "test")


DATA = "{data}/"


INPUT = ("tracks.parquet", "catalog_names.parquet", "interactions.parquet")


LISTENS = ("listens.parquet", "users.parquet", "items.parquet")


CHOSEN = (*LISTENS, "settings.json")


PAST = (
    *CHOSEN, "top_popular.parquet", "als_model.npz", "personal_als.parquet", "similar.parquet",
    "followers.parquet",
)  # fmt: skip


LISTS = (*PAST, "next_played.parquet", "recommendations.parquet")


# What each job reads and makes: patterns below --work (or --out), or below --data.
FILES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sample_data": ((), INPUT),
    "prepare": (
        (*(DATA + file for file in INPUT), "state/forgotten.db"),
        (*LISTENS, "quarantine.parquet", "forgotten.json"),
    ),
    "explore": ((*LISTENS, "quarantine.parquet"), ("report/explore.html",)),
    "windows": (LISTENS, _in(WINDOWS, *LISTENS, "holdout.parquet", "split.json")),
    "tune": (
        (
            *("listens.parquet", "items.parquet"),
            *_in(("train", "validation"), *LISTENS, "holdout.parquet"),
        ),
        ("settings.json", *_in(WINDOWS, "settings.json")),
    ),
    "top_popular": (CHOSEN, ("top_popular.parquet",)),
    "train_als": ((*CHOSEN, *_in(("test",), "als_model.npz")), ("als_model.npz",)),
    "personal_als": ((*CHOSEN, "als_model.npz"), ("personal_als.parquet",)),
    "similar": (
        ("users.parquet", "items.parquet", "als_model.npz", "split.json"),
        ("similar.parquet",),
    ),
    "next_played": (CHOSEN, ("next_played.parquet", "followers.parquet")),
    "rank": (
        (*PAST, *_in(WINDOWS, *PAST, "holdout.parquet", "split.json")),
        (
            *("recommendations.parquet", "ranking.json"),
            *_in(("validation", "test"), "recommendations.parquet"),
        ),
    ),
    "evaluate": (
        (
            *_in(("validation", "test"), *PAST, "holdout.parquet", "split.json"),
            *_in(("test",), "recommendations.parquet"),
            "ranking.json",
        ),
        ("metrics.json", "report/evaluation.html"),
    ),
    "replay": (
        _in(("validation", "test"), *LISTS, "holdout.parquet"),
        ("replay.json", "report/replay.html"),
    ),
    "publish": (
        (*LISTS, "metrics.json", "ranking.json", "replay.json", "forgotten.json"),
        ("releases/*/*", "releases/*/serving/*"),  # whichever of them is current
    ),
}


def what_changed(
    record: Path, job: str, folder: Path, data: Path, options: list[str]
) -> str | None:
    """Why the job has to run: "" if it never did or never ended, None if it need not."""
    try:
        done: dict[str, Any] = json.loads(record.read_text())
        done.get("options")
    except (OSError, ValueError, AttributeError):
        return ""
    reads, makes = FILES[job]
    reads += named(options)
    if done.get("options") != options:
        return "other options"
    if done.get("code") != code_hash(job):
        return "its code is another"
    for kind, patterns in (("read", reads), ("made", makes)):
        old, now = done.get(kind, {}), found(folder, data, patterns)
        if other := sorted(name for name in old | now if old.get(name) != now.get(name)):
            return f"{other[0]} is another, new or gone"
    return None


def named(options: list[str]) -> tuple[str, ...]:
    """The paths of the files that options name."""
    return tuple(options[i + 1] for i in range(len(options) - 1) if options[i] in NAMES_A_FILE)


def found(folder: Path, data: Path, patterns: tuple[str, ...]) -> dict[str, list[int]]:
    """Size, time of change and inode of every file that the patterns name, by its path."""
    result = {}
    for pattern in patterns:
        base = data.resolve() if pattern.startswith(DATA) else folder
        whole = Path(pattern).is_absolute()
        for path in [Path(pattern)] if whole else sorted(base.glob(pattern.removeprefix(DATA))):
            if path.is_file():
                seen = path.stat()
                name = path.relative_to(base) if base == folder and not whole else path
                result[str(name)] = [seen.st_size, seen.st_mtime_ns, seen.st_ino]
    return result


def code_hash(job: str) -> str:
    """Of the job's file, of all of the project that it imports, and of the requirements."""
    files, left = set[Path](), {ROOT / "jobs" / f"{job}.py"}
    while left:
        path = left.pop()
        files.add(path)
        left |= imported(path) - files
    beside = {other for path in files for other in path.parent.glob(f"{path.stem}.*")}
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted({*beside, ROOT / "requirements.txt"}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def imported(path: Path) -> set[Path]:
    """The project's own files that one of them imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = {ROOT / f"{name.replace('.', '/')}.py" for name in names}
    return {file for file in files if file.is_file()}


def peak_mb() -> int:
    """The most memory that this process has held, in MB."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def write(record: Path, content: dict[str, Any]) -> None:
    """Write a record in one step."""
    record.parent.mkdir(exist_ok=True)
    temporary = record.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(record)
