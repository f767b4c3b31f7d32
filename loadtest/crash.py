"""Kill the service while events arrive, again and again, and check that no stored event is lost.

    python -m loadtest.crash [--times 20] [--seconds 2] [--journal normal]

Starts the service on an empty folder, puts events over 16 connections, and ends the service by
kill -9 after a random time of up to --seconds. After a restart each user must have exactly the
events that were acknowledged, in order and each once. One more event is allowed if the service was
killed before it could answer. Few users fit into memory, so most events are read from the journal.
The exit code is 1 if an event is lost, duplicated or out of order, or if none was acknowledged.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path

from loadtest.support.http_client import HttpClient
from loadtest.support.server import Server, serving

CONNECTIONS = 16
EVENTS = 20  # of each user
USERS_IN_MEMORY = 50  # RECO_MAX_USERS


class Writer(threading.Thread):
    """Puts EVENTS events of one user, then of the next, until the service no longer answers."""

    def __init__(self, port: int, users: "count[int]") -> None:
        super().__init__()
        self._port, self._users = port, users
        self.acknowledged: dict[int, list[int]] = {}  # items by user, oldest first
        self.unanswered: tuple[int, int] | None = None  # user and item of the last call

    def run(self) -> None:
        """Put events and record those that were acknowledged."""
        client = HttpClient(self._port)
        while True:
            user = next(self._users)
            items = self.acknowledged[user] = []
            for item in range(EVENTS):
                self.unanswered = user, item
                try:
                    client.call("POST", "/put_user_event", user_id=user, item_id=item)
                except OSError:
                    return
                items.append(item)


def write_until_killed(service: Server, users: "count[int]", seconds: float) -> list[Writer]:
    """Put events for some seconds, then kill the service; return the writer of each connection."""
    writers = [Writer(service.port, users) for _ in range(CONNECTIONS)]
    for writer in writers:
        writer.start()
    time.sleep(seconds)
    service.process.kill()
    for writer in writers:
        writer.join()
    return writers


def compare(service: Server, writers: list[Writer]) -> Counter[str]:
    """Count the acknowledged events, and those that the service lost or stored twice."""
    client, counts = HttpClient(service.port), Counter[str]()
    for writer in writers:
        for user, acknowledged in writer.acknowledged.items():
            answer = client.call("GET", "/get_user_events", user_id=user, k=100)
            stored = answer["events"][::-1]
            counts["acknowledged"] += len(acknowledged)
            counts["lost"] += len({*acknowledged}.difference(stored))
            counts["duplicated"] += len(stored) - len({*stored})
            following = len(acknowledged)  # the item that would have come next
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
    options = parser.parse_args()
    settings = {
        "JOURNAL": options.journal,
        "MAX_USERS": str(USERS_IN_MEMORY),
        "LOG_LEVEL": "WARNING",
    }
    writers: list[Writer] = []
    users = count()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for i in range(options.times):
            with serving(work, **settings) as service:
                seconds = random.uniform(0.1, 1) * options.seconds
                new = write_until_killed(service, users, seconds)
            with serving(work, **settings) as service:
                print(f"kill {i + 1}: {summary(compare(service, new))}", flush=True)
            writers += new
        with serving(work, **settings) as service:
            counts = compare(service, writers)
    print(f"after {options.times} kills: {summary(counts)}")
    failed = any(counts[name] for name in ("lost", "duplicated", "users out of order"))
    return int(failed or not counts["acknowledged"])


def summary(counts: Counter[str]) -> str:
    """Return the counts in one line."""
    return ", ".join(f"{n:,} {name}" for name, n in counts.items())


if __name__ == "__main__":
    sys.exit(main())
