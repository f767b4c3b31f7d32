"""A connection to Valkey for jobs: one command list at a time, with the replies in a list."""

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from jobs.contract import valkey
from jobs.contract.storage import JobError
from jobs.contract.valkey import Server

SECONDS = 30.0  # the longest wait for Valkey
AT_A_TIME = 1000  # commands between two waits

Command = Sequence[str | int | bytes]


class Client:
    """Asks a server; JobError for whatever it does not do."""

    def __init__(self, link: socket.socket, name: str) -> None:
        from hiredis import Reader

        self._link, self._name = link, name
        self._reader = Reader(notEnoughData=self)

    def ask(self, *words: str | int | bytes) -> Any:
        """Return the reply to one command."""
        return next(self.ask_all([words]))

    def ask_all(self, commands: Iterable[Command]) -> Iterator[Any]:
        """Yield the reply to each command, in their order; all are sent once it is exhausted."""
        from hiredis import ReplyError, pack_command

        rest = iter(commands)
        while some := [*islice(rest, AT_A_TIME)]:
            packed: list[bytes] = [pack_command(tuple(command)) for command in some]  # type: ignore[arg-type]
            try:
                self._link.sendall(b"".join(packed))
                replies = [self._reply() for _ in some]
            except OSError as error:
                raise JobError(f"{self._name} does not answer ({error}): try again") from None
            for reply in replies:
                if isinstance(reply, ReplyError):
                    raise JobError(f"{self._name} refused a command: {reply}")
                yield reply

    def script(self, text: str, keys: Sequence[str], *arguments: str | int | bytes) -> Any:
        """Return what a script returns."""
        return self.ask("EVAL", text, len(keys), *keys, *arguments)

    def _reply(self) -> Any:
        while (reply := self._reader.gets()) is self:
            data = self._link.recv(1 << 16)
            if not data:
                raise OSError("it closed the connection")
            self._reader.feed(data)
        return reply


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to the primary that an address names; JobError with what to do if that fails.

    Password and certificates are those of the service's variables RECO_EVENTS_*.
    """
    try:
        import hiredis  # noqa: F401
    except ImportError:
        raise JobError(
            "--store needs the package hiredis: pip install -r requirements-valkey.txt"
        ) from None
    try:
        server = valkey.parse_server(address)
    except ValueError as error:
        shown = "a text with a password" if "password" in str(error) else repr(address)
        raise JobError(f"--store {shown}: expected {error}") from None
    reasons = []
    for host, port in server.hosts:
        try:
            link = _open(server, host, port)
        except (OSError, ValueError) as error:
            reasons.append(f"{host}:{port}: {error}")
            continue
        with link:
            client = Client(link, f"Valkey at {host}:{port}")
            if _greet(client, server):
                yield client
                return
        reasons.append(f"{host}:{port}: it is a replica")
    raise JobError(
        f"no host of {server} can be used ({'; '.join(reasons)}): check the address, the password "
        "and the certificates, and that one of the hosts is a primary"
    )


def _open(server: Server, host: str, port: int) -> socket.socket:
    tls = valkey.tls_context(server, valkey.access_from(os.environ))
    link = socket.create_connection((host, port), SECONDS)
    return tls.wrap_socket(link, server_hostname=host) if tls else link


def _greet(client: Client, server: Server) -> bool:
    """Log in; return whether the server is a primary."""
    password = valkey.access_from(os.environ).password
    if password:
        client.ask("AUTH", *([server.user] if server.user else []), password)
    client.ask("SELECT", server.db)
    return bool(client.ask("ROLE")[0] == b"master")
