"""Benchmark: the service beside empty handlers, over real sockets, one worker each.

    python -m loadtest.bench --work data [--rounds 9] [--seconds 1]
    python -m loadtest.bench --full       # start and memory with 1.37 M users and 1 M tracks

An empty handler takes the same parameters with the same checks and gives back a fixed answer of
the same type and size: what is left is the server's and the framework's share. Both are started
as `litestar run`, without an access log, and asked in turn, 16 connections at a time, by wrk, or by
a Python client where it is not installed; medians over the rounds are compared, and the CPU time
that a call takes, which other programs disturb less. What was answered before is remembered until
the user has another event: "many users" and "put, then read" are answers that were not.

Then calls of all kinds come at half of the highest rate, whether or not the service keeps up, and
what they take is counted from when they were due. --full makes a release of random lists in a
temporary folder (4 GB), and removes it.
"""

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from urllib.request import Request, urlopen

import numpy as np

from loadtest.support.http_client import closed_loop, open_loop, send

ROOT = Path(__file__).parents[1]


CONNECTIONS = 16


USERS = 2000  # of each kind


LISTENERS = 400  # who have events and have none while they read


MANY_USERS = 50_000  # more than there are answers that the service remembers


EVENTS = 10


NEW_IDS = 2**52  # from here on nobody is known


LUA = """
local requests, place = {}, 0
function init()
  for line in io.lines(os.getenv("BENCH_CALLS")) do
    local method, path, key = line:match("(%S+) (%S+) ?(%S*)")
    local heads = key ~= "" and {["X-API-Key"] = key} or nil
    requests[#requests + 1] = wrk.format(method, path, heads)
  end
end
function request()
  place = place % #requests + 1
  return requests[place]
end
"""


@dataclass(frozen=True)
class Server:
    """A process that answers on a port."""

    process: subprocess.Popen[bytes]
    port: int
    seconds: float  # from its start until it was ready

    def memory(self, *names: str) -> float:
        """MiB of the process, by the kernel's sums over its pages."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        sizes = dict(line.split(":") for line in text.splitlines()[1:])
        return sum(int(sizes[name].split()[0]) for name in names) / 1024

    def cpu_seconds(self) -> float:
        """What the process has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def service_of(
    work: Path, level: str = "WARNING", app: str = "app:app", **variables: str
) -> Iterator[Server]:
    """The service, with a journal of its own."""
    with tempfile.TemporaryDirectory() as state:
        variables |= {"RECO_WORK": str(work), "RECO_STATE": state, "RECO_LOG_LEVEL": level}
        with running("--app", app, **variables) as server:
            yield server


@contextmanager
def empty_of(answers: dict[str, str], folder: Path) -> Iterator[Server]:
    """The empty handlers, with the answers of paths."""
    (folder / "answers.json").write_text(json.dumps(answers))
    with running(
        "--app", "loadtest.support.noop_app:app", BENCH_ANSWERS=str(folder / "answers.json")
    ) as server:
        yield server


