"""What the service asks of a store of live events, and the states that events go through.

`MemoryStore` keeps events in memory only (RECO_JOURNAL=off). `JournaledStore` stores each event in
the journal before it is acknowledged, and keeps those of recently active users in memory. In it a
put goes through these states:

                     the loop's next turn
    put --> waiting ----------------------> commit --------------------> acknowledged
              ^                               |  |                         ^
              | puts that come while          |  | Busy, or               |
              | a thread runs wait for        |  | RECO_JOURNAL=full      |
              | the next commit               |  '--> commit in thread ---+
              |                               |              |            |
              '------------------------------ | <------------'            |
                                              |              | error      | once the file has it:
                                              '--------------+---> refused: JournalError

All puts of one turn of the event loop share a commit: the group. A commit takes about 0.1 ms, less
than handing it to a thread and back takes; so it runs on the event loop, unless it has to wait for
the disk ("full") or for another process (Busy). One thread runs at a time. `forget` waits like a
put, always runs in the thread, and goes before the puts that are waiting.

A user is in one of three states. In memory are at most RECO_MAX_USERS users:

                        acknowledged put
       no events ------------------------------------> in memory
           ^                                            |     ^
           |       evicted: others were more recent     |     |
           |       dropped: another process wrote       |     | recall: a call reads the user
           |       read while a thread committed        v     |
           '------------------------------------- in the journal only <--. acknowledged put: it
              forget, from either state                    |             | is not read for that
                                                           '-------------'

"No events" is answered by a Bloom filter of all users in the journal, without a file access. Until
it is filled at start, everyone counts as "in the journal only", so each first call reads the file.

Upkeep, a background task, makes its round each second: fill the filter (once), drop the users of
whom other processes stored events, and checkpoint: copy SQLite's write-ahead log into the file.
"""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class JournalState:
    """Whether events can be stored, and how long the running commit has taken so far."""

    works: bool
    lag_seconds: float  # 0 while no commit is running


class EventStore(Protocol):
    """Live events by user. A store belongs to one event loop, and is called from there only."""

    @property
    def users(self) -> int:
        """How many users have events in memory."""

    @property
    def evictions(self) -> int:
        """How many users' events have left memory to make room for others."""

    @property
    def status(self) -> str:
        """What becomes of events: "ok", "off" (they are in memory only), or why none is stored."""

    @property
    def journal(self) -> JournalState | None:
        """The journal's state, for metrics; None without a journal."""

    async def start(self) -> None:
        """Open the store. One that cannot be opened is logged and tried again; see `status`."""

    async def stop(self) -> None:
        """Store what is waiting, and close."""

    def put(self, user_id: int, item_id: int) -> Awaitable[None]:
        """Store an event: done once it is stored and reads return it; else JournalError."""

    def forget(self, user_id: int) -> Awaitable[int]:
        """Store a tombstone and remove the user's events: done with their number, or JournalError.

        Events that are put after this call count as a new user's.
        """

    def drop(self, user_ids: Iterable[int]) -> None:
        """Remove users from memory whom another process was told to forget, or stored events of."""

    def last(self, user_id: int, k: int) -> list[int]:
        """Return the user's last k item ids, newest first, repeats kept; [] without events.

        JournalError where they would have to be read from a journal that cannot be read.
        """

    def of(self, user_id: int) -> list[int]:
        """Return all item ids that the store keeps of the user, newest first; errors as `last`."""
