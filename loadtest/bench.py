"""Benchmark the service against handlers that do nothing, over real sockets, one worker each.

    python -m loadtest.bench --work data [--rounds 9] [--seconds 1]
    python -m loadtest.bench --full       # start and memory with 1.37 M users and 1 M tracks

The empty handlers take the same parameters with the same checks and return a fixed answer of the
same type and size: their cost is the cost of the server and the framework. Both are started by
`litestar run`, without an access log. They are measured in turn, with 16 connections, by wrk or, if
that is not installed, by a Python client. The tables give medians over the rounds: requests a
second, and the server's CPU time a request, which depends less on other programs on the machine.

The blending is fixed, so that what a run of the jobs has chosen changes no row. The service keeps
answers until a user has another event. So the first rows are of answers that it has not given
before: to each user once (a release needs some hundred thousand users for that; --full makes one),
after another event, and of another length. Rows that end with "again" are of answers that it keeps.

A last table has the limits: a server with an application that does nothing, the same with Litestar,
and the service, under uvicorn, and under granian if that is installed.

Then a mix of all calls is sent at half of the highest rate, whether or not the service keeps up,
and latency is counted from when a request was due. --full makes a release of random lists in a
temporary folder (4 GB), and removes it at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple
from urllib.request import Request, urlopen

from loadtest.support import load_generator, script, server
from loadtest.support.server import ROOT, Server
from loadtest.support.workloads import (
    AGAIN,
    FRESH,
    IN_TURN,
    MIX,
    ONLINE,
    PERSONAL,
    PUT,
    PUT_AND_READ,
    workloads,
)

KEY = "a-key-for-every-call"
NEIGHBOURS = {"BLENDING": "weighted", "ONLINE_SOURCE": "similar,next_played"}
AND_FOLD_IN = {"BLENDING": "weighted", "ONLINE_SOURCE": "similar,next_played,fold_in"}
BY_RULE = [PUT_AND_READ, FRESH, AGAIN, MIX]  # workloads to which the blending makes a difference
MOST_LINES = 60_000  # requests of a round; a round of one second sends fewer
SERVERS = {
    "uvicorn": ["uvicorn", "--no-access-log", "--log-level", "warning"],
    "granian": ["granian", "--interface", "asgi", "--no-ws", "--log-level", "warning"],
}


class Cost(NamedTuple):
    """What a server does: requests a second, and microseconds of its CPU time a request."""

    rate: float
    cpu: float


@contextmanager
def service(work: Path, app: str = "", **settings: str) -> Iterator[Server]:
    """Serve WORK with an empty journal; `settings` are RECO_ variables without the prefix."""
    with tempfile.TemporaryDirectory() as state:
        settings = (
            {"WORK": str(work), "STATE": state, "LOG_LEVEL": "WARNING"} | AND_FOLD_IN | settings
        )
        environment = server.variables(**settings)
        with server.running(environment, app=app, answers="/health/ready") as running:
            yield running


@contextmanager
def empty_handlers(answers: dict[str, str]) -> Iterator[Server]:
    """Serve handlers that do nothing but return the texts in `answers`, by path."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answers.json")
        path.write_text(json.dumps(answers))
        with server.running(
            {"BENCH_ANSWERS": str(path)}, app="loadtest.support.noop_app:app"
        ) as running:
            yield running


def fetch(port: int, line: str) -> str:
    """Return the text of the answer to a line like "GET /path"."""
    method, path = line.split()
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", method=method), timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def measure(running: Server, lines: Sequence[str], seconds: int) -> Cost:
    """Send the requests in turn for some seconds, as fast as they are answered; return the cost."""
    before = running.cpu_seconds()
    rate = load_generator.rate(running.port, list(lines), seconds)
    return Cost(rate, (running.cpu_seconds() - before) / (rate * seconds) * 1e6)


def medians(sides: list[tuple[Server, list[str]]], rounds: int, seconds: int) -> list[Cost]:
    """Measure servers in turn, round by round, each with its requests; return their medians.

    Each round begins at another place among the requests, an even one, since some are pairs.
    """
    costs = []
    for turn in range(rounds):
        of_turn = []
        for running, lines in sides:
            start = len(lines) * turn // rounds // 2 * 2
            part = [*lines[start:], *lines[:start]][:MOST_LINES]
            of_turn.append(measure(running, part, seconds))
        costs.append(of_turn)
    return [Cost(*map(median, zip(*of_side, strict=True))) for of_side in zip(*costs, strict=True)]


def print_start(work: Path) -> None:
    """Print how long the service takes to be ready, and its memory then and after some load."""
    before, lines = workloads(work)
    with service(work) as running:
        print(f"\nready after {running.seconds:.2f} s")
        print_memory("memory when ready", running)
        load_generator.send(running.port, before)
        load_generator.rate(running.port, lines[MIX], 10)
        print_memory("memory after load", running)


def print_memory(label: str, running: Server) -> None:
    """Print a server's memory after a label."""
    private = running.memory("Private_Dirty")
    mapped = running.memory("Private_Clean", "Shared_Clean", "Shared_Dirty")
    print(
        f"{label}: {private:,.0f} MiB private; "
        f"{mapped:,.0f} MiB of mapped files, which workers share"
    )


