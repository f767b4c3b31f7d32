"""Kill, cut off and slow down Valkey and the services that share it, and check every answer.

    python -m loadtest.valkey_faults --work data --what kill-valkey --times 20 --fsync always
    python -m loadtest.valkey_faults --work data --what round-robin --answers 20000

Two services with RECO_EVENTS share a Valkey. 16 threads have users of their own, so each knows
which events of these were acknowledged, and asks the two services at random. What happens:

    round-robin    nothing; the second service reaches Valkey with a network delay of 30 ms
    kill-valkey    Valkey is killed by kill -9 and started again, --times times
    kill-service   the second service is, while the first goes on
    failover       Valkey is killed, and its replica, with a network delay of 30 ms, is promoted
    black-hole     a proxy before Valkey swallows all bytes for ten seconds, --times times

A put that is not answered by 200 may be stored or not, maybe only after the next one. The others
must be there, each once and in their order, at the next answer that is not marked as stale, and at
the end. The last line has the counts; the exit code is 1 if an event was lost, doubled or out of
order, if an unmarked answer lacked one, or if a refusal took more than a second.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from loadtest.support import script, server, valkey
from loadtest.support.proxy import Proxy, proxy_to
from loadtest.support.server import Server
from loadtest.support.valkey import Valkey

THREADS = 16
EVENTS = 40  # of a user; then the thread goes on with another
SECONDS = 3.0  # at most, between two faults
CUT_SECONDS = 10.0  # of a black hole
PATH_SECONDS = 0.03
NEW_USERS = 2**52
SLOW_FSYNC = """
#include <unistd.h>
#include <sys/syscall.h>
int fdatasync(int fd) { usleep(%d000); return syscall(SYS_fdatasync, fd); }
int fsync(int fd) { usleep(%d000); return syscall(SYS_fsync, fd); }
"""


class Caller(threading.Thread):
    """Puts events of its own users and reads them, each time at a random one of the services."""

    def __init__(self, number: int, ports: list[int], counts: Counter[str], most: int) -> None:
        super().__init__()
        self._number, self._ports, self._counts, self._most = number, ports, counts, most
        self._links: dict[int, HTTPConnection] = {}
        self.known: dict[int, list[tuple[int, bool]]] = {}  # item and whether it was acknowledged
        self.slowest: Counter[str] = Counter()
        self.stops = False

    def run(self) -> None:
        """Go on until told to stop, or until enough answers were checked."""
        rng, user = random.Random(self._number), NEW_USERS + self._number * 10**6
        while not self.stops and self._counts["checked"] < self._most:
            events = self.known.setdefault(user, [])
            if len(events) >= EVENTS:
                user += 1
                continue
            if rng.random() < 0.5:
                item = len(events)
                seconds, status, _, _ = self._call(rng, "POST", "put_user_event", user, item)
                events.append((item, status == 200))
                self._counts["stored" if status == 200 else "refused"] += 1
                if status != 200:
                    self._note_time("refusal", seconds)
            else:
                self._read(rng, user, events)

    def _read(self, rng: random.Random, user: int, events: list[tuple[int, bool]]) -> None:
        seconds, status, stale, answer = self._call(rng, "GET", "get_user_events", user)
        if status == 503 and stale:
            self._counts["stale, never seen"] += 1
        elif status != 200:
            self._counts["no answer"] += 1  # of a service that was killed
        elif stale:
            self._counts["stale"] += 1
            self._note_time("stale answer", seconds)
        else:
            self._counts["checked"] += 1
            if flaw(answer["events"][::-1], events):
                self._counts["violations"] += 1

    def _note_time(self, what: str, seconds: float) -> None:
        self.slowest[what] = max(self.slowest[what], round(seconds * 1000))

    def _call(
        self, rng: random.Random, method: str, path: str, user: int, item: int | None = None
    ) -> tuple[float, int, bool, Any]:
        """Return the seconds, the status (0: none), whether it is stale, and the answer."""
        port = rng.choice(self._ports)
        query = {"user_id": user} | ({"k": 100} if item is None else {"item_id": item})
        start = time.monotonic()
        try:
            link = self._links.get(port)
            if link is None:
                link = self._links[port] = HTTPConnection("127.0.0.1", port, timeout=5)
            link.request(method, f"/{path}?{urlencode(query)}")
            answer = link.getresponse()
            text = answer.read()
        except Exception:
            self._links.pop(port, None)
            time.sleep(0.01)
            return 0.0, 0, False, None
        stale = answer.headers.get("X-Events") == "stale"
        return time.monotonic() - start, answer.status, stale, json.loads(text)


def flaw(found: list[int], events: list[tuple[int, bool]]) -> bool:
    """Return whether a user's events, oldest first, are not those that were acknowledged, in order.

    Those whose put had another answer may be there, in any place; none is there twice.
    """
    may_be = {item for item, _ in events}
    twice = len(found) > len({*found})
    return (
        twice or not {*found} <= may_be or in_order(found, events) != sorted(acknowledged(events))
    )


def acknowledged(events: list[tuple[int, bool]]) -> set[int]:
    """Return the items whose put was acknowledged."""
    return {item for item, known in events if known}


def in_order(found: list[int], events: list[tuple[int, bool]]) -> list[int]:
    """Return what was found of the items whose put was acknowledged."""
    known = acknowledged(events)
    return [item for item in found if item in known]


@contextmanager
def two_services(work: Path, addresses: list[str], **settings: str) -> Iterator[list[Server]]:
    """Serve WORK by two services, each of which reaches Valkey at an address of its own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                server.running(
                    server.variables(WORK=str(work), EVENTS=address, LOG_LEVEL="ERROR", **settings),
                    answers="/health/ready",
                )
            )
            for address in addresses
        ]


