"""Measure the search: how long it takes, and how much longer other calls take beside it.

    python -m loadtest.search [--work DIR] [--tracks 1000000] [--searches 400] [--seconds 10]

Without --work it makes a release of random lists with names (jobs.sample_release --names), prints
the size of its index and how long that took, and removes it at the end. Then it starts the service
and sends searches one after the other: for each of some tracks the first letter of its name, the
first two and three, its first word, a word and the beginning of another, an artist, and something
that is not there. The table has the median and p95 of each kind and of all.

Then /recommendations is called without a pause, first alone, then with ten searches a second beside
it, in turn. The searches come from a process of their own, since two threads of one process would
wait for each other. The last line has p99 of both and their ratio, and how many calls a second of
/recommendations these were.
"""

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

from loadtest.support import script
from loadtest.support.http_client import HttpClient
from loadtest.support.server import ROOT, serving

SEED = 20
SEARCHES_A_SECOND = 10
TRIES = 1000  # searches without a named track, after which a release is taken to have none
NICE = 10  # how much less of the processor the client of the searches gets
TURNS = 20  # measurements of the other calls with and without searches


def make_release(work: Path, tracks: int) -> None:
    """Make a release of random lists with names, and print what that says."""
    options = ["--work", str(work), "--users", "20000", "--tracks", str(tracks), "--names"]
    command = [sys.executable, "-m", "jobs.sample_release", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    print(done.stdout.strip())


def texts(client: HttpClient, rng: random.Random, n: int) -> Iterator[tuple[str, str]]:
    """Yield a kind of search and its text, for tracks that are drawn from what searches find."""
    letters = "abcdefghijklmnopqrstuvwxyzабвгдеёжзиклмнопрстуфхцчшэюя"
    missed = 0
    while missed < TRIES:
        missed += 1
        start = rng.choice(letters) + rng.choice(letters)
        found = search(client, start, 50)["tracks"]
        for track in rng.sample(found, min(5, len(found))):
            words = (track["name"] or "").split()
            if not words:
                continue
            missed = 0
            yield "one letter", words[0][:1]
            yield "two letters", words[0][:2]
            yield "three letters", words[-1][:3]
            yield "a word", words[0]
            yield "two words", f"{words[-1]} {words[0][:1]}"
            yield "an artist", " ".join(track["artists"] or ["a"])
            yield "nothing", f"{words[0]} {rng.randrange(10**9):x}qx"
            if (n := n - 7) <= 0:
                return
    sys.exit(
        f"{TRIES:,} searches for two letters found no track with a name: pass as --work a folder "
        "whose release has names in Latin or Cyrillic letters"
    )


def search(client: HttpClient, text: str, limit: int = 10) -> Any:
    """Return what a search finds."""
    return client.get(f"/search?{urlencode({'q': text, 'limit': limit})}")


def percentile(seconds: list[float], share: float) -> float:
    """Return the time in milliseconds that a share of the calls stays below."""
    return sorted(seconds)[int(len(seconds) * share)] * 1000


def measure_searches(port: int, n: int) -> tuple[list[str], float]:
    """Send the searches and print their times; return their texts, and p95 in milliseconds."""
    client = HttpClient(port)
    times: dict[str, list[float]] = {}
    asked = list(texts(client, random.Random(SEED), n))
    for kind, text in asked:
        start = time.perf_counter()
        search(client, text)
        times.setdefault(kind, []).append(time.perf_counter() - start)
    times["all"] = [second for kind in times.values() for second in kind]
    print(f"{'search':14} {'calls':>6} {'median':>9} {'p95':>9} {'longest':>9}")
    for kind, seconds in times.items():
        row = median(seconds) * 1000, percentile(seconds, 0.95), max(seconds) * 1000
        print(f"{kind:14} {len(seconds):>6} " + " ".join(f"{ms:>6.1f} ms" for ms in row))
    return [text for _, text in asked], percentile(times["all"], 0.95)


def recommend(port: int, seconds: float) -> list[float]:
    """Ask for lists of new users for some seconds; return how long each took."""
    client = HttpClient(port)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        client.call("GET", "/recommendations", user_id=2**52 + len(times), k=100)
        times.append(time.perf_counter() - start)
    return times


def search_beside(port: int, asked: list[str], stop: Event) -> None:
    """Send ten searches a second until it has to stop.

    What the client of the searches does itself is not of the service, so it lets the others go
    first where they share the cores.
    """
    os.nice(NICE)
    client, i = HttpClient(port), 0
    while not stop.wait(1 / SEARCHES_A_SECOND):
        search(client, asked[i % len(asked)])
        i += 1


def measure_others(port: int, asked: list[str], seconds: float) -> float:
    """Print p99 of /recommendations without and with searches; return by how much it grows."""
    processes = multiprocessing.get_context("fork")
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(TURNS):
        alone += recommend(port, seconds / TURNS)
        stop = processes.Event()
        other = processes.Process(target=search_beside, args=(port, asked, stop))
        other.start()
        beside += recommend(port, seconds / TURNS)
        stop.set()
        other.join()
    before, after = (percentile(times, 0.99) for times in (alone, beside))
    rates = [len(times) / seconds for times in (alone, beside)]
    print(
        f"p99 of /recommendations: {before:.3f} ms alone, {after:.3f} ms beside "
        f"{SEARCHES_A_SECOND} searches a second ({after / before:.2f} x), "
        "at " + " and ".join(f"{rate:,.0f}" for rate in rates) + " calls a second"
    )
    return after / before


def main() -> int:
    """Make or take a release, and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="folder with a release (a new one)")
    parser.add_argument("--tracks", type=int, default=1_000_000, help="of a new one (1000000)")
    parser.add_argument("--searches", type=int, default=400, help="to measure (400)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of other calls (10)")
    options = parser.parse_args()
    with ExitStack() as stack:
        work = options.work
        if work is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            make_release(work, options.tracks)
        state = stack.enter_context(tempfile.TemporaryDirectory())
        service = serving(work, LOG_LEVEL="WARNING", STATE=state)
        port = stack.enter_context(service).port
        asked, _ = measure_searches(port, options.searches)
        measure_others(port, asked, options.seconds)
    return 0


if __name__ == "__main__":
    script.run(main)
