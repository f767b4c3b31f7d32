"""An HTTP client for the benchmark: keep-alive connections, a few microseconds a call."""

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import cast

import uvloop

Due = tuple[float, bytes]  # when a request was due, and its bytes


class WrongAnswer(Exception):
    """A status other than 200, or none: says what came."""


@dataclass
class Load:
    """What to ask next, and what came back."""

    following: Callable[[], Due | None]
    latencies: list[float] = field(default_factory=list)  # seconds since the request was due
    wrong: list[bytes] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """Sends one request at a time; after each answer the next, if there is one."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._answer, self._due = b"", 0.0
        self.idle = True
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        self._transport = cast(asyncio.Transport, transport)

    def go_on(self) -> None:
        """Send the next request, if there is one."""
        request = self._load.following()
        self.idle = request is None
        if request is not None:
            self._due, content = request
            self._transport.write(content)

    def data_received(self, data: bytes) -> None:
        """Note the time once the answer is whole."""
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].split()[0]):
            return
        if head[9:12] != b"200":
            self._load.wrong.append(self._answer)
        self._load.latencies.append(time.perf_counter() - self._due)
        self._answer = b""
        self.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        """The service should not close a connection but one that has long been idle."""
        self.closed = True
        if not self.idle:
            self._load.wrong.append(b"the connection was closed")


async def _connect(port: int, n: int, load: Load) -> list[Connection]:
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port) for _ in range(n)
    ]
    return [connection for _, connection in pairs]


async def _closed(
    port: int, requests: Iterator[bytes], connections: int, seconds: float = float("inf")
) -> Load:
    end = time.perf_counter() + seconds

    def following() -> Due | None:
        now = time.perf_counter()
        content = next(requests, None) if now < end else None
        return None if content is None else (now, content)

    load = Load(following)
    clients = await _connect(port, connections, load)
    for client in clients:
        client.go_on()
    while not all(client.idle for client in clients) and not load.wrong:
        await asyncio.sleep(0.01)
    return load


async def _open(
    port: int, requests: Iterator[bytes], connections: int, rate: float, seconds: float
) -> Load:
    waiting: deque[Due] = deque()
    load = Load(lambda: waiting.popleft() if waiting else None)
    clients = await _connect(port, connections, load)
    start = time.perf_counter()
    sent = 0
    while (now := time.perf_counter()) < start + seconds:
        while sent < (now - start) * rate:
            waiting.append((start + sent / rate, next(requests)))
            sent += 1
        for client in clients:
            if client.idle and not client.closed and waiting:
                client.go_on()
        await asyncio.sleep(0.0005)
    while waiting and not load.wrong:  # late ones count
        await asyncio.sleep(0.01)
    return load


def request_of(line: str) -> bytes:
    """The bytes of a line like "GET /path", or "GET /path KEY"."""
    method, path, *keys = line.split()
    heads = "".join(f"X-API-Key: {key}\r\n" for key in keys)
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{heads}Content-Length: 0\r\n\r\n".encode()
    )


def closed_loop(port: int, lines: list[str], connections: int, seconds: float) -> float:
    """Requests a second, where every connection sends the next as soon as it has an answer."""
    requests = cycle([request_of(line) for line in lines])
    return len(_checked(uvloop.run(_closed(port, requests, connections, seconds)))) / seconds


def send(port: int, lines: list[str], connections: int) -> None:
    """Send every request once."""
    _checked(uvloop.run(_closed(port, iter([request_of(line) for line in lines]), connections)))


def open_loop(
    port: int, lines: list[str], connections: int, rate: float, seconds: float
) -> list[float]:
    """Seconds that each answer took since its request was due, at so many requests a second.

    A request waits for a free connection, and that counts.
    """
    requests = cycle([request_of(line) for line in lines])
    gc.disable()
    try:
        return _checked(uvloop.run(_open(port, requests, connections, rate, seconds)))
    finally:
        gc.enable()


def _checked(load: Load) -> list[float]:
    if load.wrong:
        raise WrongAnswer(f"{len(load.wrong)} wrong answers, the first: {load.wrong[0]!r}")
    return load.latencies
