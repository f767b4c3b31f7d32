"""What the service asks of a store of live events, and the states that events go through.

`MemoryStore` keeps events in memory only (RECO_JOURNAL=off). `JournaledStore` stores each event in
the journal before it is acknowledged, and keeps those of recently active users in memory. With
RECO_EVENTS, `ValkeyStore` has events in a server that several hosts share; it is described there.

The states of a put in the JournaledStore:

    put ---> waiting ---> commit on the event loop ---------ok---------> acknowledged
                ^           |        |                                      ^
                |           |        | Busy, or RECO_JOURNAL=full           |
                |           |        v                                      |
                |           |      commit in a thread ------------ok--------'
                |           |        |
    while a thread runs,    | error  | error
    puts wait here          v        v
                          refused: JournalError

All puts of one turn of the event loop share a commit. It runs on the event loop, since it is
shorter than the way to a thread and back, unless it waits for the disk ("full") or for another
process (Busy). At most one thread runs. A `forget` waits as a put does, always runs in the thread,
and goes before the puts that are waiting.

The states of a user in the JournaledStore:

                   put, acknowledged
    no events ----------------------------> in memory (and in the journal)
        ^                                      |              ^
        |                                      | evicted,     | recalled:
        | forget,                              | dropped, or  | a call reads
        | from either state                    | read during  | the user
        |                                      v a commit     |
        '----------------------------------- in the journal only ---.
                                               ^                    | put, acknowledged:
                                               '--------------------' nothing is loaded for it

Evicted: RECO_MAX_USERS others were more recent. Dropped: another process stored an event of the
user, or forgot them. Read during a commit in a thread: what was read may or may not hold the
event that is committed, so the next call reads again.

A Bloom filter of all users in the journal tells "no events" from "in the journal only" without a
file access. Until it is filled at start, all users count as "in the journal only".

A background task, the upkeep, makes a round each second:

    fill the filter (once) ---> read whom others stored events of ---> checkpoint, if there were
    delete what a crash         add them to the filter, drop them       puts, or the log may hold
    left of forgotten users     from memory                             forgotten events

A round that fails is shown in `status`, and the next one does what is left.
"""

from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from jobs.contract.journal import Events, Id
from jobs.contract.text_ids import Kinds


@dataclass(frozen=True)
class SharedState:
    """What metrics tell of events in Valkey, beside the journal's state."""

    stale_answers: int  # since the start, made with the lists that were seen last
    not_exported: int  # events that the jobs have not taken yet
    unverified: bool  # whether Valkey hides its settings


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

    @property
    def kinds(self) -> Kinds | None:
        """Of which kinds the ids of its events are; None while it may have any."""

    @property
    def users_in_memory(self) -> Collection[Id]:
        """The users who have events in memory."""

    async def adopt(self, kinds: Kinds) -> None:
        """Take events with ids of these kinds from now on; OtherKind if it has others."""

    async def start(self) -> None:
        """Open the store. One that cannot be opened is logged and tried again; see `status`."""

    async def stop(self) -> None:
        """Store what is waiting, and close."""

    def put(self, user_id: Id, item_id: Id) -> Awaitable[None]:
        """Store an event: done once it is stored and reads return it; else JournalError."""

    def forget(self, user_id: Id) -> Awaitable[int]:
        """Store a tombstone and remove the user's events: done with their number, or JournalError.

        Events that are put after this call count as a new user's.
        """

    def drop(self, user_ids: Iterable[Id]) -> None:
        """Remove users from memory whom another process was told to forget."""

    async def refresh(self, user_ids: Iterable[Id]) -> bool:
        """Read the users' events where they are, if others may have changed them.

        False if that is impossible now: `last` and `of` then return what was read before.
        """

    def last(self, user_id: Id, k: int) -> list[Id]:
        """Return the user's last k item ids, newest first, repeats kept; [] without events.

        JournalError where they would have to be read from a journal that cannot be read.
        """

    def of(self, user_id: Id) -> list[Id]:
        """Return all item ids that the store keeps of the user, newest first; errors as `last`."""

    def packed(self, user_id: Id) -> Events:
        """Return the same as bytes if they are whole numbers, else as a tuple."""
