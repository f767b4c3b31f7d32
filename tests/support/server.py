"""The service as a user starts it: `litestar run` in a process of its own, on a free port."""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


@dataclass
class Running:
    port: int
    log: Path
    process: subprocess.Popen

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


@contextmanager
def litestar_run(work: Path, workers: int = 1, **settings: str) -> Iterator[Running]:
    """Serve WORK until the block ends; settings are RECO_ variables, without the prefix."""
    port, log = free_port(), work / "service.log"
    with log.open("w") as out:
        options = ["--port", str(port), "--web-concurrency", str(workers)]
        process = start(options, out, WORK=str(work), **settings)
    try:
        running = Running(port, log, process)
        _wait(running)
        yield running
    finally:
        process.terminate()
        process.wait(10)


def start(options: list[str], out, **settings: str) -> subprocess.Popen:
    variables = {f"RECO_{name}": value for name, value in settings.items()}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RECO_")}
    return subprocess.Popen(
        [sys.executable, "-m", "litestar", "run", *options],
        cwd=ROOT, env=inherited | variables, stdout=out, stderr=subprocess.STDOUT,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _wait(running: Running) -> None:
    for _ in range(200):
        assert running.process.poll() is None, running.log.read_text()
        try:
            httpx.get(f"{running.url}/health/live")
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(running.log.read_text())


def limit_files(process: subprocess.Popen, size: int | None) -> None:
    """Let no file of a running process grow beyond a size, as on a full disk; None: let them."""
    hard = resource.RLIM_INFINITY
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
