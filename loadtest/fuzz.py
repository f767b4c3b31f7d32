"""Trouble the service through thousands of raw sockets while others use it.

    python -m loadtest.fuzz [--work data] [--connections 10000] [--at-once 400] [--port 8080]

Starts the service, or takes the one on --port. Each connection sends one of: half a request, random
bytes, a right request with a few bytes changed, one byte after the other, a head that doesn't end,
a body shorter than it says, or nothing; then it waits a moment and goes, some without a goodbye.
Meanwhile four others ask for recommendations and put events. One failed request of theirs, or an
end of the service, makes the exit code 1. With --others 0 nobody does: run locust beside it, whose
users are none of those that stand in the broken requests.
"""

import argparse
import asyncio
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

from loadtest.support.server import Caller, started

NEW_IDS = 2**52  # from here on nobody is known


PATIENCE = 0.5  # seconds that a connection waits for an answer


REQUEST = b"POST /put_user_event?user_id=%d&item_id=5 HTTP/1.1\r\nHost: x\r\n"


class Other(threading.Thread):
    """Someone who uses the service as meant, until told to stop."""

    def __init__(self, port: int, user: int, stop: threading.Event) -> None:
        super().__init__()
        self._port, self._user, self._stop_asked = port, user, stop
        self.seconds: list[float] = []
        self.failed: list[str] = []

    def run(self) -> None:
        """Put and ask, in turn."""
        caller = Caller(self._port)
        while not self._stop_asked.is_set():
            for method, path, more in (
                ("POST", "/put_user_event", {"item_id": len(self.seconds)}),
                ("GET", "/recommendations", {"k": 10}),
            ):
                start = time.monotonic()
                try:
                    caller.call(method, path, user_id=self._user, **more)
                except OSError as error:
                    self.failed.append(str(error))
                    caller = Caller(self._port)
                self.seconds.append(time.monotonic() - start)


def trouble(source: random.Random) -> tuple[str, list[bytes]]:
    """A kind of trouble, and what to send of it piece by piece."""
    right = REQUEST % (NEW_IDS + source.randrange(10**6)) + b"\r\n"
    kind = source.choice(("half", "garbage", "changed", "slow", "endless", "short body", "nothing"))
    if kind == "half":
        return kind, [right[: source.randrange(1, len(right) - 1)]]
    if kind == "garbage":
        return kind, [source.randbytes(source.randrange(1, 3000))]
    if kind == "changed":
        changed = bytearray(right)
        for _ in range(source.randrange(1, 6)):
            changed[source.randrange(len(changed))] = source.randrange(256)
        return kind, [bytes(changed)]
    if kind == "slow":
        return kind, [right[i : i + 1] for i in range(20)]
    if kind == "endless":
        return kind, [right[:-2], *(b"X-%d: %s\r\n" % (i, b"y" * 4000) for i in range(20))]
    if kind == "short body":
        return kind, [right[:-2] + b"Content-Length: 5000\r\n\r\n" + source.randbytes(100)]
    return kind, []


async def connect(port: int, source: random.Random) -> str:
    """One connection from its begin to its end; its kind."""
    kind, pieces = trouble(source)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(OSError):  # the service may have closed it
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02 if len(pieces) > 1 else 0)
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1 << 16), PATIENCE)
    if source.random() < 0.5:  # a reset in place of a goodbye
        own = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    return kind


async def connect_many(port: int, n: int, at_once: int, source: random.Random) -> Counter[str]:
    """So many connections, at most `at_once` at a time: how many of each kind."""
    left, kinds = iter(range(n)), Counter[str]()

    async def one_after_the_other() -> None:
        for _ in left:
            try:
                kinds[await connect(port, source)] += 1
            except OSError as error:
                kinds[f"no connection ({error})"] += 1

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    return kinds


def main() -> int:
    """Trouble it and count; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("data"), help="folder with a release")
    parser.add_argument("--connections", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--at-once", type=int, default=400, help="of them at a time (400)")
    parser.add_argument("--port", type=int, help="of a service that runs, or a proxy before it")
    parser.add_argument("--others", type=int, default=4, help="who use it as meant (4)")
    parser.add_argument("--seed", type=int, default=1, help="of the troubles (1)")
    options = parser.parse_args()
    stop = threading.Event()
    with ExitStack() as stack:
        port = options.port
        if not port:
            state = stack.enter_context(tempfile.TemporaryDirectory())
            service = started(options.work, LOG_LEVEL="WARNING", STATE=state)
            _, port = stack.enter_context(service)
        others = [Other(port, 10**6 + i, stop) for i in range(options.others)]
        for other in others:
            other.start()
        source = random.Random(options.seed)
        kinds = asyncio.run(connect_many(port, options.connections, options.at_once, source))
        stop.set()
        for other in others:
            other.join()
    seconds = sorted(second for other in others for second in other.seconds)
    failed = [reason for other in others for reason in other.failed]
    print(f"{kinds.total():,} connections: {dict(kinds)}")
    if seconds:
        late = seconds[len(seconds) * 99 // 100] * 1000
        found = f"{len(failed)} failed, 99 % within {late:.0f} ms"
        print(f"{len(seconds):,} requests of others: {found}", *failed[:3], sep="\n")
    return int(bool(failed) or len(seconds) < options.others)


if __name__ == "__main__":
    sys.exit(main())
