"""Events that last: in the journal before they are acknowledged, in memory for the answers."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from api.events.journal import PATIENCE, Busy, Journal
from api.events.recent import RecentEvents
from api.events.user_filter import UserFilter

logger = logging.getLogger("api")


REST = 1.0  # seconds between two checkpoints


HEAD_START = 0.5  # seconds that the journal is read before requests are answered


NOBODY: Mapping[int, int] = {}


AT_A_TIME = 20_000  # users that are learnt of before requests have their turn


class JournaledStore:
    """Takes events in; those that arrive together share a commit. Belongs to one event loop.

    A commit that waits for the disk (`in_thread`) or for another process goes on in a thread; any
    other is shorter than the way to a thread and back.
    """

    def __init__(
        self,
        journal: Journal,
        per_user: int,
        max_users: int,
        in_thread: bool = False,
        tombstone: Callable[[int, int], int] = lambda user_id, not_before: not_before,
    ) -> None:
        self.events = RecentEvents(per_user, max_users, self._recall)
        self._problems: dict[str, str] = {}  # why the journal can't be used, by the task
        self._journal = journal
        self._per_user = per_user
        self._in_thread = in_thread
        self._tombstone = tombstone
        self._known = UserFilter()  # who has events in the journal
        self._forgotten = NOBODY
        self._knows_all = False  # until then anyone may have some
        self._group: list[tuple[int, int]] = []  # to be committed next
        self._waiting: list[asyncio.Future[None]] = []  # one for each of these
        self._leaving: list[tuple[int, asyncio.Future[int]]] = []  # whom to forget before that
        self._commit: asyncio.Task[None] | None = None  # the one that goes on in a thread
        self._recalled: set[int] = set()  # users, meanwhile
        self._rounds: asyncio.Task[None] | None = None
        self._since = 0.0  # when the last commit began
        self._unsaved = False  # since the last checkpoint
        self._looked = asyncio.Event()  # for the first time

    @property
    def lag(self) -> float:
        """For how many seconds a commit has been going on; 0 where none is."""
        return time.monotonic() - self._since if self._commit else 0.0

    @property
    def problem(self) -> str | None:
        """Why the journal can't be used just now."""
        return next(iter(self._problems.values()), None)

    async def start(self, forgotten: Mapping[int, int] = NOBODY) -> None:
        """Open the journal and learn who has events there; of a broken one the log tells.

        Whom to forget, up to when, a crash may have left undone.

        With a large journal that goes on while requests are answered: anyone may have events then.
        """
        self._forgotten = forgotten
        self._rounds = asyncio.create_task(self._make_rounds())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), HEAD_START)

    async def stop(self) -> None:
        """Commit what is waiting, and close the journal."""
        if self._rounds:
            self._rounds.cancel()
            with suppress(asyncio.CancelledError):
                await self._rounds
        while self._commit or self._group or self._leaving:
            await asyncio.sleep(0.01)
        self._journal.close()

    def put(self, user_id: int, item_id: int) -> asyncio.Future[None]:
        """Store an event: done once it is committed and answers obey it, else JournalError."""
        loop = asyncio.get_running_loop()
        if not self._group and not self._commit and not self._leaving:
            loop.call_soon(self._flush)
        done = loop.create_future()
        self._group.append((user_id, item_id))
        self._waiting.append(done)
        return done

    def forget(self, user_id: int) -> asyncio.Future[int]:
        """Remove a user's events, with a tombstone: done once answers obey it, with how many.

        Events that are put after this call count as new.
        """
        loop = asyncio.get_running_loop()
        if not self._group and not self._commit and not self._leaving:
            loop.call_soon(self._flush)
        done = loop.create_future()
        self._leaving.append((user_id, done))
        return done

    def _flush(self) -> None:
        """Commit what has come in since the last time."""
        self._since = time.monotonic()
        if self._leaving:
            self._commit = asyncio.create_task(self._forget_in_thread(self._leaving))
            self._leaving = []
            return
        group, waiting = self._group, self._waiting
        self._group, self._waiting = [], []
        if self._in_thread:
            self._commit = asyncio.create_task(self._commit_in_thread(group, waiting))
            return
        try:
            self._journal.append(group)
        except Busy:
            self._commit = asyncio.create_task(self._commit_in_thread(group, waiting))
        except Exception as error:
            self._refuse(waiting, error)
        else:
            self._acknowledge(group, waiting)

    async def _commit_in_thread(
        self, group: list[tuple[int, int]], waiting: list[asyncio.Future[None]]
    ) -> None:
        try:
            await asyncio.to_thread(self._journal.append, group, PATIENCE)
        except Exception as error:
            self._refuse(waiting, error)
        else:
            self._acknowledge(group, waiting)
        self._go_on()

    async def _forget_in_thread(self, leaving: list[tuple[int, asyncio.Future[int]]]) -> None:
        for user_id, done in leaving:
            tombstone = partial(self._tombstone, user_id)
            try:
                found = await asyncio.to_thread(self._journal.forget, user_id, tombstone, PATIENCE)
            except Exception as error:
                self._refuse([done], error)
            else:
                self.events.forget(user_id)
                if not done.done():
                    done.set_result(found)
        self._go_on()

    def _go_on(self) -> None:
        """Take in what has come while something went on in a thread."""
        self._recalled.clear()
        self._commit = None
        if self._group or self._leaving:
            self._flush()

    def _acknowledge(
        self, group: list[tuple[int, int]], waiting: list[asyncio.Future[None]]
    ) -> None:
        """Let answers obey a committed group.

        Who has earlier events in the journal only is not brought into memory by another one.
        """
        for user_id, item_id in group:
            if user_id in self._recalled:  # with or without this event
                self.events.forget(user_id)
            elif user_id in self.events or not self._may_have_events(user_id):
                self.events.put(user_id, item_id)
            self._known.add(user_id)
        self._unsaved = True
        self._mended("put")
        for done in waiting:
            if not done.done():  # its request may have been cancelled
                done.set_result(None)

    def _refuse(self, waiting: Sequence[asyncio.Future[Any]], error: Exception) -> None:
        self._note("put", error)
        for done in waiting:
            if not done.done():
                done.set_exception(error)

    def _note(self, task: str, error: Exception) -> None:
        """Let the state show what went wrong with a task, and log it once."""
        if self._problems.get(task) != str(error):
            self._problems[task] = str(error)
            logger.error("Events may not be stored: %s", error)

    def _mended(self, task: str) -> None:
        """Let the state show that a task went well."""
        if self._problems.pop(task, None):
            logger.warning("The journal works again")

    def _may_have_events(self, user_id: int) -> bool:
        """Whether the user may have events in the journal."""
        return not self._knows_all or user_id in self._known

    def _recall(self, user_id: int) -> Sequence[int]:
        """The last events of a user who is not in memory, oldest first."""
        if not self._may_have_events(user_id):
            return ()
        if not self._knows_all and user_id in self._forgotten:
            return ()  # their old events may still be in the journal: see _learn
        if self._commit:
            self._recalled.add(user_id)
        return self._journal.last(user_id, self._per_user)

    async def _make_rounds(self) -> None:
        """Learn who has events; then now and then see what others wrote, and save what we did."""
        while True:
            try:
                if not self._knows_all:
                    await self._learn()
                for user_id in self._journal.news():
                    self._known.add(user_id)
                    self.events.forget(user_id)  # the next call recalls them
                if self._unsaved or self._journal.leaves_traces:
                    self._unsaved = False
                    await asyncio.to_thread(self._journal.checkpoint)
            except Exception as error:
                self._note("round", error)
            else:
                self._mended("round")
            self._looked.set()
            await asyncio.sleep(REST)

    async def _learn(self) -> None:
        """Learn who has events in the journal, those who are forgotten left out."""
        await asyncio.to_thread(self._journal.finish_forgetting, self._forgotten)
        for user_id in list(self._forgotten):  # the next call recalls what they did later
            self.events.forget(user_id)
        users = await asyncio.to_thread(self._journal.users)
        for block in np.array_split(users, len(users) // AT_A_TIME + 1):
            self._known.add_all(block)
            await asyncio.sleep(0)
        self._knows_all = True