@contextmanager
def running(*options: str, **variables: str) -> Iterator[Server]:
    """`litestar OPTIONS run` until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECO_")}
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "litestar", *options, "run", "--port", str(port)],
        cwd=ROOT, env=kept | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not answers(port):
            if process.poll() is not None or time.monotonic() - start > 120:
                sys.exit(f"litestar {' '.join(options)} run did not start: try it by hand")
            time.sleep(0.01)
        yield Server(process, port, time.monotonic() - start)
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    """Whether the service is ready."""
    try:
        ask(port, "GET /health/ready")
    except OSError:
        return False
    return True


def ask(port: int, line: str) -> str:
    """The answer to a line like "GET /path"."""
    method, path = line.split()
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", method=method), timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def calls(work: Path) -> dict[str, list[str]]:
    """Lines like "GET /path" by kind of load, and "prepare": the events to put first."""
    arrays = work / "current" / "serving"
    users, tracks = (
        np.load(arrays / f"{name}_ids.npy", mmap_mode="r") for name in ("user", "track")
    )
    rng = random.Random(20)
    known = [int(users[i]) for i in rng.sample(range(len(users)), min(3 * USERS, len(users)))]
    readers, listeners, players = (known[i::3] or known for i in range(3))
    listeners = listeners[:LISTENERS]
    every = [int(user) for user in users[:: max(1, len(users) // MANY_USERS)]]
    some_track = lambda: int(tracks[rng.randrange(len(tracks))])  # noqa: E731
    put = "POST /put_user_event?user_id={}&item_id={}".format
    read = "GET /recommendations?user_id={}".format
    u2i = "GET /get_online_u2i?user_id={}".format
    result = {
        "prepare": [
            put(user, some_track()) for user in (*listeners, *players) for _ in range(EVENTS)
        ],
        "personal, no events": [read(user) for user in readers],
        "10 events, read again": [read(user) for user in listeners],
        "cold": [read(NEW_IDS + i) for i in range(USERS)],
        "get_online_u2i": [u2i(user) for user in listeners],
        "put_user_event": [put(NEW_IDS + USERS + i, some_track()) for i in range(USERS)],
        "put, then read": [
            line for user in players for line in (put(user, some_track()), read(user))
        ],
    }
    many = {"no events, many users": [read(user) for user in every]}
    return result | {"mix": mix(result, rng)} | many


def mix(of: dict[str, list[str]], rng: random.Random) -> list[str]:
    """Calls of all kinds: of ten, four personal, two cold, one u2i, and three of who listens."""
    parts = {"personal, no events": 4, "cold": 2, "get_online_u2i": 1}
    groups = [[line] for name, n in parts.items() for line in rng.choices(of[name], k=n * 200)]
    pairs = of["put, then read"][:600]
    groups += [pairs[i : i + 2] for i in range(0, len(pairs), 2)]
    rng.shuffle(groups)
    return [line for group in groups for line in group]


def rate(server: Server, lines: list[str], seconds: int, folder: Path) -> tuple[float, float]:
    """Requests a second, and microseconds of the server's CPU a request."""
    before = server.cpu_seconds()
    if shutil.which("wrk"):
        found = wrk(server.port, lines, seconds, folder)
    else:
        found = closed_loop(server.port, lines, CONNECTIONS, seconds)
    return found, (server.cpu_seconds() - before) / (found * seconds) * 1e6


