"""The store of RECO_JOURNAL=normal and full: events are in the journal before they count.

The states of a put and of a user are drawn in `api.events.store`.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from api.events.connections import LOCK_SECONDS
from api.events.health import JournalHealth
from api.events.journal import Busy, Journal, JournalError
from api.events.recent import RecentEvents
from api.events.store import JournalState
from api.events.tombstones import Tombstones
from api.events.user_filter import UserFilter
from jobs.contract.journal import Id
from jobs.contract.text_ids import Kinds

UPKEEP_SECONDS = 1.0  # between two rounds of upkeep
START_SECONDS = 0.5  # how long the start waits for the first round before requests are answered
USERS_AT_A_TIME = 20_000  # added to the filter before requests have their turn


@dataclass
class Group:
    """Puts that share a commit: their events, and for each a future that its caller awaits."""

    events: list[tuple[Id, Id]] = field(default_factory=list)
    stored: list["asyncio.Future[None]"] = field(default_factory=list)


class JournaledStore(RecentEvents):
    """An EventStore with a journal.

    With `in_thread`, commits run in a thread, since each waits for the disk.
    """

    def __init__(
        self,
        journal: Journal,
        tombstones: Tombstones,
        per_user: int,
        max_users: int,
        in_thread: bool = False,
    ) -> None:
        super().__init__(per_user, max_users)
        self._journal = journal
        self._tombstones = tombstones
        self._in_thread = in_thread
        self._health = JournalHealth()
        self._stored_users = UserFilter()  # who has events in the journal
        self._filter_is_full = False  # until then anyone may have events in the journal
        self._group = Group()  # the next commit
        self._to_forget: list[tuple[Id, asyncio.Future[int]]] = []  # before the next commit
        self._thread: asyncio.Task[None] | None = None  # the commit or removal that runs in one
        self._read_meanwhile: set[Id] = set()  # users who were recalled while the thread ran
        self._commit_started = 0.0
        self._upkeep: asyncio.Task[None] | None = None
        self._first_round_done = asyncio.Event()
        self._needs_checkpoint = False

    @property
    def status(self) -> str:
        """ "ok", or why the journal cannot be used now."""
        return self._health.problem or "ok"

    @property
    def journal(self) -> JournalState:
        """Whether the journal works, and for how long the commit has been running."""
        lag = time.monotonic() - self._commit_started if self._thread else 0.0
        return JournalState(self._health.problem is None, lag)

    async def start(self) -> None:
        """Open the journal and fill the filter of users; a broken journal is logged, not raised.

        With a large journal that goes on while requests are already answered.
        """
        self._go_on_after_tombstones()
        try:
            await asyncio.to_thread(self._journal.read_kinds)
        except JournalError as error:
            self._health.note_failure("upkeep", error)
        self._upkeep = asyncio.create_task(self._keep_up())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first_round_done.wait(), START_SECONDS)

    @property
    def kinds(self) -> Kinds | None:
        """Of which kinds the ids of the journal are; None while it may have any."""
        return self._journal.kinds

    async def adopt(self, kinds: Kinds) -> None:
        """Take events with ids of these kinds from now on; OtherKind if the journal has others."""
        if kinds == self.kinds:
            return
        while self._thread or self._group.events or self._to_forget:
            await asyncio.sleep(0.001)
        self._journal.adopt(kinds)

    async def stop(self) -> None:
        """Commit what is waiting, and close the journal."""
        if self._upkeep:
            self._upkeep.cancel()
            with suppress(asyncio.CancelledError):
                await self._upkeep
        while self._thread or self._group.events or self._to_forget:
            await asyncio.sleep(0.01)
        self._journal.close()

    def put(self, user_id: Id, item_id: Id) -> "asyncio.Future[None]":
        """Store an event: done once it is committed and reads return it, else JournalError."""
        loop = asyncio.get_running_loop()
        group = self._group
        if not group.events and not self._thread and not self._to_forget:
            loop.call_soon(self._commit_waiting)  # the other puts of this turn join the group
        stored = loop.create_future()
        group.events.append((user_id, item_id))
        group.stored.append(stored)
        return stored

    def forget(self, user_id: Id) -> "asyncio.Future[int]":
        """Store a tombstone and remove the user's events: done with their number."""
        loop = asyncio.get_running_loop()
        if not self._group.events and not self._thread and not self._to_forget:
            loop.call_soon(self._commit_waiting)
        forgotten = loop.create_future()
        self._to_forget.append((user_id, forgotten))
        return forgotten

    def drop(self, user_ids: Iterable[Id]) -> None:
        """Remove users from memory whom another process was told to forget."""
        self._go_on_after_tombstones()
        super().drop(user_ids)

    def _go_on_after_tombstones(self) -> None:
        """Give new events a larger seq than all tombstones have, in a new journal too."""
        self._journal.not_before = max(self._tombstones.until.values(), default=0)

    def _commit_waiting(self) -> None:
        """Forget the users who wait for that; else commit the group."""
        self._commit_started = time.monotonic()
        if self._to_forget:
            self._thread = asyncio.create_task(self._forget_in_thread(self._to_forget))
            self._to_forget = []
            return
        group, self._group = self._group, Group()
        if self._in_thread:
            self._thread = asyncio.create_task(self._commit_in_thread(group))
            return
        try:
            self._journal.append(group.events)
        except Busy:
            self._thread = asyncio.create_task(self._commit_in_thread(group))
        except Exception as error:
            self._refuse(group.stored, error)
        else:
            self._acknowledge(group)

    async def _commit_in_thread(self, group: Group) -> None:
        try:
            await asyncio.to_thread(self._journal.append, group.events, LOCK_SECONDS)
        except Exception as error:
            self._refuse(group.stored, error)
        else:
            self._acknowledge(group)
        self._end_thread()

    async def _forget_in_thread(self, to_forget: list[tuple[Id, "asyncio.Future[int]"]]) -> None:
        for user_id, forgotten in to_forget:
            tombstone = partial(self._tombstones.add, user_id)
            try:
                n_events = await asyncio.to_thread(
                    self._journal.forget, user_id, tombstone, LOCK_SECONDS
                )
            except Exception as error:
                self._refuse([forgotten], error)
            else:
                self.remove(user_id)
                if not forgotten.done():
                    forgotten.set_result(n_events)
        self._end_thread()

    def _end_thread(self) -> None:
        """Commit what came while the thread ran."""
        self._read_meanwhile.clear()
        self._thread = None
        if self._group.events or self._to_forget:
            self._commit_waiting()

    def _acknowledge(self, group: Group) -> None:
        """Let reads return the events of a committed group, then let their callers go on."""
        for user_id, item_id in group.events:
            if user_id in self._read_meanwhile:
                # that read may or may not have found this event: the next one reads again
                self.remove(user_id)
            elif user_id in self or not self._may_be_stored(user_id):
                self.add(user_id, item_id)
            # else the user's earlier events are on disk only: loading them now would cost each put
            # a read, and memory for users who may never be requested
            self._stored_users.add(user_id)
        self._needs_checkpoint = True
        self._health.note_success("put")
        for stored in group.stored:
            if not stored.done():  # its request may have been cancelled
                stored.set_result(None)

    def _refuse(self, futures: Sequence["asyncio.Future[Any]"], error: Exception) -> None:
        self._health.note_failure("put", error)
        for future in futures:
            if not future.done():
                future.set_exception(error)

    def _may_be_stored(self, user_id: Id) -> bool:
        """Return whether the user may have events in the journal."""
        return not self._filter_is_full or user_id in self._stored_users

    def _recall(self, user_id: Id) -> Sequence[Id]:
        """Return the last events of a user who is not in memory, oldest first."""
        if not self._may_be_stored(user_id):
            return ()
        if self._thread:
            self._read_meanwhile.add(user_id)
        # at start, events before the tombstone may still be there: see finish_forgetting
        return self._journal.last(user_id, self._per_user, self._tombstones.seq_of(user_id))

    async def _keep_up(self) -> None:
        """Fill the filter; then, each second, notice what others wrote and save what we wrote."""
        while True:
            try:
                await self._make_round()
            except Exception as error:
                self._health.note_failure("upkeep", error)
            else:
                self._health.note_success("upkeep")
            self._first_round_done.set()
            await asyncio.sleep(UPKEEP_SECONDS)

    async def _make_round(self) -> None:
        if not self._filter_is_full:
            await self._fill_filter()
        for user_id in self._journal.users_of_others():
            self._stored_users.add(user_id)
            self.remove(user_id)  # the next read recalls them
        if self._needs_checkpoint or self._journal.log_holds_forgotten:
            self._needs_checkpoint = False  # a put that comes meanwhile sets it again
            try:
                await asyncio.to_thread(self._journal.checkpoint)
            except Exception:
                self._needs_checkpoint = True
                raise

    async def _fill_filter(self) -> None:
        """Add all users of the journal to the filter, after what a crash left of forgotten ones."""
        tombstones = self._tombstones
        await asyncio.to_thread(
            self._journal.finish_forgetting, tombstones.until, tombstones.name_of
        )
        users = await asyncio.to_thread(self._journal.users)
        for first in range(0, len(users), USERS_AT_A_TIME):
            self._stored_users.add_all(users[first : first + USERS_AT_A_TIME])
            await asyncio.sleep(0)
        self._filter_is_full = True
