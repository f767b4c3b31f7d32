"""Kill the service in the midst of events, again and again, and look for what was acknowledged.

    python -m loadtest.crash [--times 20] [--seconds 2] [--journal normal]

Starts the service on an empty folder, lets 16 connections put events, and ends it by kill -9 at a
moment of up to --seconds. After the restart each user's events must be those acknowledged, in
order, each once; one more may be there whose answer the kill cut off. Few users fit into memory,
so most of the events are read back from the journal. The exit code is 1 if any is lost or doubled.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path

from loadtest.support.server import Caller, started

CONNECTIONS = 16


EVENTS = 20  # of each user


USERS_IN_MEMORY = 50


Acknowledged = dict[int, list[int]]  # by user, oldest first


class Writer(threading.Thread):
    """Puts events of one user after the other, until there is no answer any more."""

    def __init__(self, port: int, users: "count[int]") -> None:
        super().__init__()
        self._port, self._users = port, users
        self.acknowledged: Acknowledged = {}
        self.unanswered: tuple[int, int] | None = None  # user and item

    def run(self) -> None:
        """Put and take down what was acknowledged."""
        caller = Caller(self._port)
        while True:
            user = next(self._users)
            mine = self.acknowledged[user] = []
            for item in range(EVENTS):
                self.unanswered = user, item
                try:
                    caller.call("POST", "/put_user_event", user_id=user, item_id=item)
                except OSError:
                    return
                mine.append(item)


def write_until_killed(
    process: subprocess.Popen[bytes], port: int, users: "count[int]", seconds: float
) -> list[Writer]:
    """Put events for so many seconds, then kill the service; what came of it, by connection."""
    writers = [Writer(port, users) for _ in range(CONNECTIONS)]
    for writer in writers:
        writer.start()
    time.sleep(seconds)
    process.kill()
    for writer in writers:
        writer.join()
    return writers


def compare(port: int, writers: list[Writer]) -> Counter[str]:
    """Count the events that were acknowledged, and those that the service lost or doubled."""
    caller, found = Caller(port), Counter[str]()
    for writer in writers:
        for user, expected in writer.acknowledged.items():
            answer = caller.call("GET", "/get_user_events", user_id=user, k=100)
            stored = answer["events"][::-1]
            found["acknowledged"] += len(expected)
            found["lost"] += len({*expected}.difference(stored))
            found["doubled"] += len(stored) - len({*stored})
            if writer.unanswered == (user, len(expected)) and stored[-1:] == [len(expected)]:
                found["stored, unanswered"] += 1
                stored.pop()
            found["users out of order"] += stored != expected
    return found


def main() -> int:
    """Kill it so many times; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=20, help="how often it is killed (20)")
    parser.add_argument("--seconds", type=float, default=2.0, help="longest time before (2)")
    parser.add_argument("--journal", default="normal", help="RECO_JOURNAL (normal)")
    options = parser.parse_args()
    settings = {"JOURNAL": options.journal, "MAX_USERS": str(USERS_IN_MEMORY)}
    writers: list[Writer] = []
    users = count()
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.times):
            with started(Path(folder), LOG_LEVEL="WARNING", **settings) as (process, port):
                seconds = random.uniform(0.1, 1) * options.seconds
                new = write_until_killed(process, port, users, seconds)
            with started(Path(folder), LOG_LEVEL="WARNING", **settings) as (_, port):
                print(f"kill {i + 1}: {dict(compare(port, new))}", flush=True)
            writers += new
        with started(Path(folder), LOG_LEVEL="WARNING", **settings) as (_, port):
            found = compare(port, writers)
    print(f"all {options.times}: {dict(found)}")
    wrong = any(found[name] for name in ("lost", "doubled", "users out of order"))
    return int(wrong or not found["acknowledged"])


if __name__ == "__main__":
    sys.exit(main())
