"""Estimate the memory that a job needs, so that it stops at its start if there is too little.

The estimate depends on the number of rows of the input files (see NEEDS), which is itself an
estimate where these are text. Results do not depend on
the limit: with less memory, a job works on fewer blocks at a time.
"""

import argparse
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.contract import tables
from jobs.contract.storage import JobError
from jobs.inputs import sizes as input_sizes
from jobs.inputs.files import INTERACTIONS, TRACKS

GROUPS = Path("/sys/fs/cgroup")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
MB = 1 << 20
REPORT_ABOVE_BYTES = 4e9  # a job that needs more bytes prints its estimate
MOST_DRAWN = 12_000  # users in a sample that a job learns from
MOST_PAIRED = 10_000  # tracks that jobs.item_weights compares with each other


@dataclass(frozen=True)
class Need:
    """Memory of a job: fixed MB, MB a thread, and bytes a listen, user and track.

    `drawn` are bytes for each user of the sample of users that some jobs learn from, and `pair`
    bytes for each pair of tracks that a job compares with each other.
    """

    base: int
    thread: int = 0
    listen: float = 0
    user: float = 0
    track: float = 0
    drawn: float = 0
    pair: float = 0

    def bytes(self, listens: int, users: int, tracks: int, threads: int) -> int:
        """Return the bytes for these numbers of rows and threads."""
        rows = self.listen * listens + self.user * users + self.track * tracks
        rows += self.drawn * min(users, MOST_DRAWN) + self.pair * min(tracks, MOST_PAIRED) ** 2
        return (self.base + self.thread * threads) * MB + int(rows)


# Measured with jobs.benchmark and rounded up. Jobs that are not here always need little.
NEEDS = {
    "prepare": Need(base=1000, listen=28),
    "explore": Need(base=370, listen=4, user=200, track=400),
    "windows": Need(base=1100, listen=16),
    "tune": Need(base=700, listen=5, user=100, track=1500, drawn=40_000),
    "top_popular": Need(base=850, listen=14, track=100),
    "train_als": Need(base=700, listen=28, user=1100, track=2200),
    "personal_als": Need(base=650, thread=120, listen=5, user=700, track=2000),
    "similar": Need(base=350, thread=50, user=600, track=2500),
    "next_played": Need(base=800, thread=250, listen=27, track=100),
    "item_weights": Need(base=500, listen=8, track=100, pair=10),
    "rank": Need(base=600, thread=320, listen=8, user=1500, track=2600, drawn=150_000),
    "evaluate": Need(base=800, thread=250, listen=5, user=500, track=2600, drawn=90_000),
    "replay": Need(base=1000, listen=12, user=500, track=3000, drawn=50_000),
    "publish": Need(base=550, listen=6, user=500, track=1500),
}
OF_A_SHARE = 9  # bytes a listen, where it is known of which kind rows are and how much was played
PREPARE_WITH_TEXT_IDS = Need(base=1100, listen=36, track=500)
IN_FILES = 22  # of the bytes a listen of prepare, where it keeps the rows in files


def of_prepare(text: bool = False, shares: bool = False, in_files: bool = False) -> Need:
    """Return what prepare needs.

    `text` says whether ids are text, `shares` whether the input tells of which kind rows are or how
    much was played, and `in_files` whether the rows are kept in files.
    """
    need = PREPARE_WITH_TEXT_IDS if text else NEEDS["prepare"]
    if in_files:
        return replace(need, listen=need.listen - IN_FILES)
    return _with_shares(need) if shares else need


def _with_shares(need: Need) -> Need:
    return replace(need, listen=need.listen + OF_A_SHARE)


def compared(need: Need, options: argparse.Namespace) -> tuple[int, int]:
    """Return the bytes that a job needs with one thread, and its limit; see `check`."""
    limit = options.memory_limit or available()
    return need.bytes(*_counts(options), threads=1), limit


def _counts(options: argparse.Namespace) -> tuple[int, int, int]:
    return sizes(options.work, getattr(options, "data", None), getattr(options, "events", None))


def check(job: str, options: argparse.Namespace, need: Need | None = None) -> int:
    """Return how many threads the job may use within its memory limit.

    options has work, memory_limit (bytes, or None for what is available), and for jobs.prepare data
    and events; `need` is for that job. Raises JobError if not even one thread fits. Prints the
    estimate above 4 GB.
    """
    threads = os.cpu_count() or 1
    if need is None:
        need = NEEDS.get(job)
        if need is None:
            return threads
        if (options.work / tables.SHARES.file).exists():
            need = _with_shares(need)
    least, limit = compared(need, options)
    if least > limit:
        listens, users, tracks = _counts(options)
        given = "are available" if options.memory_limit is None else "is the --memory-limit"
        raise JobError(
            f"the job needs about {least / 1e9:.1f} GB of memory for {listens:,} listens of "
            f"{users:,} users and {tracks:,} tracks, and {limit / 1e9:.1f} GB {given}: run it "
            "with more memory (see --memory-limit), or with fewer listens"
        )
    if least > REPORT_ABOVE_BYTES:
        print(f"{job}: needs {least / 1e9:.1f} GB of memory of {limit / 1e9:.1f} GB", flush=True)
    if need.thread:
        threads = min(threads, 1 + (limit - least) // (need.thread * MB))
    return threads


def needed(job: str, work: Path, data: Path | None = None) -> int:
    """Return the bytes that a job needs with all threads; 0 for one that needs little."""
    need = NEEDS.get(job)
    return need.bytes(*sizes(work, data), threads=os.cpu_count() or 1) if need else 0


def sizes(work: Path, data: Path | None, events: Path | None = None) -> tuple[int, int, int]:
    """Return the numbers of listens, users and tracks; for input files in `data`, users are 0."""
    if data is not None:
        of_events = input_sizes.rows_of_file(events) if events else 0
        listens = input_sizes.rows_in(data, INTERACTIONS) + of_events
        return listens, 0, input_sizes.rows_in(data, TRACKS)
    listens, users, tracks = (
        rows(work / table.file) for table in (tables.LISTENS, tables.USERS, tables.ITEMS)
    )
    return listens, users, tracks


def rows(path: Path) -> int:
    """Return the rows of a parquet file; 0 if it can't be read (the job itself reports that)."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 0


def size(text: str) -> int:
    """Return the bytes of a size on the command line: 8G, 800M, 1.5G, or a number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    found = float(match[1]) * UNITS[match[2].upper()] if match else 0
    if not 1 <= found < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: expected one as 8G or 800M")
    return int(found)


def available() -> int:
    """Return the free bytes: the least of the machine and of each control group of this process."""
    return min([_free_of_machine(), *_free_of_groups()])


def _free_of_machine() -> int:
    try:
        line = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        line = None
    if line is None:  # not on Linux: all memory of the machine
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(line[1]) * 1024


def _free_of_groups(root: Path = GROUPS, own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Yield the free bytes of this process's control group (v1 or v2) and of those above it."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, used = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, used = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top):
                yield from _left(folder, limit, used)


def _left(folder: Path, limit: str, used: str) -> Iterator[int]:
    """Yield the group's limit minus its use, cached files being free; nothing without a limit."""
    try:
        most, taken = (int((folder / name).read_text()) for name in (limit, used))
        stat = (folder / "memory.stat").read_text()
    except (OSError, ValueError):  # no such group, or "max"
        return
    cached = re.search(r"^(?:total_)?inactive_file (\d+)$", stat, re.MULTILINE)
    yield most - taken + (int(cached[1]) if cached else 0)
