"""Open thousands of connections that break HTTP, while other clients use the service properly.

    python -m loadtest.fuzz [--work data] [--connections 10000] [--at-once 400] [--port 8080]

Starts the service, or uses the one on --port. Each bad connection sends one of: half a request,
random bytes, a valid request with a few bytes changed, a request byte by byte, headers that do not
end, a body shorter than announced, or nothing. It then waits for 0.5 s and closes, in half of the
cases by a TCP reset. Meanwhile four regular clients ask for recommendations and put events. If one
of their requests fails, or the service ends, the exit code is 1. With --others 0 there are no
regular clients: run locust at the same time, whose users never appear in the bad requests.
"""

import argparse
import asyncio
import random
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

from loadtest.support import script
from loadtest.support.http_client import HttpClient
from loadtest.support.server import serving

NEW_IDS = 2**52  # the release has no user from this id on
ANSWER_SECONDS = 0.5  # for which a bad connection waits for an answer
REQUESTS = (
    b"POST /put_user_event?user_id=%d&item_id=5",
    b"GET /recommendations?user_id=%d&events=5&events=7&explain=true",
    b"GET /search?q=%d%%20a&kind=any",
    b"GET /tracks?ids=%d&near=5",
    b"GET /user?user_id=%d&limit=5",
    b"GET /reports/%d?release=x",
    b"GET /console/%d.js",
)
HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
KINDS = ("half", "random bytes", "changed bytes", "byte by byte", "endless headers", "short body",
         "nothing")  # fmt: skip


class Client(threading.Thread):
    """A client that uses the service properly until `stop` is set."""

    def __init__(self, port: int, user: int, stop: threading.Event) -> None:
        super().__init__()
        self._port, self._user, self._stop_asked = port, user, stop
        self.latencies: list[float] = []  # seconds
        self.failures: list[str] = []

    def run(self) -> None:
        """Put an event and ask for recommendations, in turn, until it has to stop."""
        client = HttpClient(self._port)
        while not self._stop_asked.is_set():
            for method, path, parameters in (
                ("POST", "/put_user_event", {"item_id": len(self.latencies)}),
                ("GET", "/recommendations", {"k": 10}),
            ):
                start = time.monotonic()
                try:
                    client.call(method, path, user_id=self._user, **parameters)
                except OSError as error:
                    self.failures.append(str(error))
                    client = HttpClient(self._port)
                self.latencies.append(time.monotonic() - start)


def bad_request(rng: random.Random) -> tuple[str, list[bytes]]:
    """Draw a kind of bad request from KINDS; return it and the pieces to send one by one."""
    valid = rng.choice(REQUESTS) % (NEW_IDS + rng.randrange(10**6)) + HEAD + b"\r\n"
    match kind := rng.choice(KINDS):
        case "half":
            pieces = [valid[: rng.randrange(1, len(valid) - 1)]]
        case "random bytes":
            pieces = [rng.randbytes(rng.randrange(1, 3000))]
        case "changed bytes":
            changed = bytearray(valid)
            for _ in range(rng.randrange(1, 6)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            pieces = [bytes(changed)]
        case "byte by byte":
            pieces = [valid[i : i + 1] for i in range(20)]
        case "endless headers":
            pieces = [valid[:-2], *(b"X-%d: %s\r\n" % (i, b"y" * 4000) for i in range(20))]
        case "short body":
            pieces = [valid[:-2] + b"Content-Length: 5000\r\n\r\n" + rng.randbytes(100)]
        case _:
            pieces = []
    return kind, pieces


async def connect(port: int, rng: random.Random) -> str:
    """Open a bad connection, send its request and close it; return its kind."""
    kind, pieces = bad_request(rng)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(OSError):  # the service may have closed the connection
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1 << 16), ANSWER_SECONDS)
    if rng.random() < 0.5:  # a lingering time of 0 makes close() send a reset
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    return kind


async def connect_many(port: int, n: int, at_once: int, rng: random.Random) -> Counter[str]:
    """Open n bad connections, at most `at_once` at a time; return the number of each kind."""
    left, kinds = iter(range(n)), Counter[str]()

    async def one_after_the_other() -> None:
        for _ in left:
            try:
                kinds[await connect(port, rng)] += 1
            except OSError as error:
                kinds[f"no connection ({error})"] += 1

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return kinds


def main() -> int:
    """Run bad connections beside regular clients; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("data"), help="folder with a release (data)"
    )
    parser.add_argument("--connections", type=int, default=10_000, help="bad connections (10000)")
    parser.add_argument("--at-once", type=int, default=400, help="bad ones open at a time (400)")
    parser.add_argument("--port", type=int, help="port of a running service or a proxy before it")
    parser.add_argument("--others", type=int, default=4, help="regular clients (4)", dest="clients")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (1)")
    options = parser.parse_args()
    stop = threading.Event()
    with ExitStack() as stack:
        port = options.port
        if not port:
            state = stack.enter_context(tempfile.TemporaryDirectory())
            service = serving(options.work, LOG_LEVEL="WARNING", STATE=state)
            port = stack.enter_context(service).port
        clients = [Client(port, 10**6 + i, stop) for i in range(options.clients)]
        for client in clients:
            client.start()
        rng = random.Random(options.seed)
        kinds = asyncio.run(connect_many(port, options.connections, options.at_once, rng))
        stop.set()
        for client in clients:
            client.join()
    latencies = sorted(seconds for client in clients for seconds in client.latencies)
    failures = [failure for client in clients for failure in client.failures]
    counts = ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())
    print(f"{kinds.total():,} bad connections: {counts}")
    if latencies:
        p99 = latencies[len(latencies) * 99 // 100] * 1000
        print(
            f"{len(latencies):,} requests of regular clients: {len(failures)} failed, "
            f"p99 {p99:.0f} ms",
            *failures[:3],
            sep="\n",
        )
    return int(bool(failures) or len(latencies) < options.clients)


if __name__ == "__main__":
    script.run(main)
