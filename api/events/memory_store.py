"""The store of RECO_JOURNAL=off: events in memory only, gone after a restart."""

import asyncio
from contextlib import suppress

from api.events.journal import Journal, JournalError
from api.events.recent import RecentEvents
from api.events.tombstones import Tombstones
from jobs.contract.journal import Id, OtherKind, named_kinds
from jobs.contract.text_ids import Kinds


class MemoryStore(RecentEvents):
    """An EventStore without a journal.

    Tombstones are on the disk nevertheless: releases that know the user outlive this process.
    """

    status = "off"
    journal = None
    kinds: Kinds | None = None

    def __init__(
        self, former: Journal, tombstones: Tombstones, per_user: int, max_users: int
    ) -> None:
        """`former` is where the journal is kept when there is one."""
        super().__init__(per_user, max_users)
        self._former = former
        self._tombstones = tombstones

    async def start(self) -> None:
        """Do nothing: there is nothing to open."""

    async def stop(self) -> None:
        """Do nothing: there is nothing to close."""

    async def adopt(self, kinds: Kinds) -> None:
        """Take events with ids of these kinds from now on; OtherKind if there are others."""
        if self.users and kinds != (self.kinds or Kinds()):
            found = named_kinds(self.kinds or Kinds())
            raise OtherKind(f"those of the events in memory are {found}")
        self.kinds = kinds

    async def put(self, user_id: Id, item_id: Id) -> None:
        """Keep an event."""
        self.add(user_id, item_id)

    async def forget(self, user_id: Id) -> int:
        """Store a tombstone and remove the user's events; return their number.

        Events that a journal holds from an earlier start are removed once it is used again.
        """
        newest = 0
        with suppress(JournalError):  # one that cannot be read may be why there is none now
            newest = await asyncio.to_thread(self._former.newest_seq)
        await asyncio.to_thread(self._tombstones.add, user_id, newest)
        n_events = len(self.of(user_id))
        self.remove(user_id)
        return n_events
