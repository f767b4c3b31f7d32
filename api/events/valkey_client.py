"""A connection to Valkey for asyncio: hiredis packs and parses, and requests are sent together.

Libraries for Valkey and Redis take some 200 µs of processor time for each request of the service,
more than the request itself takes. This takes a tenth of that, as it does only what is needed here.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from ssl import SSLContext
from typing import Any

from hiredis import ProtocolError, Reader, ReplyError, pack_command

CHECK_SECONDS = 0.05  # between two looks at how long the oldest request has been waiting
CONNECT_SECONDS = 0.5
NO_REPLY = object()  # what the reader gives where the reply is not complete

Command = tuple[str | int | bytes, ...]
Replies = list[Any]
# gets the replies, or None and why there are none
Done = Callable[[Replies | None, str], None]


class Lost(Exception):
    """The connection ended, or a reply did not come in time: what was sent may be done or not."""


class Refused(Exception):
    """Valkey answered that it won't do something, or it is not set up as it has to be."""


class Connection(asyncio.Protocol):
    """One connection. Replies come in the order of the requests.

    A request that waits for `late_after` seconds is told that there is no reply; until its reply
    comes, the connection is `late`. One that waits for `ends_after` seconds ends the connection,
    and with it all requests that wait. `on_lost(reason)` is called once, when it has ended.
    """

    def __init__(
        self, late_after: float, ends_after: float, on_lost: Callable[[str], None]
    ) -> None:
        self.late_after = late_after
        self._ends_after = ends_after
        self._on_lost = on_lost
        self._reader = Reader(notEnoughData=NO_REPLY)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._check: asyncio.TimerHandle | None = None
        # of each request that was sent: how many replies it gets, when it was, and what to call
        self._waiting: deque[tuple[int, float, Done]] = deque()
        self._told: deque[tuple[int, float]] = deque()  # those before, which were told: no reply
        self._replies: Replies = []  # of the oldest request, so far
        self.ended = False

    @property
    def late(self) -> bool:
        """Whether the oldest request has been waiting for too long."""
        return bool(self._told)

    @property
    def waiting_seconds(self) -> float:
        """For how long the oldest request has been waiting; 0 if none is."""
        oldest = self._told[0][1] if self._told else self._waiting[0][1] if self._waiting else None
        return 0.0 if oldest is None else self._loop.time() - oldest

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is of a type of its own

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        self.end(f"the connection was closed ({error})" if error else "the connection was closed")

    def send(self, n_replies: int, packed: bytes, done: Done) -> None:
        """Send commands that were packed, which get so many replies."""
        if self.ended or self._transport is None:
            done(None, "there is no connection")
            return
        self._waiting.append((n_replies, self._loop.time(), done))
        self._transport.write(packed)
        if self._check is None:
            self._check = self._loop.call_later(CHECK_SECONDS, self._look)

    async def ask(self, commands: Sequence[Command]) -> Replies:
        """Send commands and return their replies; an error of Valkey's is a ReplyError in them.

        Lost if there are none.
        """
        answered: asyncio.Future[Replies] = self._loop.create_future()

        def done(replies: Replies | None, reason: str) -> None:
            if answered.done():
                return
            if replies is None:
                answered.set_exception(Lost(reason))
            else:
                answered.set_result(replies)

        self.send(len(commands), packed(commands), done)
        return await answered

    def data_received(self, data: bytes) -> None:
        """Hand replies to whoever waits for them."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not NO_REPLY:
                self._replies.append(reply)
                if self._told:
                    if len(self._replies) == self._told[0][0]:
                        self._told.popleft()
                        self._replies = []
                elif self._waiting and len(self._replies) == self._waiting[0][0]:
                    _, _, done = self._waiting.popleft()
                    replies, self._replies = self._replies, []
                    done(replies, "")
        except ProtocolError as error:
            self.end(f"it sent what is no reply ({error})")

    def end(self, reason: str) -> None:
        """Close the connection and tell all who wait why there is no reply."""
        if self.ended:
            return
        self.ended = True
        if self._check:
            self._check.cancel()
        if self._transport:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        self._told.clear()
        self._on_lost(reason)
        for _, _, done in waiting:
            done(None, reason)

    def _look(self) -> None:
        """Look in a moment at who waits too long, if there is anybody.

        Where other work held up this loop, replies may be there already: they are read before.
        """
        late = self._waited(self.late_after) or self._waited(self._ends_after)
        wait, then = (0.001, self._tell) if late else (CHECK_SECONDS, self._look)
        waits = self._waiting or self._told
        self._check = self._loop.call_later(wait, then) if waits else None

    def _tell(self) -> None:
        """Tell those who wait too long, and end the connection if they wait much too long."""
        if self._waited(self._ends_after):
            self.end(f"it did not answer within {self._ends_after:g} s")
            return
        reason = f"it did not answer within {self.late_after:g} s"
        while self._waited(self.late_after):
            n_replies, since, done = self._waiting.popleft()
            self._told.append((n_replies, since))
            done(None, reason)
        waits = self._waiting or self._told
        self._check = self._loop.call_later(CHECK_SECONDS, self._look) if waits else None

    def _waited(self, seconds: float) -> bool:
        """Return whether the oldest request that was not told yet has waited so long."""
        if seconds == self._ends_after:
            return self.waiting_seconds >= seconds
        return bool(self._waiting) and self._loop.time() - self._waiting[0][1] >= seconds


def pack(command: Command) -> bytes:
    """Return a command in the form in which Valkey reads it."""
    result: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub asks for one word
    return result


def packed(commands: Iterable[Command]) -> bytes:
    """Return several commands as `pack` does."""
    return b"".join([pack(command) for command in commands])


async def connect(
    host: str,
    port: int,
    tls: SSLContext | None,
    make: Callable[[], Connection],
) -> Connection:
    """Return a new connection. Lost with the reason if there is none."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(make, host, port, ssl=tls)
    except TimeoutError:
        raise Lost(f"it can't be reached within {CONNECT_SECONDS:g} s") from None
    except (OSError, UnicodeError) as error:
        raise Lost(f"it can't be reached ({error})") from None
    return connection


def checked(replies: Replies) -> Replies:
    """Return the replies; Refused if one of them is an error."""
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise Refused(str(reply))
    return replies
