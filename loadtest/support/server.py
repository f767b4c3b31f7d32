"""The service as a process of its own, for scripts that start, kill and measure it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).parents[2]


@contextmanager
def started(work: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Serve WORK on a free port until the block ends: yields the process and the port.

    The settings are RECO_ variables, without the prefix.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RECO_")}
    own = {f"RECO_{name}": value for name, value in (settings | {"WORK": str(work)}).items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "litestar", "run", "--port", str(port)],
        cwd=ROOT, env=inherited | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(process, port)
        yield process, port
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            Caller(port).call("GET", "/health/live")
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("The service does not start: try `litestar run` by hand")


class Caller:
    """One connection that is kept alive."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)

    def call(self, method: str, path: str, **parameters: int) -> Any:
        """The JSON of an answer with status 200; OSError where there is no such answer."""
        try:
            self._connection.request(method, f"{path}?{urlencode(parameters)}")
            answer = self._connection.getresponse()
            text = answer.read()
        except Exception as error:
            raise OSError(f"no answer: {error!r}") from error
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status} {text.decode()}")
        return json.loads(text)
