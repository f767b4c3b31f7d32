"""Puts into Valkey: those of one turn of the event loop are sent together, each a script.

Where replicas must have an event, a WAIT follows each group of puts. Valkey answers nothing else on
that connection meanwhile, so only one group is under way, and the puts that come join the next one.

    put ---> group ---> sent with the session in which it was made ---> stored, or JournalError
               ^                        |
               '-- with replicas, waits while another group is under way

A put whose session ended is refused, whether it was sent or not: the number that stands for a track
may be that of another one in the next session.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from hiredis import ReplyError

from api.events.health import JournalHealth
from api.events.journal import JournalError
from api.events.valkey_client import Command, Lost, Refused, Replies, pack, packed
from api.events.valkey_link import Link
from api.events.valkey_session import Session
from jobs.contract import valkey
from jobs.contract.journal import Id

WAIT_MILLISECONDS = 300  # for replicas
PUT = valkey.sha_of(valkey.PUT)
OF_THE_MOMENT = ("OOM", "MISCONF", "NOREPLICAS")  # errors after which the server is the same


class Puts:
    """The puts of a store; `replicas` is how many must have each event."""

    def __init__(self, link: Link, health: JournalHealth, per_user: int, replicas: int) -> None:
        self._link, self._health = link, health
        self._per_user, self._replicas = per_user, replicas
        self._session: Session | None = None  # of the group
        self._group: list[tuple[bytes, asyncio.Future[None]]] = []
        self._under_way: Session | None = None  # in which a group is sent that waits for replicas

    def put(self, user_id: Id, number: int) -> "asyncio.Future[None]":
        """Store an event of the track that a number stands for: done, or JournalError."""
        loop = asyncio.get_running_loop()
        if not self._group:
            self._session = self._link.session
            loop.call_soon(self.send)
        stored = loop.create_future()
        shard, keys = valkey.place_of(user_id)
        command = "EVALSHA", PUT, 4, *keys, shard, user_id, number, self._per_user
        self._group.append((pack(command), stored))
        return stored

    def send(self, at_once: bool = False) -> None:
        """Send the group, unless it has to wait for the one before; `at_once` sends it anyway."""
        session = self._session
        waits = self._under_way is not None and not self._under_way.ended.is_set()
        if not self._group or (waits and not at_once and session is self._under_way):
            return
        group, self._group = self._group, []
        futures = [stored for _, stored in group]
        if session is None or session is not self._link.session:
            self._refuse(futures, away(self._health))
            return
        commands = b"".join([command for command, _ in group]) + packed(self.wait())
        if self._replicas:
            self._under_way = session
        n_replies = len(group) + len(self.wait())
        session.writes.send(n_replies, commands, partial(self._stored, session, futures))

    def _stored(
        self,
        session: Session,
        futures: "list[asyncio.Future[None]]",
        replies: Replies | None,
        reason: str,
    ) -> None:
        """Tell those who put events what has become of them."""
        self._under_way = None
        if replies is None:
            self._refuse(futures, unknown(Lost(reason)))
            replies = []
        problem = self.too_few(replies[len(futures) :])
        for stored, reply in zip(futures, replies, strict=False):
            if isinstance(reply, ReplyError):
                self._refuse([stored], unknown(reply))
            elif problem:
                self._refuse([stored], problem)
            elif not stored.done():  # its request may have been cancelled
                stored.set_result(None)
        errors = [reply for reply in replies if isinstance(reply, ReplyError)]
        if errors:
            self.failed(Refused(str(errors[0])), session)
        elif replies and not problem and self._health.problem:
            self._health.note_success("put")
        self.send()

    def wait(self) -> list[Command]:
        """Return what to send after writes so that replicas have them, if any must."""
        return [("WAIT", self._replicas, WAIT_MILLISECONDS)] if self._replicas else []

    def too_few(self, replies: Replies) -> str | None:
        """Return why writes don't count, by the reply to `wait`; None if replicas have them."""
        if not replies or (isinstance(replies[0], int) and replies[0] >= self._replicas):
            return None
        error = JournalError(
            f"{replies[0]} of {self._replicas} replica(s) of Valkey have confirmed it in "
            f"{WAIT_MILLISECONDS} ms: the event may be stored or not"
        )
        self._health.note_failure("put", error)
        return str(error)

    def failed(self, error: Exception, session: Session) -> None:
        """Note that a write failed; the session with a server that has changed ends."""
        self._health.note_failure("put", error)
        if isinstance(error, Refused) and not str(error).startswith(OF_THE_MOMENT):
            session.end(str(error))

    def _refuse(self, futures: "Sequence[asyncio.Future[Any]]", reason: str) -> None:
        for future in futures:
            if not future.done():
                future.set_exception(JournalError(reason))


def away(health: JournalHealth) -> str:
    """Return why nothing can be stored or read now."""
    return f"events can't be stored or read: {health.problem or 'Valkey did not answer; try again'}"


def unknown(error: Exception) -> str:
    """Return that a write may have been done or not."""
    return f"the change may be stored or not, as Valkey did not confirm it: {error}"
