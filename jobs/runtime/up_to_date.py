"""Find out whether a job has run before on the same input, with the same options and code.

A finished run writes the record WORK/.done/JOB.json. It holds the job's options, a hash of its
code, and the size, time of change and inode of each file that it read or made. The job is up to
date if none of these has changed. For example, after `similar` has run:

    options  []                                    with another option it runs again
    code     hash of similar.py, models/neighbours.py and all other modules that they import, of
             the templates beside them, of requirements.txt and of the Python version
    read     als_model.npz, items.parquet, ...     if train_als writes other factors it runs again;
                                                   if train_als writes the same bytes, the old file
                                                   stays (see storage.atomic), and it is skipped
    made     similar.parquet                       if the file is removed or changed it runs again

The old record is removed before a run and the new one is written after it: a killed run has none.
If a mix of processors computed the files, the record has their kinds as `mixed_processors`; such a
job runs again unless the run allows a mix. What blocks took on a cluster is `on_cluster`.

Only the standard library is imported here, so that a run without any changes takes no time.
"""

import ast
import hashlib
import json
import resource
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from jobs.contract.names import EARLIER, SPLIT, WINDOWS

ROOT = Path(__file__).parents[2]
DONE = ".done"  # the folder of the records
IGNORED_OPTIONS = ("--work", "--out", "--memory-limit")  # options that change no output
FILE_OPTIONS = ("--events", "--forgotten")  # options that name a file which is read
TEMPLATES = (".html",)  # files beside a module that it may read


def _in(windows: tuple[str, ...], *files: str) -> tuple[str, ...]:
    """Return the paths of files in windows, relative to WORK."""
    return tuple(f"windows/{window}/{file}" for window in windows for file in files)


ALL_WINDOWS = (*EARLIER, *WINDOWS)
DATA = "{data}/"  # start of the patterns of files below --data
INPUTS = ("tracks", "catalog_names", "interactions")  # files of any form, or folders of parts
TEXT_IDS = ("user_ids.parquet", "track_ids.parquet")  # where ids are text
LISTENS = (
    "listens.parquet", "users.parquet", "items.parquet", "songs.parquet", "suspicious.parquet",
    "feedback.parquet", "shares.parquet", *TEXT_IDS,
)  # fmt: skip
CHOSEN = (*LISTENS, "settings.json")
PAST = (
    *CHOSEN, "top_popular.parquet", "als_model.npz", "personal_als.parquet", "similar.parquet",
    "new_tracks.parquet", "followers.parquet", "item_weights.parquet",
)  # fmt: skip
LISTS = (*PAST, "next_played.parquet", "recommendations.parquet")

# What each job reads and makes: patterns below --work (or --out), or below --data.
FILES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sample_data": ((), tuple(f"{name}.parquet" for name in INPUTS)),
    "prepare": (
        (
            *(DATA + name + end for name in INPUTS for end in ("", ".*", "/**/*", ".*/**/*")),
            *("state/forgotten.db", "state/forgotten.key"),
        ),
        (*LISTENS, "quarantine.parquet", "forgotten.json", "clock.json", "kinds.json"),
    ),
    "explore": (
        (*LISTENS, "quarantine.parquet", "kinds.json"),
        ("report/explore.html", "report/data.html"),
    ),
    "windows": (LISTENS, _in(ALL_WINDOWS, *LISTENS, "holdout.parquet", "split.json")),
    "tune": (
        (
            *("listens.parquet", "items.parquet", *TEXT_IDS),
            *_in(("train", "validation"), *LISTENS, "holdout.parquet"),
        ),
        ("settings.json", *_in(ALL_WINDOWS, "settings.json")),
    ),
    "top_popular": (CHOSEN, ("top_popular.parquet",)),
    "train_als": ((*CHOSEN, *_in(("test",), "als_model.npz")), ("als_model.npz",)),
    "personal_als": ((*CHOSEN, "als_model.npz"), ("personal_als.parquet", "new_tracks.parquet")),
    "similar": (
        ("users.parquet", "items.parquet", *TEXT_IDS, "als_model.npz", "split.json"),
        ("similar.parquet",),
    ),
    "next_played": (CHOSEN, ("next_played.parquet", "followers.parquet")),
    "item_weights": (LISTENS, ("item_weights.parquet",)),
    "rank": (
        (*PAST, *_in(ALL_WINDOWS, *PAST, "holdout.parquet", "split.json")),
        (
            *("recommendations.parquet", "ranking.json"),
            *("artist_tracks.parquet", "forecast.parquet"),
            *_in(("validation", "test"), "recommendations.parquet"),
        ),
    ),
    "evaluate": (
        (
            *_in(ALL_WINDOWS, *PAST, "holdout.parquet", "split.json"),
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
        (
            *(*LISTS, "metrics.json", "ranking.json", "replay.json", "forgotten.json"),
            *("artist_tracks.parquet", "forecast.parquet"),
            *("report/data.html", "report/evaluation.html", "report/replay.html"),
        ),
        # whichever of them is current
        ("releases/*/*", "releases/*/serving/*", "releases/*/report/*"),
    ),
}


