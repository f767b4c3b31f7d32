"""Switch between good and broken releases under load, and check every answer.

    python -m loadtest.swaps [--swaps 50] [--rate 200] [--users 20000] [--tracks 10000] [--text-ids]

Makes two releases of random lists with different track ids, copies of one that are broken in
different ways, and one whose ids are of the other kind. Two of five swaps are to a broken release
or to that one, which the service must refuse with status 409, since it has events. Every answer
must have status 200, hold tracks of a single release, and name that release in X-Release. After
each of the first swaps a user is forgotten; at the end those users must have no events, and all
others theirs. Latency is counted from when a request was due, before the swaps and during them. The
exit code is 1 if an answer, events or the outcome of a swap are wrong, or if p99 during the swaps
is more than --factor times p99 before. With --text-ids, ids are UUIDs. The size of a real service
is `--users 1373221 --tracks 1000000`.
"""

import argparse
import json
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count, cycle
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple
from urllib.parse import quote

import pyarrow.parquet as pq

from loadtest.support import sample_releases, script
from loadtest.support.expectations import Id
from loadtest.support.http_client import HttpClient
from loadtest.support.server import serving

# The lowest track id of each release; the others are multiples of 100 above it.
FIRST_TRACK = {"one": 26, "two": 27}
CONNECTIONS = 8
USERS_WITH_EVENTS = 40
USERS_TO_FORGET = 20  # the next ones, who have events too
NEW_IDS = 2**40  # no release has a user from this id on
OTHER_KIND = "other-kind"  # the release whose ids are text where the others' are whole numbers


class Request(NamedTuple):
    """A request to send."""

    method: str
    path: str
    body: str | None = None


class Ids(NamedTuple):
    """The ids of the releases: of the users, and of the tracks by release."""

    users: list[Id]
    tracks: dict[str, list[Id]]

    def new_user(self, n: int) -> Id:
        """Return a user whom no release has."""
        return f"new listener {n}" if isinstance(self.users[0], str) else NEW_IDS + n


class Swap(NamedTuple):
    """The outcome of a swap."""

    release: str
    correct: bool  # whether a good release was accepted, or a broken one refused
    seconds: float