def print_rates(
    work: Path, names: list[str], rounds: int, seconds: int, **settings: str
) -> dict[str, float]:
    """Print a row for each workload, or for all if `names` is empty; return their rates by name."""
    before, lines = workloads(work)
    names = names or [*lines]
    print("", *[f"RECO_{name}={value}" for name, value in settings.items()], sep="\n")
    print(f"medians of {rounds} rounds of {seconds} s")
    print(f"{'':22} {'requests a second':^25} {'CPU µs a request':^25}")
    columns = f"{'service':>9} {'empty':>8} {'ratio':>6}"
    print(f"{'workload':22} {columns} {columns}", flush=True)
    rates = {}
    with service(work, **settings) as ours:
        load_generator.send(ours.port, before)
        answers = {
            path: fetch(ours.port, lines[name][0])
            for path, name in (("/recommendations", PERSONAL), ("/get_online_u2i", ONLINE))
        }
        with empty_handlers(answers) as empty:
            for name in names:
                cost, floor = medians([(ours, lines[name]), (empty, lines[name])], rounds, seconds)
                rates[name] = cost.rate
                print(
                    f"{name:22} {cost.rate:9,.0f} {floor.rate:8,.0f} {cost.rate / floor.rate:6.2f} "
                    f"{cost.cpu:9.1f} {floor.cpu:8.1f} {floor.cpu / cost.cpu:6.2f}",
                    flush=True,
                )
    return rates


def print_latency(work: Path, peak: float, seconds: float) -> None:
    """Print the latency of the mix at half of `peak`, the highest rate in requests a second."""
    before, lines = workloads(work)
    with service(work) as running:
        load_generator.send(running.port, before)
        load_generator.latencies_at_rate(running.port, lines[MIX], peak / 2, 2)  # fills caches
        latencies = load_generator.latencies_at_rate(running.port, lines[MIX], peak / 2, seconds)
    thousandths = [1000 * latency for latency in quantiles(latencies, n=1000)]  # in ms
    print(
        f"\nmix at {peak / 2:,.0f} requests a second, half of the highest rate: "
        f"p50 {thousandths[499]:.2f} ms, p99 {thousandths[989]:.2f} ms, "
        f"p99.9 {thousandths[998]:.2f} ms"
    )


def print_keys(work: Path, rounds: int, seconds: int) -> None:
    """Print how much metrics, and keys that every call must send, slow the service down."""
    lines = workloads(work)[1][PERSONAL]
    with_key = [f"{line} {KEY}" for line in lines]
    keys = {"ADMIN_KEY": f"{KEY}-admin", "WRITE_KEY": f"{KEY}-write", "READ_KEY": KEY}
    with (
        service(work, app="api.unguarded:app") as unguarded,
        service(work, **keys) as guarded,
    ):
        with_keys, without = medians([(guarded, with_key), (unguarded, lines)], rounds, seconds)
    print(
        f"\n{PERSONAL}, with metrics and keys: {with_keys.rate:,.0f} requests a second; "
        f"without: {without.rate:,.0f}; ratio {with_keys.rate / without.rate:.2f}"
    )


def print_journals(work: Path, rounds: int, seconds: int) -> None:
    """Print the rate at which new events are put, for each value of RECO_JOURNAL."""
    lines = workloads(work)[1][PUT]
    print()
    with empty_handlers({}) as empty:
        for journal in ("off", "normal", "full"):
            with service(work, JOURNAL=journal) as ours:
                cost, floor = medians([(ours, lines), (empty, lines)], rounds, seconds)
            print(
                f"{PUT}, RECO_JOURNAL={journal}: {cost.rate:,.0f} requests a second; "
                f"empty: {floor.rate:,.0f}; ratio {cost.rate / floor.rate:.2f}",
                flush=True,
            )


def print_limits(work: Path, rounds: int, seconds: int) -> None:
    """Print the rates of an empty application, of Litestar and of the service by server."""
    lines = workloads(work)[1][IN_TURN]
    with service(work) as ours:
        answers = {"/recommendations": fetch(ours.port, lines[0])}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answers.json")
        path.write_text(json.dumps(answers))
        settings = server.variables(WORK=str(work), STATE=folder, LOG_LEVEL="WARNING")
        environment = settings | {"BENCH_ANSWERS": str(path)}
        print(f"\n{IN_TURN}: requests a second, CPU µs a request")
        for name in [name for name in SERVERS if find_spec(name)]:
            for label, app, makes in (
                ("an empty application", "loadtest.support.raw_app:app", ["--factory"]),
                ("an empty handler of Litestar", "loadtest.support.noop_app:app", ["--factory"]),
                ("the service", "app:app", []),
            ):
                command = [*SERVERS[name], *makes]
                with server.running(environment, app=app, server=command) as running:
                    (cost,) = medians([(running, lines)], rounds, seconds)
                print(f"{name:10} {label:30} {cost.rate:9,.0f} {cost.cpu:9.1f}", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("data"), help="folder with a release (data)"
    )
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each workload (9)")
    parser.add_argument("--seconds", type=int, default=1, help="of a measurement (1)")
    parser.add_argument("--full", action="store_true", help="make a release of full size")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = args.work.resolve()
        if args.full:
            work = Path(folder)
            job = [sys.executable, "-m", "jobs.sample_release", "--work", folder]
            subprocess.run(job, cwd=ROOT, check=True)
        print_start(work)
        rates = print_rates(work, [], args.rounds, args.seconds, **AND_FOLD_IN)
        print_rates(work, BY_RULE, args.rounds, args.seconds, **NEIGHBOURS)
        print_limits(work, args.rounds, args.seconds)
        print_latency(work, rates[MIX], 10)
        print_keys(work, args.rounds, args.seconds)
        print_journals(work, args.rounds, args.seconds)
        print_rates(work, [PERSONAL, MIX], args.rounds, args.seconds, LOG_LEVEL="INFO")


if __name__ == "__main__":
    script.run(main)
