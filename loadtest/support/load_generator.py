"""Send many requests over kept-alive connections, with a few microseconds of CPU time for each.

A request is written as a line "METHOD /path" or "METHOD /path KEY"; KEY is sent as X-API-Key.
"""

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import cast

import uvloop

CONNECTIONS = 16

# wrk runs this script: it sends the lines of the file BENCH_REQUESTS in turn.
WRK_SCRIPT = """
local requests, place = {}, 0
function init()
  for line in io.lines(os.getenv("BENCH_REQUESTS")) do
    local method, path, key = line:match("(%S+) (%S+) ?(%S*)")
    local headers = key ~= "" and {["X-API-Key"] = key} or nil
    requests[#requests + 1] = wrk.format(method, path, headers)
  end
end
function request()
  place = place % #requests + 1
  return requests[place]
end
"""


Due = tuple[float, bytes]  # the time at which a request was due, and its bytes


class WrongAnswer(Exception):
    """An answer with another status than 200, or a closed connection."""


@dataclass
class Load:
    """The requests to send, and the outcome of those that were sent.

    `following` returns the next request, or None if there is none now.
    """

    following: Callable[[], Due | None]
    latencies: list[float] = field(default_factory=list)  # seconds since a request was due
    wrong: list[bytes] = field(default_factory=list)  # wrong answers, as in WrongAnswer


class Connection(asyncio.Protocol):
    """A connection with one request at a time: it sends the next one when it has the answer."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._answer, self._due = b"", 0.0
        self.idle = True
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport, which requests are written to."""
        self._transport = cast(asyncio.Transport, transport)

    def send_next(self) -> None:
        """Send the next request, if there is one."""
        request = self._load.following()
        self.idle = request is None
        if request is not None:
            self._due, content = request
            self._transport.write(content)

    def data_received(self, data: bytes) -> None:
        """Record the latency once the answer is complete, and send the next request."""
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].split()[0]):
            return
        if head[9:12] != b"200":
            self._load.wrong.append(self._answer)
        self._load.latencies.append(time.perf_counter() - self._due)
        self._answer = b""
        self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        """Record a connection that was closed during a request; idle ones may be closed."""
        self.closed = True
        if not self.idle:
            self._load.wrong.append(b"the connection was closed")


def rate(port: int, lines: list[str], seconds: float) -> float:
    """Return the requests a second of CONNECTIONS connections that send as fast as they can.

    Each sends its next request when it has the answer. wrk does this if it is installed, because it
    leaves more CPU time to the server; otherwise this process does it.
    """
    if shutil.which("wrk"):
        return _wrk_rate(port, lines, seconds)
    load = uvloop.run(_closed_loop(port, cycle(_encoded(lines)), seconds))
    return len(_latencies(load)) / seconds


def send(port: int, lines: list[str]) -> None:
    """Send every request once. Raises WrongAnswer."""
    _latencies(uvloop.run(_closed_loop(port, iter(_encoded(lines)))))


def latencies_at_rate(port: int, lines: list[str], rate: float, seconds: float) -> list[float]:
    """Return the seconds from when each request was due to its answer, at `rate` requests a second.

    Requests become due whether or not the server keeps up (an open loop). If a request has to wait
    for a free connection, the wait is part of its latency. Raises WrongAnswer.
    """
    gc.disable()
    try:
        return _latencies(uvloop.run(_open_loop(port, cycle(_encoded(lines)), rate, seconds)))
    finally:
        gc.enable()


def _encoded(lines: list[str]) -> list[bytes]:
    """Return the bytes of each request."""
    result = []
    for line in lines:
        method, path, *keys = line.split()
        headers = "".join(f"X-API-Key: {key}\r\n" for key in keys)
        result.append(
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}"
            "Content-Length: 0\r\n\r\n".encode()
        )
    return result


def _latencies(load: Load) -> list[float]:
    """Return the latencies in seconds. Raises WrongAnswer if an answer was wrong."""
    if load.wrong:
        raise WrongAnswer(f"{len(load.wrong)} wrong answers, the first: {load.wrong[0]!r}")
    return load.latencies


def _wrk_rate(port: int, lines: list[str], seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        requests, script = Path(folder, "requests"), Path(folder, "script.lua")
        requests.write_text("\n".join(lines))
        script.write_text(WRK_SCRIPT)
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script)]
        done = subprocess.run(
            ["wrk", *options, f"http://127.0.0.1:{port}"],
            env=os.environ | {"BENCH_REQUESTS": str(requests)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        sys.exit(done.stdout)
    return float(done.stdout.partition("Requests/sec:")[2].split()[0])


async def _connect(port: int, n: int, load: Load) -> list[Connection]:
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port) for _ in range(n)
    ]
    return [connection for _, connection in pairs]


async def _closed_loop(port: int, requests: Iterator[bytes], seconds: float = float("inf")) -> Load:
    """Send requests, each after the answer to the one before, until time or requests run out."""
    end = time.perf_counter() + seconds

    def following() -> Due | None:
        now = time.perf_counter()
        content = next(requests, None) if now < end else None
        return None if content is None else (now, content)

    load = Load(following)
    connections = await _connect(port, CONNECTIONS, load)
    for connection in connections:
        connection.send_next()
    while not all(connection.idle for connection in connections) and not load.wrong:
        await asyncio.sleep(0.01)
    return load


async def _open_loop(port: int, requests: Iterator[bytes], rate: float, seconds: float) -> Load:
    """Send requests at a fixed rate, and wait for the answers to all of them."""
    waiting: deque[Due] = deque()
    load = Load(lambda: waiting.popleft() if waiting else None)
    # Many connections: a slow answer must not hold back the requests that are due after it.
    connections = await _connect(port, 4 * CONNECTIONS, load)
    start = time.perf_counter()
    sent = 0
    while (now := time.perf_counter()) < start + seconds:
        while sent < (now - start) * rate:
            waiting.append((start + sent / rate, next(requests)))
            sent += 1
        for connection in connections:
            if connection.idle and not connection.closed and waiting:
                connection.send_next()
        await asyncio.sleep(0.0005)
    while waiting and not load.wrong:  # late requests count as well
        await asyncio.sleep(0.01)
    return load
