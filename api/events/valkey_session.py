"""A session with Valkey: two connections to the primary, which is set up as it has to be.

Both are checked at each connect: password, role and settings. Reads do not wait behind writes,
which may wait for the disk or for a replica. If one connection ends, both do: after a failover, one
must not go on with the old primary while the other has the new one.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from ssl import SSLContext

from hiredis import ReplyError

from api.events.valkey_client import Command, Connection, Lost, Refused, Replies, checked, connect
from api.settings import PREFIX, Settings, SettingsError
from jobs.contract import valkey
from jobs.contract.valkey import Access, Server

READ_SECONDS = 0.2  # after which an answer goes on with the list that was seen last
WRITE_SECONDS = 0.7  # after which a put is refused, and the session ends
SCRIPTS = (
    valkey.PUT, valkey.FORGET, valkey.FORGOTTEN_SINCE, valkey.NUMBER, valkey.ADOPT
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Which Valkey to use, and what it has to promise."""

    server: Server
    access: Access = field(repr=False)
    tls: SSLContext | None = None
    unverified: bool = False  # whether it may forbid to look at its settings
    replicas: int | None = None  # how many must have each event; None: it must have no replica


def target_of(settings: Settings) -> Target:
    """Return which Valkey the settings name. SettingsError if a file of them can't be used."""
    assert settings.events
    try:
        access = settings.events_access
        tls = valkey.tls_context(settings.events, access)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}EVENTS={settings.events}: expected {error}") from None
    unverified = settings.events_unverified == "on"
    return Target(settings.events, access, tls, unverified, settings.events_replicas)


class Session:
    """Two connections to one primary. `end` and the loss of one end both; `ended` is set then."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.name = ""  # of the host
        self.reason = ""  # why it ended
        self.verified = True  # whether the server showed its settings
        self.reads: Connection
        self.writes: Connection
        self._connections: list[Connection] = []

    async def open(self, target: Target, host: str, port: int) -> None:
        """Connect to a host. Lost or Refused with the reason if it can't be used."""
        self.name = f"Valkey at {host}:{port}"
        runs = []
        try:
            for _ in range(2):
                connection = await connect(host, port, target.tls, self._connection)
                self._connections.append(connection)
                runs.append(_check(target, await connection.ask(_greeting(target)), self))
            if runs[0] != runs[1]:
                raise Refused("two connections reach two servers: name one of them")
            self.reads, self.writes = self._connections
            checked(await self.writes.ask([("SCRIPT", "LOAD", script) for script in SCRIPTS]))
        except (Lost, Refused) as error:
            self.end(str(error))
            raise
        self.reads.late_after = READ_SECONDS

    def _connection(self) -> Connection:
        return Connection(WRITE_SECONDS, WRITE_SECONDS, self.end)

    def end(self, reason: str) -> None:
        """Close both connections."""
        if self.ended.is_set():
            return
        self.reason = f"{self.name}: {reason}"
        self.ended.set()
        for connection in self._connections:
            connection.end(self.reason)


async def open_session(target: Target) -> Session:
    """Return a session with the first host that is a primary and can be used; else Lost, Refused.

    The text names the host, and what to change.
    """
    failures: list[Exception] = []
    for host, port in target.server.hosts:
        session = Session()
        try:
            await session.open(target, host, port)
        except (Lost, Refused) as error:
            failures.append(type(error)(f"{session.name}: {error}"))
        else:
            return session
    kind = Refused if all(isinstance(error, Refused) for error in failures) else Lost
    raise kind("; ".join(map(str, failures)))


async def check_server(settings: Settings) -> None:
    """Raise SettingsError if Valkey can't keep the promises; do nothing if it doesn't answer."""
    with suppress(Lost):
        try:
            session = await open_session(target_of(settings))
        except Refused as error:
            if not str(error).partition(": ")[2].startswith(("LOADING", "BUSY")):
                raise SettingsError(f"{PREFIX}EVENTS={settings.events}: {error}") from None
        else:
            session.end("it was only looked at")


def _greeting(target: Target) -> list[Command]:
    access, server = target.access, target.server
    user = (server.user,) if server.user else ()
    return [
        *([("AUTH", *user, access.password)] if access.password else []),
        ("SELECT", server.db),
        ("INFO", "server"),
        ("ROLE",),
        ("CONFIG", "GET", *valkey.ASKED),
    ]


def _check(target: Target, replies: Replies, session: Session) -> str:
    """Return which run of the server answered a greeting; Refused if it can't be used."""
    *others, config = replies
    *_, info, role = checked(others)
    if role[0] != b"master":
        raise Refused("it is a replica: name the primary, or all hosts separated by commas")
    if target.replicas is None and role[2]:
        raise Refused(
            f"it has {len(role[2])} replica(s): set RECO_EVENTS_REPLICAS to how many must have an "
            "event before it counts as stored, 1 for a failover that loses none, or 0"
        )
    if isinstance(config, ReplyError):
        if not target.unverified:
            raise Refused(
                f"it does not show its settings ({config}): allow `CONFIG GET`, or set "
                "RECO_EVENTS_UNVERIFIED=on once you know that they are right"
            )
        session.verified = False
    else:
        texts = [text.decode() for text in config]
        broken = valkey.broken_promise(dict(zip(texts[::2], texts[1::2], strict=True)))
        if broken:
            raise Refused(broken)
    return next((line for line in info.decode().splitlines() if line.startswith("run_id:")), "")