@dataclass(frozen=True)
class Task:
    """A job with its folder: WORK or a window of it, or what sample_data writes into."""

    job: str
    folder: Path
    data: Path  # the folder of the input files, for a job that takes --data
    options: tuple[str, ...]  # those that matter, a value after its option
    argv: tuple[str, ...]  # all arguments, as the script takes them

    @property
    def record(self) -> Path:
        """Return the path of the record of the finished run."""
        return self.folder / DONE / f"{self.job}.json"

    @property
    def takes_data(self) -> bool:
        """Return whether the job reads the user's input files."""
        return any(pattern.startswith(DATA) for pattern in FILES[self.job][0])

    @property
    def has_no_window(self) -> bool:
        """Return whether the job's folder is one of EARLIER that jobs.windows has not made."""
        is_earlier = self.folder.parent.name == "windows" and self.folder.name in EARLIER
        return is_earlier and not (self.folder / SPLIT).exists()

    def reads(self) -> list[Path]:
        """Return the patterns of the files that the job reads."""
        given = zip(self.options, self.options[1:], strict=False)
        named = [Path(value) for option, value in given if option in FILE_OPTIONS]
        return [*map(self._absolute, FILES[self.job][0]), *named]

    def makes(self) -> list[Path]:
        """Return the patterns of the files that the job makes."""
        return [*map(self._absolute, FILES[self.job][1])]

    def _absolute(self, pattern: str) -> Path:
        inside = pattern.removeprefix(DATA)
        return (self.data if inside != pattern else self.folder).absolute() / inside

    def must_follow(self, other: "Task") -> bool:
        """Return whether this job has to wait for another one that is before it in the line.

        That is so if it reads or makes what the other makes, or makes what the other reads.
        """
        return (
            _overlap(self.reads(), other.makes())
            or _overlap(self.makes(), other.makes())
            or _overlap(self.makes(), other.reads())
        )

    @property
    def has_mixed_processors(self) -> bool:
        """Return whether the job's files were made by a mix of processors; see processors.py."""
        return bool(self._done().get("mixed_processors"))

    def _done(self) -> dict[str, Any]:
        """Return the record of the finished run; an empty one if there is none."""
        try:
            done = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return {}
        return done if isinstance(done, dict) else {}

    def what_changed(self) -> str | None:
        """Return why the job has to run: "" if it has never finished; None if it is up to date."""
        done = self._done()
        if not done:
            return ""
        if done.get("options") != list(self.options):
            return "it has other options"
        if done.get("code") != code_hash(self.job):
            return "its code changed"
        for kind, now in (("read", self.state(self.reads())), ("made", self.state(self.makes()))):
            old = done.get(kind, {})
            if changed := sorted(name for name in old | now if old.get(name) != now.get(name)):
                return f"{changed[0]} is new, gone or changed"
        return None

    def state(self, patterns: list[Path]) -> dict[str, list[int]]:
        """Return size, time of change and inode of every file that the patterns name, by path.

        Paths inside the job's folder are relative to it, so that the folder may be moved.
        """
        result = {}
        for pattern in patterns:
            for path in _matching(pattern):
                seen = path.stat()
                inside = path.is_relative_to(self.folder.absolute())
                name = path.relative_to(self.folder.absolute()) if inside else path.resolve()
                result[str(name)] = [seen.st_size, seen.st_mtime_ns, seen.st_ino]
        return result


def _matching(pattern: Path) -> list[Path]:
    """Return the files that an absolute pattern matches; each part of it may have a wildcard."""
    if "*" not in str(pattern):
        return [pattern] if pattern.is_file() else []
    first = next(i for i, part in enumerate(pattern.parts) if "*" in part)
    top, rest = Path(*pattern.parts[:first]), str(Path(*pattern.parts[first:]))
    return [path for path in sorted(top.glob(rest)) if path.is_file()]


def _overlap(patterns: list[Path], others: list[Path]) -> bool:
    """Return whether two lists of patterns may match the same file."""
    left, right = {str(path) for path in patterns}, {str(path) for path in others}
    if left & right:
        return True
    wild = [name for name in left | right if "*" in name]
    return any(fnmatch(name, w) for w in wild for name in (right if w in left else left))


@cache
def code_hash(job: str) -> str:
    """Hash the code of a job: its script, all of the project that it imports, the requirements."""
    files, to_read = set[Path](), {ROOT / "jobs" / f"{job}.py"}
    while to_read:
        path = to_read.pop()
        files.add(path)
        to_read |= imported(path) - files
    templates = {
        other for path in files for other in path.parent.iterdir() if other.suffix in TEMPLATES
    }
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted({*files, *templates, ROOT / "requirements.txt"}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def imported(path: Path) -> set[Path]:
    """Find the project's own files that importing from one of them runs.

    `from jobs.models import popularity` runs jobs/__init__.py, jobs/models/__init__.py and
    jobs/models/popularity.py. An import inside a function counts like one at the top.
    """
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = set()
    for name in names:
        parts = name.split(".")
        files.add(ROOT.joinpath(*parts).with_suffix(".py"))
        files |= {ROOT.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)}
    return {file for file in files if file.is_file()}


def peak_mb() -> int:
    """Return the peak memory of this process in MB."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def write(record: Path, content: dict[str, Any]) -> None:
    """Write a record in one step, so that it is never half written."""
    record.parent.mkdir(exist_ok=True)
    temporary = record.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(record)