def slow_library(folder: Path, milliseconds: int) -> Path:
    """Return a library that makes each fsync of a program take longer; it needs a C compiler."""
    source, library = folder / "slow.c", folder / "slow.so"
    source.write_text(SLOW_FSYNC % (milliseconds, milliseconds))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return library


class Faults:
    """What is done to the servers while the callers go on. Each method returns when it is done."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self.valkey = self.start("valkey")
        self.replica: Valkey | None = None
        self.recoveries: list[float] = []

    def start(self, name: str, port: int | None = None, **lines: str) -> Valkey:
        """Start a Valkey."""
        slow = self._options.slow_fsync
        preload = slow_library(self._folder, slow) if slow else None
        lines = {"appendfsync": self._options.fsync} | lines
        return valkey.start(self._folder / name, port, preload, **lines)

    def stop(self) -> None:
        """End the servers."""
        for one in (self.valkey, self.replica):
            if one:
                one.stop()

    def kill_valkey(self) -> None:
        """Kill Valkey, and start it again with its files."""
        self.valkey.stop()
        time.sleep(0.3)
        self.valkey = self.start("valkey", self.valkey.port)

    def cut(self, proxy: Proxy, services: list[Server]) -> None:
        """Let nothing through for some seconds; note how long the service takes to recover."""
        proxy.swallows = True
        time.sleep(CUT_SECONDS)
        proxy.swallows, start = False, time.monotonic()
        for one in services:
            while ask(one.port, "/health/ready").get("events") != "ok":
                time.sleep(0.01)
        self.recoveries.append(time.monotonic() - start)

    def fail_over(self, number: int, path: Proxy) -> None:
        """Kill the primary and promote the replica; then start the killed one as its replica."""
        assert self.replica
        self.valkey.stop()
        self.replica.ask("REPLICAOF", "NO", "ONE")
        self.valkey, killed = self.replica, self.valkey
        path.to_port = self.valkey.port
        self.replica = self.start(
            f"valkey{number}", killed.port, replicaof=f"127.0.0.1 {path.port}"
        )
        wait_for_replica(self.replica)


def wait_for_replica(replica: Valkey) -> None:
    """Wait until a replica has what its primary has."""
    while "master_link_status:up" not in replica.ask("INFO", "replication"):
        time.sleep(0.05)


def ask(port: int, path: str) -> dict[str, Any]:
    """Return the answer to a GET."""
    link = HTTPConnection("127.0.0.1", port, timeout=5)
    link.request("GET", path)
    answer: dict[str, Any] = json.loads(link.getresponse().read())
    return answer


def call_during(
    ports: list[int], most: int, fault: Callable[[int], None] | None, times: int
) -> tuple[Counter[str], list[Caller]]:
    """Let callers go on during the faults, or until so many answers were checked."""
    counts = Counter[str]()
    callers = [Caller(i, ports, counts, most) for i in range(THREADS)]
    for caller in callers:
        caller.start()
    for number in range(times if fault else 0):
        assert fault
        time.sleep(random.uniform(0.2, 1) * SECONDS)
        fault(number)
        print(f"{number + 1}: {summary(counts)}", flush=True)
    if fault:
        time.sleep(1)
        for caller in callers:
            caller.stops = True
    for caller in callers:
        caller.join()
    return counts, callers


def compare(port: int, callers: list[Caller], counts: Counter[str]) -> None:
    """Compare what is stored at the end with what was acknowledged."""
    while ask(port, "/health/ready").get("events") != "ok":
        time.sleep(0.05)
    link = HTTPConnection("127.0.0.1", port, timeout=30)
    for caller in callers:
        for user, events in caller.known.items():
            link.request("GET", f"/get_user_events?user_id={user}&k=100")
            answer = link.getresponse()
            found = json.loads(answer.read())["events"][::-1]
            counts["stale at the end"] += answer.headers.get("X-Events") is not None
            counts["acknowledged"] += len(acknowledged(events))
            counts["lost"] += len(acknowledged(events) - {*found})
            counts["doubled"] += len(found) - len({*found})
            known = in_order(found, events)
            counts["users out of order"] += known != sorted(known)


def summary(counts: Counter[str]) -> str:
    """Return the counts in one line."""
    return ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items()))


def run(options: argparse.Namespace, folder: Path) -> tuple[Counter[str], list[Caller], Faults]:
    """Start everything, let the fault happen, and count."""
    faults, most = Faults(options, folder), options.answers
    with ExitStack() as stack:
        stack.callback(faults.stop)
        addresses, settings = [faults.valkey.address] * 2, {}
        fault: Callable[[int], None] | None = None
        if options.what == "failover":
            path = stack.enter_context(proxy_to(faults.valkey.port, PATH_SECONDS))
            faults.replica = faults.start("replica", replicaof=f"127.0.0.1 {path.port}")
            wait_for_replica(faults.replica)
            both = f"{faults.valkey.port},127.0.0.1:{faults.replica.port}"
            addresses = [f"valkey://127.0.0.1:{both}/0"] * 2
            settings = {"EVENTS_REPLICAS": "1"}
            fault = lambda number: faults.fail_over(number, path)  # noqa: E731
        elif options.what in ("round-robin", "black-hole"):
            delay = PATH_SECONDS if options.what == "round-robin" else 0.0
            path = stack.enter_context(proxy_to(faults.valkey.port, delay))
            through = f"valkey://127.0.0.1:{path.port}/0"
            cut_off = options.what == "black-hole"
            addresses = [through if cut_off and not options.one else addresses[0], through]
        services = stack.enter_context(two_services(options.work, addresses, **settings))
        ports = [one.port for one in services]
        if options.what == "black-hole":
            fault = lambda _: faults.cut(path, services)  # noqa: E731
        elif options.what == "kill-valkey":
            fault = lambda _: faults.kill_valkey()  # noqa: E731
        elif options.what == "kill-service":
            fault = restarting(stack, options.work, addresses[1], ports)
        counts, callers = call_during(
            ports, most if fault is None else sys.maxsize, fault, options.times
        )
        compare(ports[0], callers, counts)
    return counts, callers, faults


def restarting(
    stack: ExitStack, work: Path, address: str, ports: list[int]
) -> Callable[[int], None]:
    """Return what kills the second service and starts it anew, on another port."""
    running: list[Server] = []

    def restart(number: int) -> None:
        values = server.variables(WORK=str(work), EVENTS=address, LOG_LEVEL="ERROR")
        new = stack.enter_context(server.running(values, answers="/health/ready"))
        if running:
            running[-1].process.kill()
        running.append(new)
        ports[1] = new.port

    return restart


def main() -> int:
    """Let faults happen; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = ["round-robin", "kill-valkey", "kill-service", "failover", "black-hole"]
    parser.add_argument("--work", type=Path, default=Path("data"), help="folder to serve (data)")
    parser.add_argument("--what", choices=kinds, default="round-robin", help="what happens")
    parser.add_argument("--times", type=int, default=20, help="number of faults (20)")
    parser.add_argument("--answers", type=int, default=20_000, help="of round-robin (20000)")
    parser.add_argument("--fsync", default="no", help="appendfsync of Valkey: no or always (no)")
    parser.add_argument("--slow-fsync", type=int, default=0, help="ms more for each fsync (0)")
    parser.add_argument("--one", action="store_true", help="black-hole: only of the second service")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, callers, faults = run(options, Path(folder))
    slowest = Counter[str]()
    for caller in callers:
        slowest |= caller.slowest
    times = "".join(f"; slowest {what} {ms} ms" for what, ms in slowest.items())
    recovered = max(faults.recoveries, default=0.0)
    times += f"; recovered within {recovered:.1f} s" if recovered else ""
    print(f"{options.what}: {summary(counts)}{times}")
    bad = "lost", "doubled", "users out of order", "violations", "stale at the end"
    wrong = any(counts[name] for name in bad)
    return int(wrong or slowest["refusal"] > 1000 or not counts["acknowledged"])


if __name__ == "__main__":
    script.run(main)
