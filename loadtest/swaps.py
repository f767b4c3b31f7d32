"""Swap releases under load, broken ones among them, and check each answer meanwhile.

    python -m loadtest.swaps [--swaps 50] [--rate 200] [--users 20000] [--tracks 10000]

Makes two releases of random lists whose track ids tell them apart, and copies of one that are each
broken in another way. Two of five swaps are to a broken one, which must be refused with 409. Every
answer must be 200, hold the tracks of one release only, and name that in X-Release. Latency counts
from when a request was due, before the swaps and during them. The exit code is 1 if anything was
wrong, or if the swaps lift p99 by more than --factor. `--users 1373221 --tracks 1000000` is a full
size.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq

from loadtest.support.server import ROOT, started

FIRST = {"one": 26, "two": 27}  # the first track id; the others are whole hundreds above it


CONNECTIONS = 8


LISTENERS = range(0, 40)  # users with events


NEW_IDS = 2**40


SEED = 20


def truncate(folder: Path) -> None:
    """Half of an array."""
    path = folder / "serving/history_items.npy"
    replace(path, path.read_bytes()[: path.stat().st_size // 2])


def flip(folder: Path) -> None:
    """An array with another bit."""
    path = folder / "serving/similar_items.npy"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    replace(path, bytes(content))


def lose(folder: Path) -> None:
    """An array less."""
    (folder / "serving/user_ids.npy").unlink()


def rename_columns(folder: Path) -> None:
    """A table with other columns."""
    table = pq.read_table(folder / "similar.parquet")
    (folder / "similar.parquet").unlink()
    names = [f"{name}_" for name in table.column_names]
    pq.write_table(table.rename_columns(names), folder / "similar.parquet")


def exchange(folder: Path) -> None:
    """The manifest of another release."""
    shutil.copy(folder.parent / "two/manifest.json", folder / "manifest.json")


BROKEN: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "flipped": flip,
    "missing": lose,
    "schema": rename_columns,
    "foreign": exchange,
}


def replace(path: Path, content: bytes) -> None:
    """Another file in the place of one that other releases share."""
    path.unlink()
    path.write_bytes(content)


def make_releases(work: Path, users: int, tracks: int) -> None:
    """The releases of FIRST, and a broken one of each kind."""
    for name, first in FIRST.items():
        sizes = ["--users", str(users), "--tracks", str(tracks)]
        named = ["--name", name, "--first", str(first)]
        job = [sys.executable, "-m", "jobs.sample_release", "--work", str(work), *sizes, *named]
        subprocess.run(job, cwd=ROOT, check=True)
    for name, damage in BROKEN.items():
        folder = work / "releases" / name
        shutil.copytree(work / "releases/one", folder, copy_function=os.link)
        manifest = json.loads((folder / "manifest.json").read_text())
        replace(folder / "manifest.json", json.dumps(manifest | {"id": name}).encode())
        damage(folder)


class Reader(threading.Thread):
    """Asks so many times a second, on one connection, until it is told to stop."""

    def __init__(self, port: int, number: int, rate: float, users: int) -> None:
        super().__init__(daemon=True)
        self._port, self._rate, self._users = port, rate, users
        self._random = random.Random(number)
        self.stopped = threading.Event()
        self.seen: list[tuple[float, float]] = []  # when it was due, and the seconds it took
        self.found: Counter[str] = Counter()
        self.first_wrong = ""

    def run(self) -> None:
        """Ask, and check."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        start = time.perf_counter()
        for i in count():
            due = start + i / self._rate
            time.sleep(max(0.0, due - time.perf_counter()))
            if self.stopped.is_set():
                return
            wrong = self.ask(connection)
            self.seen.append((due, time.perf_counter() - due))
            self.found["asked"] += 1
            if wrong:
                kind, _, what = wrong.partition(": ")
                self.found[kind] += 1
                self.first_wrong = self.first_wrong or what
                connection.close()

    def ask(self, connection: HTTPConnection) -> str:
        """What is wrong with an answer: "failed: ..." or "mixed: ..."; or nothing."""
        method, path, body = self.call()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                return f"failed: {path}: {answer.status} {text[:200]!r}"
            release = answer.headers["X-Release"]
            marks = {track % 100 for track in tracks_of(json.loads(text)["recs"])}
        except Exception as error:
            return f"failed: {path}: {error!r}"
        if release in FIRST and marks <= {FIRST[release]} and (marks or "u2i" in path):
            return ""
        return f"mixed: {path}: tracks of {marks}, from release {release}"

    def call(self) -> tuple[str, str, str | None]:
        """Method, path and body of the next request."""
        user = self._random.randrange(self._users)
        kinds: list[tuple[str, str, str | None]] = [
            ("GET", f"/recommendations?user_id={user}&k=100", None),
            ("GET", f"/recommendations?user_id={self._random.choice(LISTENERS)}&k=100", None),
            ("GET", f"/recommendations?user_id={NEW_IDS + user}&k=100", None),
            ("GET", f"/get_online_u2i?user_id={self._random.choice(LISTENERS)}&k=10&N=10", None),
            ("POST", "/recommendations/batch", json.dumps({"user_ids": [*range(30)], "k": 20})),
        ]
        return self._random.choices(kinds, [5, 3, 2, 2, 1])[0]


