"""Start the service as its users do, by `litestar run` in a process of its own.

The scripts of the load test and the tests (tests/support/server.py) all start the service by this
module. It is here because the load test imports nothing else of the project, so that it can be
copied and run alone.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
START_SECONDS, STOP_SECONDS = 120, 60  # longest waits for the start and the end of the service


@dataclass(frozen=True)
class Server:
    """A running `litestar run`."""

    process: subprocess.Popen[bytes]
    port: int
    seconds: float  # from the start of the process until the first answer

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self.port}"

    def memory(self, *kinds: str) -> float:
        """Return MiB of memory of the process, summed over kinds as "Private_Dirty".

        The kinds are those of /proc/PID/smaps_rollup.
        """
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        sizes = dict(line.split(":") for line in text.splitlines()[1:])
        return sum(int(sizes[kind].split()[0]) for kind in kinds) / 1024

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process and its children have used so far."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(map(cpu_seconds, [pid, *map(int, children)]))


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far."""
    # The name of the process, in parentheses, can hold spaces: count the fields after it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]), int(fields[12])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def launch(
    options: list[str],
    environment: Mapping[str, str],
    output: IO[Any] | int = subprocess.DEVNULL,
    app: str = "",
    server: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """Start `litestar run OPTIONS` without waiting for it; `app` names another app as module:name.

    `server` is a module with options that serves the app in place of `litestar run`.

    The process gets the variables of `environment`, and those of this process but for the service's
    settings (RECO_*). Its console output goes to `output`.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RECO_")}
    command = [sys.executable, "-m", "litestar", *(["--app", app] if app else []), "run"]
    if server:
        command = [sys.executable, "-m", *server, app]
    return subprocess.Popen(
        [*command, *options],
        cwd=ROOT, env={**inherited, **environment}, stdout=output, stderr=subprocess.STDOUT,
    )  # fmt: skip


@contextmanager
def running(
    environment: Mapping[str, str],
    *options: str,
    output: IO[Any] | int = subprocess.DEVNULL,
    app: str = "",
    answers: str = "/health/live",
    server: Sequence[str] = (),
) -> Iterator[Server]:
    """Run a server on a free port until the block ends.

    The block starts as soon as a GET of the path `answers` is answered with status 200. If the
    server ends before that, or does not answer in START_SECONDS, this process exits with one line.
    """
    port, start = free_port(), time.monotonic()
    process = launch(["--port", str(port), *options], environment, output, app, server)
    try:
        _wait(process, f"http://127.0.0.1:{port}{answers}")
        yield Server(process, port, time.monotonic() - start)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def serving(work: Path, **settings: str) -> AbstractContextManager[Server]:
    """Serve WORK until the block ends; the settings are RECO_ variables without the prefix."""
    return running(variables(WORK=str(work), **settings))


def variables(**settings: str) -> dict[str, str]:
    """Return the environment variables of settings that are named without the prefix RECO_."""
    return {f"RECO_{name}": value for name, value in settings.items()}


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait until a GET of the URL is answered with status 200; exit if it never is."""
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            with urlopen(url, timeout=10):
                return
        except (OSError, HTTPException):  # an answer of another status is an OSError as well
            time.sleep(0.01)
    code = process.poll()
    reason = "it did not answer in time" if code is None else f"it ended with exit code {code}"
    sys.exit(f"The service did not start ({reason}): run `litestar run` by hand to see why")