def wrk(port: int, lines: list[str], seconds: int, folder: Path) -> float:
    """Requests a second, by wrk."""
    (folder / "calls").write_text("\n".join(lines))
    (folder / "calls.lua").write_text(LUA)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(folder / "calls.lua")]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}"],
        env=os.environ | {"BENCH_CALLS": str(folder / "calls")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        sys.exit(done.stdout)
    return float(done.stdout.partition("Requests/sec:")[2].split()[0])


def compare(work: Path, level: str, kinds: list[str], rounds: int, seconds: int) -> float:
    """Print the table of a log level; the service's rate of the mix."""
    lines, result = calls(work), {}
    print(f"\nRECO_LOG_LEVEL={level}: requests a second, medians of {rounds} rounds of {seconds} s")
    print(
        f"{'':20} {'service':>8} {'empty':>8} {'ratio':>6} {'CPU µs':>8} {'empty':>6} {'ratio':>6}"
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = stack.enter_context(service_of(work, level))
        send(service.port, lines.pop("prepare"), CONNECTIONS)
        fixed = {
            path: ask(service.port, lines[kind][0])
            for path, kind in {
                "/recommendations": "personal, no events", "/get_online_u2i": "get_online_u2i",
            }.items()
        }  # fmt: skip
        empty = stack.enter_context(empty_of(fixed, folder))
        for kind in kinds:
            found = []
            for _ in range(rounds):
                sides = [rate(side, lines[kind], seconds, folder) for side in (service, empty)]
                found.append((sides[0][0], sides[1][0], sides[0][1], sides[1][1]))
            own, other, cpu, other_cpu = (median(column) for column in zip(*found, strict=True))
            print(f"{kind:21} {own:8,.0f} {other:8,.0f} {own / other:6.2f}", end=" ")
            print(f"{cpu:8.1f} {other_cpu:6.1f} {other_cpu / cpu:6.2f}", flush=True)
            result[kind] = own
        return result["mix"]


def show_keys(work: Path, rounds: int, seconds: int) -> None:
    """Print what metrics, and keys for every call, cost."""
    lines = calls(work)["personal, no events"]
    key = "a-key-for-every-call"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys = {name: f"{key}-{name}" for name in ("RECO_ADMIN_KEY", "RECO_WRITE_KEY")}
        bare = stack.enter_context(service_of(work, app="api.unguarded:app"))
        closed = stack.enter_context(service_of(work, **keys, RECO_READ_KEY=key))
        sides = (closed, [f"{line} {key}" for line in lines]), (bare, lines)
        found = [[rate(*side, seconds, folder)[0] for side in sides] for _ in range(rounds)]
    own, other = (median(column) for column in zip(*found, strict=True))
    print(f"\npersonal, with metrics and keys {own:,.0f} requests a second, ", end="")
    print(f"with neither {other:,.0f}: ratio {own / other:.2f}")


def show_journals(work: Path, rounds: int, seconds: int) -> None:
    """Print what it costs a put to be journalled."""
    lines = calls(work)["put_user_event"]
    print()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        empty = stack.enter_context(empty_of({}, folder))
        for journal in ("off", "normal", "full"):
            with service_of(work, RECO_JOURNAL=journal) as service:
                found = [
                    [rate(side, lines, seconds, folder)[0] for side in (service, empty)]
                    for _ in range(rounds)
                ]
            own, other = (median(column) for column in zip(*found, strict=True))
            print(f"put_user_event, RECO_JOURNAL={journal}: {own:,.0f} requests a second", end=", ")
            print(f"empty {other:,.0f}: ratio {own / other:.2f}", flush=True)


def show_latency(work: Path, peak: float, seconds: float) -> None:
    """Print what the mix takes at half of the highest rate."""
    lines = calls(work)
    with service_of(work) as service:
        send(service.port, lines["prepare"], CONNECTIONS)
        open_loop(service.port, lines["mix"], CONNECTIONS, peak / 2, 2)
        found = [
            1000 * t
            for t in open_loop(service.port, lines["mix"], 4 * CONNECTIONS, peak / 2, seconds)
        ]
    places = quantiles(found, n=1000)
    print(
        f"\nmix at {peak / 2:,.0f} requests a second, half of the highest: "
        f"p50 {places[499]:.2f} ms, p99 {places[989]:.2f} ms, p99.9 {places[998]:.2f} ms"
    )


def show_start(work: Path) -> None:
    """Print how soon the service is ready, and its memory then and after some load."""
    lines = calls(work)
    with service_of(work) as service:
        print(f"\nready after {service.seconds:.2f} s")
        print_memory("memory then", service)
        send(service.port, lines["prepare"], CONNECTIONS)
        closed_loop(service.port, lines["mix"], CONNECTIONS, 10)
        print_memory("after load", service)


def print_memory(when: str, server: Server) -> None:
    """Print a server's memory."""
    own = server.memory("Private_Dirty")
    mapped = server.memory("Private_Clean", "Shared_Clean", "Shared_Dirty")
    print(f"{when}: {own:,.0f} MiB private; {mapped:,.0f} MiB of mapped files, which workers share")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("data"), help="with a release (data)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=1, help="of each round and side (1)")
    parser.add_argument("--full", action="store_true", help="a synthetic release of full size")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = args.work.resolve()
        if args.full:
            work = Path(folder)
            job = [sys.executable, "-m", "jobs.sample_release", "--work", folder]
            subprocess.run(job, cwd=ROOT, check=True)
        show_start(work)
        kinds = [kind for kind in calls(work) if kind != "prepare"]
        peak = compare(work, "WARNING", kinds, args.rounds, args.seconds)
        show_latency(work, peak, 10)
        show_keys(work, args.rounds, args.seconds)
        show_journals(work, args.rounds, args.seconds)
        compare(work, "INFO", ["personal, no events", "mix"], args.rounds, args.seconds)


if __name__ == "__main__":
    main()
