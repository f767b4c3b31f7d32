"""Put events of more users than fit into memory, and check that memory stays bounded.

    python -m loadtest.soak [--work data] [--users 20000] [--in-memory 5000]

Starts the service on WORK with a journal in a temporary folder; 16 connections put one event of
each user. Once --in-memory users are in memory, memory must stop growing, and each further user
must be counted as an eviction. At the end the events of 1,000 users are read, and none may be
missing. The exit code is 1 if any of this fails.
"""

import argparse
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loadtest.support import script
from loadtest.support.http_client import HttpClient
from loadtest.support.server import serving

CONNECTIONS = 16
STEPS = 20  # of users; memory is measured after each step
SAMPLE = 1000  # users whose events are read at the end

# How much memory may grow after --in-memory users: MiB for the allocator and the caches, and bytes
# a user, because the table of users reaches its final size only then.
ALLOWED, ALLOWED_A_USER = 16, 200
SPACING = 6_700_417  # distance of user ids, so that they are spread over the whole range


def put(port: int, users: range) -> None:
    """Put one event of each user over one connection; the item is the user's number."""
    client = HttpClient(port)
    for user in users:
        client.call("POST", "/put_user_event", user_id=user * SPACING, item_id=user)


def put_all(port: int, users: range) -> None:
    """Put one event of each user, over all connections at once."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda i: put(port, users[i::CONNECTIONS]), range(CONNECTIONS)))


def count_wrong(port: int, users: int) -> int:
    """Return how many users of a sample do not have exactly the event that was put."""
    client, sample = HttpClient(port), random.sample(range(users), min(SAMPLE, users))
    answers = {
        user: client.call("GET", "/get_user_events", user_id=user * SPACING) for user in sample
    }
    return sum(answer != {"events": [user]} for user, answer in answers.items())


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("data"), help="folder with a release (data)"
    )
    parser.add_argument("--users", type=int, default=20_000, help="users to put (20000)")
    parser.add_argument("--in-memory", type=int, default=5000, help="RECO_MAX_USERS (5000)")
    return parser.parse_args()


def main() -> int:
    """Put events, measure memory and check the events; return the exit code."""
    options = parse_arguments()
    limit = options.in_memory
    with tempfile.TemporaryDirectory() as state:
        settings = {"STATE": state, "MAX_USERS": str(limit), "LOG_LEVEL": "WARNING"}
        with serving(options.work, **settings) as service:
            memory_at_limit = memory = 0.0
            done = 0
            for step in range(1, STEPS + 1):
                end = options.users * step // STEPS
                put_all(service.port, range(done, end))
                done = end
                health = HttpClient(service.port).call("GET", "/health/ready")
                memory = service.memory("Private_Clean", "Private_Dirty")
                if done < limit + options.users // STEPS:
                    memory_at_limit = memory
                print(
                    f"{done:,} users: {memory:.1f} MiB, "
                    f"{health['users_with_events']:,} in memory, "
                    f"{health['evicted_users']:,} evicted",
                    flush=True,
                )
            wrong = count_wrong(service.port, options.users)
        journal = sum(path.stat().st_size for path in Path(state).iterdir()) / 2**20
    growth, evicted = memory - memory_at_limit, health["evicted_users"]
    expected = max(0, options.users - limit)
    print(
        f"{growth:+.1f} MiB after the limit was reached; {evicted:,} evictions, {expected:,} "
        f"expected; events of {wrong:,} users missing; journal {journal:.1f} MiB"
    )
    # A few evictions may be missing: if the Bloom filter takes a new user for a known one, that
    # user stays on disk, and no other user has to leave memory.
    counted = 0.99 * expected <= evicted <= expected
    bounded = growth <= ALLOWED + limit * ALLOWED_A_USER / 2**20
    return int(not (bounded and counted) or wrong > 0)


if __name__ == "__main__":
    script.run(main)
