"""The service as a user starts it, with its console output in a file that tests can read."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from loadtest.support import server
from loadtest.support.server import ROOT, free_port

__all__ = ["ROOT", "Running", "free_port", "limit_files", "litestar_run", "start"]


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
    log = work / "service.log"
    environment = server.variables(WORK=str(work), **settings)
    with log.open("w") as output:
        options = ["--web-concurrency", str(workers)]
        try:
            with server.running(environment, *options, output=output) as running:
                yield Running(running.port, log, running.process)
        except SystemExit as error:  # it did not start
            raise AssertionError(f"{error}\n{log.read_text()}") from None


def start(options: list[str], output: IO[Any] | int, **settings: str) -> subprocess.Popen:
    """Start `litestar run` without waiting for it."""
    return server.launch(options, server.variables(**settings), output)


def limit_files(process: subprocess.Popen, size: int | None) -> None:
    """Let no file of a running process grow beyond a size, as on a full disk; None: let them."""
    hard = resource.RLIM_INFINITY
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
