"""Measure what events in Valkey cost beside the embedded store: processor time and memory.

    python -m loadtest.valkey_cost --work data [--rounds 20] [--fsync no]

Serves WORK by two processes, the one with RECO_EVENTS and the other without, and sends both the
same 4,000 requests in turn, over 16 connections. The table has the medians of the processor time
that a process takes for a request, in microseconds, and of the differences within the pairs, which
depend less on what else the machine does. Then it measures the memory that Valkey takes for each
user with 100 exported events, by ids below 2^31 and by UUIDs.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from uuid import UUID

from loadtest.support import load_generator, script, server, valkey
from loadtest.support.server import Server
from loadtest.support.valkey import Valkey
from loadtest.support.workloads import AGAIN, ONLINE, PERSONAL, PUT, workloads

REQUESTS = 4000
NAMES = (PERSONAL, AGAIN, ONLINE, PUT)
FIRST, USERS, EVENTS, TRACKS = 500, 1500, 100, 2000  # for the memory


def cost(running: Server, lines: list[str]) -> float:
    """Return the microseconds of processor time that a request takes."""
    before = running.cpu_seconds()
    load_generator.send(running.port, [*islice(cycle(lines), REQUESTS)])
    return (running.cpu_seconds() - before) / REQUESTS * 1e6


def compare(embedded: Server, shared: Server, work: Path, rounds: int) -> Iterator[str]:
    """Yield a row for each workload."""
    before, lines = workloads(work)
    for running in (embedded, shared):
        load_generator.send(running.port, before)
    for name in NAMES:
        pairs = []
        for i in range(rounds):
            order = (embedded, shared) if i % 2 else (shared, embedded)
            found = {running.port: cost(running, lines[name]) for running in order}
            pairs.append((found[embedded.port], found[shared.port]))
        medians = [median(values) for values in zip(*pairs, strict=True)]
        more = median(b - a for a, b in pairs)
        yield f"| {name} | {medians[0]:.0f} | {medians[1]:.0f} | {more:+.0f} |"


def memory(server_of_events: Valkey, work: Path, kind: str) -> float:
    """Return the bytes that Valkey needs for each further user with EVENTS exported events.

    What it needs anyway is left out: it is measured after FIRST users and after USERS more. The
    events are put through a service, and taken out of the log as an export does it.
    """
    rng = random.Random(20)

    def named(number: int) -> int | str:
        return number if kind == "integer" else str(UUID(int=rng.getrandbits(128), version=4))

    server_of_events.ask("HSET", "reco:kinds", "users", kind, "tracks", kind)
    tracks = [named(rng.randrange(2**31)) for _ in range(TRACKS)]
    settings = {"WORK": str(work), "LOG_LEVEL": "ERROR", "EVENTS": server_of_events.address}
    sizes = []
    with server.running(server.variables(**settings)) as running:
        for n_users in (FIRST, USERS):
            users = [named(rng.randrange(2**31)) for _ in range(n_users)]
            lines = [
                f"POST /put_user_event?user_id={user}&item_id={rng.choice(tracks)}"
                for user in users
                for _ in range(EVENTS)
            ]
            load_generator.send(running.port, lines)
            _empty_log(server_of_events)
            time.sleep(1)  # buffers that are not used are freed
            sizes.append(_used(server_of_events))
    return (sizes[1] - sizes[0]) / USERS


def _empty_log(server_of_events: Valkey) -> None:
    for shard in range(64):
        for user in server_of_events.ask("SMEMBERS", f"reco:{{{shard}}}w"):
            server_of_events.ask("DEL", f"reco:{{{shard}}}u{user}")
        server_of_events.ask("DEL", f"reco:{{{shard}}}w")


def _used(server_of_events: Valkey) -> int:
    """Return the bytes of the data that Valkey has."""
    lines = server_of_events.ask("INFO", "memory").splitlines()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    buffers = sum(int(found[name]) for name in ("mem_aof_buffer", "mem_clients_normal"))
    return int(found["used_memory"]) - buffers


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("data"), help="folder to serve (data)")
    parser.add_argument(
        "--rounds", type=int, default=20, help="pairs for each workload (20), 0: none"
    )
    parser.add_argument("--fsync", default="no", help="appendfsync of Valkey: no or always (no)")
    options = parser.parse_args()
    if options.rounds:
        print_costs(options)
    for kind in ("integer", "text"):
        with tempfile.TemporaryDirectory() as folder_of_one:
            path = Path(folder_of_one)
            (path / "work").mkdir()
            with valkey.running(path / "valkey") as events:
                found = memory(events, path / "work", kind)
        print(f"Valkey has {found:.0f} bytes for a user with {EVENTS} events, ids are {kind}")


def print_costs(options: argparse.Namespace) -> None:
    """Print the table of processor times."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        events = stack.enter_context(valkey.running(folder, appendfsync=options.fsync))
        work = {"WORK": str(options.work), "LOG_LEVEL": "WARNING"}
        settings = [work | {"STATE": str(folder / "state")}, work | {"EVENTS": events.address}]
        embedded, shared = (
            stack.enter_context(server.running(server.variables(**one), answers="/health/ready"))
            for one in settings
        )
        print("| µs a request | embedded | Valkey | difference |\n| --- | --- | --- | --- |")
        for row in compare(embedded, shared, options.work, options.rounds):
            print(row, flush=True)


if __name__ == "__main__":
    script.run(main)