def tracks_of(recs: list[Any]) -> list[int]:
    """All the tracks of an answer, of a batch as well."""
    return [track for part in recs for track in (part if isinstance(part, list) else [part])]


@contextmanager
def readers(port: int, rate: float, users: int) -> Iterator[list[Reader]]:
    """Readers that ask until the block ends."""
    all_of_them = [Reader(port, i, rate / CONNECTIONS, users) for i in range(CONNECTIONS)]
    for reader in all_of_them:
        reader.start()
    yield all_of_them
    for reader in all_of_them:
        reader.stopped.set()
    for reader in all_of_them:
        reader.join()


def order(swaps: int) -> list[str]:
    """The releases to swap to: three of five good ones, in turn, the others broken in turn."""
    names, broken = [], [*BROKEN]
    for i in range(swaps):
        good = i % 5 in (0, 2, 4)
        names.append(list(FIRST)[(i // 2 + i) % 2] if good else broken[i // 2 % len(broken)])
    return names


def swap(port: int, name: str) -> tuple[bool, float]:
    """Whether the service took or refused a release as it should, and the seconds it took."""
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    start = time.perf_counter()
    connection.request("POST", f"/load_recommendations?release={quote(name)}")
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    taken = answer.status == 200 and content["release"] == name
    refused = answer.status == 409 and name in content["detail"]
    return taken if name in FIRST else refused, time.perf_counter() - start


def put_events(port: int) -> None:
    """Three events of each listener, of tracks of both releases."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for user in LISTENERS:
        for item in (26 + 100 * user, 27 + 100 * user, 26 + 100 * (user + 1)):
            connection.request("POST", f"/put_user_event?user_id={user}&item_id={item}")
            connection.getresponse().read()
    connection.close()


def p99(seen: list[float]) -> float:
    """The 99th percentile in milliseconds."""
    return 1000 * quantiles(seen, n=100)[98]


def main() -> int:
    """Swap so many times; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--rate", type=float, default=200, help="requests a second (200)")
    parser.add_argument("--seconds", type=float, default=10, help="of load before the first (10)")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two (0.1)")
    parser.add_argument("--users", type=int, default=20_000, help="of a release")
    parser.add_argument("--tracks", type=int, default=10_000, help="of a release")
    parser.add_argument("--factor", type=float, help="the most by which p99 may rise")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_releases(Path(folder), args.users, args.tracks)
        with started(Path(folder), LOG_LEVEL="ERROR") as (_, port):
            put_events(port)
            with readers(port, args.rate, args.users) as asking:
                time.sleep(args.seconds)
                start = time.perf_counter()
                swaps = []
                for name in order(args.swaps):
                    swaps.append((name, *swap(port, name)))
                    time.sleep(args.pause)
    return report(asking, swaps, start, args.factor)


def report(
    asking: list[Reader], swaps: list[tuple[str, bool, float]], start: float, factor: float | None
) -> int:
    """Print what came of it; the exit code."""
    found = sum((reader.found for reader in asking), Counter())
    seen = [pair for reader in asking for pair in reader.seen]
    before = p99([seconds for due, seconds in seen if due < start])
    during = p99([seconds for due, seconds in seen if due >= start])
    wrong = [name for name, right, _ in swaps if not right]
    broken = sum(name in BROKEN for name, _, _ in swaps)
    took = sorted(seconds for name, _, seconds in swaps if name in FIRST)
    print(
        f"{len(swaps)} swaps, {broken} of them to broken releases: {len(wrong)} not as they should"
        f"\nan accepted one took {took[len(took) // 2]:.3f} s, at most {took[-1]:.3f} s"
        f"\n{found['asked']:,} answers: {found['failed']} failed, {found['mixed']} mixed"
        f"\np99 {before:.1f} ms before, {during:.1f} ms during: times {during / before:.2f}"
    )
    for reader in asking:
        if reader.first_wrong:
            print(f"wrong: {reader.first_wrong}")
    too_slow = factor is not None and during > factor * before
    return int(bool(wrong or found["failed"] or found["mixed"] or too_slow))


if __name__ == "__main__":
    sys.exit(main())
