"""Put events of more users than fit into memory, and watch what the service's memory does.

    python -m loadtest.soak [--work data] [--users 20000] [--in-memory 5000]

Starts the service on WORK with a journal in a temporary folder; 16 connections put one event of
each user. Once --in-memory users are there, memory must stay flat, and whoever comes after them
must be counted as an eviction. At last some of all users are asked for: their events must be there.
The exit code is 1 where something of this doesn't hold.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loadtest.support.server import Caller, started

CONNECTIONS = 16


STEPS = 20  # into which the run is divided


SAMPLE = 1000  # users to ask for at the end


ALLOWED = 16  # MiB of growth after the bound is reached: what allocator and caches move,


A_USER = 200  # and bytes of each user in memory: the table of users finds its size only by then


SPACING = 6_700_417  # between user ids, so that they come from everywhere


def memory(process: subprocess.Popen[bytes]) -> float:
    """MiB that the process has for itself."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def put(port: int, users: range) -> None:
    """One event of each user; the item is the user's number."""
    caller = Caller(port)
    for user in users:
        caller.call("POST", "/put_user_event", user_id=user * SPACING, item_id=user)


def put_all(port: int, users: range) -> None:
    """Share the users out to the connections."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda i: put(port, users[i::CONNECTIONS]), range(CONNECTIONS)))


def missing(port: int, users: int) -> int:
    """How many of some users have other events than they should."""
    caller, some = Caller(port), random.sample(range(users), min(SAMPLE, users))
    asked = {u: caller.call("GET", "/get_user_events", user_id=u * SPACING) for u in some}
    return sum(answer != {"events": [user]} for user, answer in asked.items())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("data"), help="folder of a release (data)"
    )
    parser.add_argument("--users", type=int, default=20_000, help="how many users come (20000)")
    parser.add_argument("--in-memory", type=int, default=5000, help="RECO_MAX_USERS (5000)")
    return parser.parse_args()


def main() -> int:
    """Put, measure and look; the exit code."""
    options = arguments()
    bound = options.in_memory
    with tempfile.TemporaryDirectory() as state:
        settings = {"STATE": state, "MAX_USERS": str(bound), "LOG_LEVEL": "WARNING"}
        with started(options.work, **settings) as (process, port):
            at_bound = after = 0.0
            done = 0
            for step in range(1, STEPS + 1):
                upto = options.users * step // STEPS
                put_all(port, range(done, upto))
                done = upto
                ready = Caller(port).call("GET", "/health/ready")
                after = memory(process)
                if done < bound + options.users // STEPS:
                    at_bound = after
                print(
                    f"{done:,} users: {after:.1f} MiB, {ready['users_with_events']:,} in memory, "
                    f"{ready['evicted_users']:,} evicted",
                    flush=True,
                )
            wrong = missing(port, options.users)
        size = sum(path.stat().st_size for path in Path(state).iterdir()) / 2**20
    expected = max(0, options.users - bound)
    print(
        f"after the bound {after - at_bound:+.1f} MiB, {ready['evicted_users']:,} evictions of "
        f"{expected:,} expected, events missing of {wrong:,} users; a journal of {size:.1f} MiB"
    )
    # the filter of users with events lets a few into memory only when they are asked for
    counted = 0.99 * expected <= ready["evicted_users"] <= expected
    flat = after - at_bound <= ALLOWED + bound * A_USER / 2**20
    return int(not (flat and counted) or wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
