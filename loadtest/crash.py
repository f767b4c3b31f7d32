"""Kill the service while events arrive, again and again, and check that no stored event is lost.

    python -m loadtest.crash [--times 20] [--seconds 2] [--journal normal] [--text-ids]

Starts the service on an empty folder, puts events over 16 connections, and ends the service by
kill -9 after a random time of up to --seconds. After a restart each user must have exactly the
events that were acknowledged, in order and each once. One more event is allowed if the service was
killed before it could answer. Few users fit into memory, so most events are read from the journal.
Then some of the users are forgotten, and the service is killed again: they must stay forgotten.
With --text-ids the service has a release whose ids are UUIDs, and events are of users and tracks of
that release as well as of others, whose ids are words of several scripts. The exit code is 1 if an
event is lost, duplicated, out of order or of a forgotten user, or if none was acknowledged.
"""

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import NamedTuple

from loadtest.support import sample_releases, script
from loadtest.support.expectations import Id
from loadtest.support.http_client import HttpClient
from loadtest.support.server import Server, running, variables

CONNECTIONS = 16
EVENTS = 20  # of each user
USERS_IN_MEMORY = 50  # RECO_MAX_USERS
SIZES = ("--users", "400", "--tracks", "200")  # of the release with text ids


class Ids(NamedTuple):
    """The ids of the test: of the nth user, and of the nth event of each user."""

    user: Callable[[int], Id]
    item: Callable[[int], Id]


NUMBERS = Ids(lambda n: n, lambda n: n)


def texts(release: Path) -> Ids:
    """Return ids of which every second one, as far as they go, is of a release with text ids."""
    users, tracks = (sample_releases.text_ids(release, name) for name in ("user", "track"))

    def of(known: list[Id], word: str, n: int) -> Id:
        return known[n // 2] if n % 2 == 0 and n // 2 < len(known) else f"{word} {n} & Co/é"

    return Ids(lambda n: of(users, "Слушатель", n), lambda n: of(tracks, "曲", n))


class Writer(threading.Thread):
    """Puts EVENTS events of one user, then of the next, until the service no longer answers."""

    def __init__(self, port: int, users: "count[int]", ids: Ids) -> None:
        super().__init__()
        self._port, self._users, self.ids = port, users, ids
        self.acknowledged: dict[Id, list[Id]] = {}  # items by user, oldest first
        self.unanswered: tuple[Id, Id] | None = None  # user and item of the last call
        self.forgotten: set[Id] = set()

    def run(self) -> None:
        """Put events and record those that were acknowledged."""
        client = HttpClient(self._port)
        while True:
            user = self.ids.user(next(self._users))
            items = self.acknowledged[user] = []
            for item in map(self.ids.item, range(EVENTS)):
                self.unanswered = user, item
                try:
                    client.call("POST", "/put_user_event", user_id=user, item_id=item)
                except OSError:
                    return
                items.append(item)


def write_until_killed(
    service: Server, users: "count[int]", ids: Ids, seconds: float
) -> list[Writer]:
    """Put events for some seconds, then kill the service; return the writer of each connection.

    On a busy machine it takes longer: each writer has begun with a second user by then, since the
    first one will be forgotten.
    """
    writers = [Writer(service.port, users, ids) for _ in range(CONNECTIONS)]
    for writer in writers:
        writer.start()
    time.sleep(seconds)
    while any(writer.is_alive() and len(writer.acknowledged) < 2 for writer in writers):
        time.sleep(0.01)
    service.process.kill()
    for writer in writers:
        writer.join()
    return writers


def forget(service: Server, writers: list[Writer]) -> None:
    """Forget the first user of each writer, and kill the service."""
    client = HttpClient(service.port)
    for writer in writers:
        user = next(iter(writer.acknowledged))
        client.call("POST", "/forget_user", user_id=user)
        writer.forgotten.add(user)
    service.process.kill()


def compare(service: Server, writers: list[Writer]) -> Counter[str]:
    """Count the acknowledged events, and those that the service lost or stored twice."""
    client, counts = HttpClient(service.port), Counter[str]()
    for writer in writers:
        for user, acknowledged in writer.acknowledged.items():
            answer = client.call("GET", "/get_user_events", user_id=user, k=100)
            stored = answer["events"][::-1]
            if user in writer.forgotten:
                counts["forgotten"] += len(acknowledged)
                counts["back"] += len(stored)
                continue
            counts["acknowledged"] += len(acknowledged)
            counts["lost"] += len({*acknowledged}.difference(stored))
            counts["duplicated"] += len(stored) - len({*stored})
            following = writer.ids.item(len(acknowledged))  # what would have come next
            if writer.unanswered == (user, following) and stored[-1:] == [following]:
                counts["stored but not acknowledged"] += 1
                stored.pop()
            counts["users out of order"] += stored != acknowledged
    return counts


def main() -> int:
    """Kill the service repeatedly; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=20, help="number of kills (20)")
    parser.add_argument("--seconds", type=float, default=2.0, help="at most, before each kill (2)")
    parser.add_argument("--journal", default="normal", help="RECO_JOURNAL (normal)")
    parser.add_argument("--text-ids", action="store_true", help="ids of users and tracks are text")
    options = parser.parse_args()
    settings = {
        "JOURNAL": options.journal,
        "MAX_USERS": str(USERS_IN_MEMORY),
        "LOG_LEVEL": "WARNING",
    }
    writers: list[Writer] = []
    users, ids, answers = count(), NUMBERS, "/health/live"
    with tempfile.TemporaryDirectory() as folder:
        if options.text_ids:  # which the service takes from the time on that it has a release
            sample_releases.make(Path(folder), "--text-ids", *SIZES)
            ids, answers = texts(Path(folder, "current")), "/health/ready"

        def serving() -> AbstractContextManager[Server]:
            return running(variables(WORK=folder, **settings), answers=answers)

        for i in range(options.times):
            with serving() as service:
                seconds = random.uniform(0.1, 1) * options.seconds
                new = write_until_killed(service, users, ids, seconds)
            with serving() as service:
                print(f"kill {i + 1}: {summary(compare(service, new))}", flush=True)
                forget(service, new)
            writers += new
        with serving() as service:
            counts = compare(service, writers)
    print(f"after {options.times} kills: {summary(counts)}")
    failed = any(counts[name] for name in ("lost", "duplicated", "users out of order", "back"))
    return int(failed or not counts["acknowledged"])


def summary(counts: Counter[str]) -> str:
    """Return the counts in one line."""
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


if __name__ == "__main__":
    script.run(main)