def truncate(folder: Path) -> None:
    """Cut an array to half of its bytes."""
    path = folder / "serving/history_items.npy"
    replace(path, path.read_bytes()[: path.stat().st_size // 2])


def flip_bit(folder: Path) -> None:
    """Change a bit of an array."""
    path = folder / "serving/similar_items.npy"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    replace(path, bytes(content))


def remove_array(folder: Path) -> None:
    """Remove an array."""
    (folder / "serving/user_ids.npy").unlink()


def rename_columns(folder: Path) -> None:
    """Rename the columns of a table."""
    table = pq.read_table(folder / "similar.parquet")
    (folder / "similar.parquet").unlink()
    names = [f"{name}_" for name in table.column_names]
    pq.write_table(table.rename_columns(names), folder / "similar.parquet")


def exchange_manifest(folder: Path) -> None:
    """Replace the manifest by that of another release."""
    shutil.copy(folder.parent / "two/manifest.json", folder / "manifest.json")


BROKEN: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "flipped": flip_bit,
    "missing": remove_array,
    "schema": rename_columns,
    "foreign": exchange_manifest,
}


def replace(path: Path, content: bytes) -> None:
    """Write a new file in place of a hard link that other releases share."""
    path.unlink()
    path.write_bytes(content)


def make_releases(work: Path, users: int, tracks: int, text: bool) -> Ids:
    """Make the releases of FIRST_TRACK and of OTHER_KIND, and a copy for each kind of damage."""
    sizes = ["--users", str(users), "--tracks", str(tracks)]
    kind, other = (["--text-ids"], []) if text else ([], ["--text-ids"])
    sample_releases.make(work, "--users", "9", "--tracks", "9", "--name", OTHER_KIND, *other)
    for name, first in FIRST_TRACK.items():
        sample_releases.make(work, *sizes, "--name", name, "--first", str(first), *kind)
    for name, damage in BROKEN.items():
        folder = work / "releases" / name
        shutil.copytree(work / "releases/one", folder, copy_function=os.link)
        manifest = json.loads((folder / "manifest.json").read_text())
        replace(folder / "manifest.json", json.dumps(manifest | {"id": name}).encode())
        damage(folder)
    if text:
        folders = {name: work / "releases" / name for name in FIRST_TRACK}
        tracks_of = {name: sample_releases.text_ids(folders[name], "track") for name in folders}
        return Ids(sample_releases.text_ids(folders["one"], "user"), tracks_of)
    numbers = {name: [*range(first, 100 * tracks, 100)] for name, first in FIRST_TRACK.items()}
    return Ids([*range(users)], {**numbers})


class Reader(threading.Thread):
    """Sends requests at a fixed rate over one connection until it is stopped."""

    def __init__(self, port: int, number: int, rate: float, ids: Ids) -> None:
        super().__init__(daemon=True)
        self._port, self._rate, self._ids = port, rate, ids
        self._random = random.Random(number)
        self.stopped = threading.Event()
        self.latencies: list[tuple[float, float]] = []  # when each request was due, and seconds
        self.counts: Counter[str] = Counter()  # of "answers", "failed" and "mixed"
        self.first_error = ""

    def run(self) -> None:
        """Send requests and check the answers until `stopped` is set."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        start = time.perf_counter()
        for i in count():
            due = start + i / self._rate
            time.sleep(max(0.0, due - time.perf_counter()))
            if self.stopped.is_set():
                return
            kind, error = self.send(connection)
            self.latencies.append((due, time.perf_counter() - due))
            self.counts["answers"] += 1
            if kind:
                self.counts[kind] += 1
                self.first_error = self.first_error or error
                connection.close()

    def send(self, connection: HTTPConnection) -> tuple[str, str]:
        """Send a request; return "failed" or "mixed" and why, or "" twice for a right answer."""
        request = self.next_request()
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(request.method, request.path, request.body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                return "failed", f"{request.path}: {answer.status} {text[:200]!r}"
            release = answer.headers["X-Release"]
            remainders = {int(str(track)[-2:]) for track in flatten(json.loads(text)["recs"])}
        except Exception as error:
            return "failed", f"{request.path}: {error!r}"
        may_be_empty = "u2i" in request.path
        if (
            release in FIRST_TRACK
            and remainders <= {FIRST_TRACK[release]}
            and (remainders or may_be_empty)
        ):
            return "", ""
        return "mixed", f"{request.path}: tracks of {remainders}, from release {release}"

    def next_request(self) -> Request:
        """Draw the next request."""
        users = self._ids.users
        user = self._random.choice(users)
        new = quote(str(self._ids.new_user(self._random.randrange(len(users)))))
        active = [self._random.choice(users[:USERS_WITH_EVENTS]) for _ in range(2)]
        batch = json.dumps({"user_ids": users[:30], "k": 20})
        requests = {
            Request("GET", f"/recommendations?user_id={user}&k=100"): 5,
            Request("GET", f"/recommendations?user_id={active[0]}&k=100"): 3,
            Request("GET", f"/recommendations?user_id={new}&k=100"): 2,
            Request("GET", f"/get_online_u2i?user_id={active[1]}&k=10&N=10"): 2,
            Request("POST", "/recommendations/batch", batch): 1,
        }
        return self._random.choices([*requests], [*requests.values()])[0]


def flatten(recs: list[Any]) -> list[Id]:
    """Return the tracks of an answer, or of all lists of a batch."""
    return [track for part in recs for track in (part if isinstance(part, list) else [part])]


@contextmanager
def reading(port: int, rate: float, ids: Ids) -> Iterator[list[Reader]]:
    """Send `rate` requests a second, shared by all readers, until the block ends."""
    readers = [Reader(port, i, rate / CONNECTIONS, ids) for i in range(CONNECTIONS)]
    for reader in readers:
        reader.start()
    yield readers
    for reader in readers:
        reader.stopped.set()
    for reader in readers:
        reader.join()


def order_of(swaps: int) -> list[str]:
    """Return the releases to swap to: three of five are good, the others are to be refused."""
    refused = cycle([OTHER_KIND, *BROKEN])
    names = [*FIRST_TRACK]
    good = (0, 2, 4)
    return [names[(i // 2 + i) % 2] if i % 5 in good else next(refused) for i in range(swaps)]


def swap(port: int, release: str) -> Swap:
    """Ask the service to load a release; return the outcome."""
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    start = time.perf_counter()
    connection.request("POST", f"/load_recommendations?release={quote(release)}")
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    accepted = answer.status == 200 and content["release"] == release
    refused = answer.status == 409 and release in content["detail"]
    correct = accepted if release in FIRST_TRACK else refused
    return Swap(release, correct, time.perf_counter() - start)


def put_events(port: int, ids: Ids) -> dict[Id, list[Id]]:
    """Put three events of each user who is to have any, with tracks of both releases.

    Returns the tracks by user, newest first.
    """
    client = HttpClient(port)
    one, two = ids.tracks.values()
    events: dict[Id, list[Id]] = {}
    for i, user in enumerate(ids.users[: USERS_WITH_EVENTS + USERS_TO_FORGET]):
        items = [one[i], two[i], one[i + 1]]
        for item in items:
            client.call("POST", "/put_user_event", user_id=user, item_id=item)
        events[user] = items[::-1]
    return events


def wrong_events(port: int, events: dict[Id, list[Id]], forgotten: set[Id]) -> int:
    """Return how many users have other events than they put; forgotten ones must have none."""
    client, wrong = HttpClient(port), 0
    for user, items in events.items():
        found = client.call("GET", "/get_user_events", user_id=user)["events"]
        wrong += found != ([] if user in forgotten else items)
    return wrong


def p99(seconds: list[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    return 1000 * quantiles(seconds, n=100)[98]


def main() -> int:
    """Swap releases under load; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swaps", type=int, default=50, help="number of swaps (50)")
    parser.add_argument("--rate", type=float, default=200, help="requests a second (200)")
    parser.add_argument(
        "--seconds", type=float, default=10, help="of load before the first swap (10)"
    )
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between swaps (0.1)")
    parser.add_argument("--users", type=int, default=20_000, help="users of a release (20000)")
    parser.add_argument("--tracks", type=int, default=10_000, help="tracks of a release (10000)")
    parser.add_argument("--factor", type=float, help="largest p99, as a multiple of p99 before")
    parser.add_argument("--text-ids", action="store_true", help="ids of users and tracks are text")
    args = parser.parse_args()
    least = USERS_WITH_EVENTS + USERS_TO_FORGET + 1
    if min(args.users, args.tracks) < least:
        parser.error(f"--users and --tracks must be at least {least}")
    with tempfile.TemporaryDirectory() as folder:
        ids = make_releases(Path(folder), args.users, args.tracks, args.text_ids)
        with serving(Path(folder), LOG_LEVEL="ERROR") as service:
            events = put_events(service.port, ids)
            to_forget, forgotten = ids.users[USERS_WITH_EVENTS:][:USERS_TO_FORGET], set()
            client = HttpClient(service.port)
            with reading(service.port, args.rate, ids) as readers:
                time.sleep(args.seconds)
                start = time.perf_counter()
                swaps = []
                for i, release in enumerate(order_of(args.swaps)):
                    swaps.append(swap(service.port, release))
                    for user in to_forget[i : i + 1]:
                        client.call("POST", "/forget_user", user_id=user)
                        forgotten.add(user)
                    time.sleep(args.pause)
            wrong = wrong_events(service.port, events, forgotten)
    print(f"{len(forgotten)} users forgotten between swaps; {wrong} users with wrong events")
    return max(report(readers, swaps, start, args.factor), int(wrong > 0))


def report(readers: list[Reader], swaps: list[Swap], start: float, factor: float | None) -> int:
    """Print the outcome; return the exit code. `start` is the time of the first swap."""
    counts = sum((reader.counts for reader in readers), Counter())
    latencies = [pair for reader in readers for pair in reader.latencies]
    before = p99([seconds for due, seconds in latencies if due < start])
    during = p99([seconds for due, seconds in latencies if due >= start])
    wrong = sum(not each.correct for each in swaps)
    broken = sum(each.release not in FIRST_TRACK for each in swaps)
    accepted = sorted(each.seconds for each in swaps if each.release in FIRST_TRACK)
    print(
        f"{len(swaps)} swaps, {broken} of them to broken releases or to one of another kind: "
        f"{wrong} had the wrong outcome"
        f"\nan accepted swap took {accepted[len(accepted) // 2]:.3f} s (median), "
        f"at most {accepted[-1]:.3f} s"
        f"\n{counts['answers']:,} answers: {counts['failed']} failed, "
        f"{counts['mixed']} mixed releases"
        f"\np99 {before:.1f} ms before the swaps, {during:.1f} ms during them: "
        f"{during / before:.2f} times"
    )
    for reader in readers:
        if reader.first_error:
            print(f"wrong answer: {reader.first_error}")
    too_slow = factor is not None and during > factor * before
    return int(bool(wrong or counts["failed"] or counts["mixed"] or too_slow))


if __name__ == "__main__":
    script.run(main)
