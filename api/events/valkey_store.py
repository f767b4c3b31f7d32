"""The store of RECO_EVENTS: events are in Valkey, so any process on any host may answer any user.

A put is one script in Valkey (jobs.contract.valkey), and counts once Valkey has answered. A call
that needs a user's events reads them anew each time, which takes one round trip for all calls of a
turn of the event loop. Each process keeps the lists that it has read, and goes on with them while
Valkey does not answer; such answers are marked.

    call                       Valkey answers          it does not, or is slow
    put, forget                done                    JournalError within a second; it may be
                                                       stored or not, so it is never tried again
    refresh, before an answer  True: the lists are     False within 0.25 s, later at once: the
                               those of now            lists are those seen last
    last, of                   what refresh read       what was seen last; JournalError of a user
                                                       whose events were never seen

With the lists, `refresh` asks for the newest tombstone's seq. If it is larger than that of the
tombstones that were read, those that are missing are read and obeyed before any answer is made.
"""

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from hiredis import ReplyError

from api.events import valkey_upkeep as upkeep
from api.events.health import JournalHealth
from api.events.journal import JournalError
from api.events.recent import RecentEvents
from api.events.shared_tombstones import SharedTombstones
from api.events.store import JournalState, SharedState
from api.events.valkey_client import (
    Connection,
    Lost,
    Refused,
    Replies,
    checked,
    pack,
    packed,
)
from api.events.valkey_link import Link
from api.events.valkey_puts import Puts, away, unknown
from api.events.valkey_session import Session, Target
from api.events.valkey_tracks import TrackNumbers
from jobs.contract import valkey
from jobs.contract.ids import INTEGER
from jobs.contract.journal import Id, OtherKind, Tombstone, named_kinds
from jobs.contract.text_ids import Kinds

START_SECONDS = 2.0  # how long the start waits for Valkey before requests are answered
UPKEEP_SECONDS = 1.0
ROUNDS_BETWEEN_COUNTS = 10  # of the upkeep
# users whose events stay in memory at least, so that none leaves it between refresh and answer
FEWEST_USERS = 10_000
FORGET = valkey.sha_of(valkey.FORGET)
# A replica refuses the second command. So a primary that was made a replica is noticed: it could
# lag behind the new primary.
LOOK = packed([("GET", valkey.FORGOTTEN_LAST), ("GETDEL", "reco:nothing")])


Asked = list[tuple[Id, "asyncio.Future[bool]"]]  # users, and who waits for their events


class ValkeyStore(RecentEvents):
    """An EventStore whose events are in Valkey.

    `obey()` is called when there are new tombstones, before any answer is made; `recover()` is
    awaited when Valkey can be used again after it could not.
    """

    def __init__(
        self,
        target: Target,
        tombstones: SharedTombstones,
        per_user: int,
        max_users: int,
        obey: Callable[[], None],
        recover: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(per_user, max(max_users, FEWEST_USERS))
        self.stale_answers = 0
        self._tombstones = tombstones
        self._obey = obey
        self._health = JournalHealth()
        self._link = Link(target, self._health, self._begin, self._note_lost, recover)
        self._puts = Puts(self._link, self._health, per_user, target.replicas or 0)
        self._not_exported = 0
        self._kinds: Kinds | None = None  # those that calls have
        self._adopted: Kinds | None = None  # those of the served release
        self._tombstones_until = 0  # the seq of the newest tombstone that was read
        self._asked: Asked = []  # whom this turn reads
        self._tracks = TrackNumbers()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def status(self) -> str:
        """ "ok", or why Valkey cannot be used now."""
        return self._health.problem or "ok"

    @property
    def events_state(self) -> str:
        """ "ok", "unverified" where Valkey hides its settings, or "stale"."""
        if self._link.session is None or self._link.session.reads.late:
            return "stale"
        return "ok" if self._link.verified else "unverified"

    @property
    def journal(self) -> JournalState:
        """Whether events can be stored, and how long the oldest put has been waiting."""
        session = self._link.session
        if session is None:
            return JournalState(False, 0.0)
        return JournalState(self._health.problem is None, session.writes.waiting_seconds)

    @property
    def shared(self) -> SharedState:
        """The further state, for metrics."""
        return SharedState(self.stale_answers, self._not_exported, not self._link.verified)

    @property
    def kinds(self) -> Kinds | None:
        """Of which kinds the ids of the events are; None while Valkey was never reached."""
        return self._kinds

    async def start(self) -> None:
        """Connect, and stay connected. While Valkey does not answer, it is tried again."""
        self._run(self._link.keep())
        self._run(self._keep_up())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._link.tried.wait(), START_SECONDS)

    async def stop(self) -> None:
        """Wait for what was sent, and close."""
        session = self._link.session
        while session and not session.ended.is_set() and session.writes.waiting_seconds:
            await asyncio.sleep(0.01)
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._link.session:
            self._link.session.end("the service stops")

    async def adopt(self, kinds: Kinds) -> None:
        """Take events with ids of these kinds from now on; OtherKind if Valkey has others."""
        if kinds == self._adopted:
            return
        session = self._link.session
        if session:
            with suppress(Lost, Refused):  # they are compared at the next connect
                await upkeep.agree(session, kinds)
        self._adopted = self._kinds = kinds

    async def refresh(self, user_ids: Iterable[Id]) -> bool:
        """Read the events of users. False if Valkey does not answer: those seen last are used."""
        waiting = [self.read(user) for user in user_ids]
        fresh = True
        for read in waiting:
            fresh = await read and fresh
        if not fresh:
            self.stale_answers += 1
        return fresh

    def read(self, user_id: Id) -> "asyncio.Future[bool]":
        """Read the events of a user: done with False if Valkey does not answer."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._send_reads)  # the other calls of this turn join
        done = loop.create_future()
        self._asked.append((user_id, done))
        return done

    def put(self, user_id: Id, item_id: Id) -> Awaitable[None]:
        """Store an event: done once Valkey has it and reads return it, else JournalError."""
        if isinstance(item_id, int):
            return self._puts.put(user_id, item_id)
        number = self._tracks.number(item_id)
        if number is None:
            return self._put_text(user_id, item_id)
        return self._puts.put(user_id, number)

    async def forget(self, user_id: Id) -> int:
        """Store a tombstone and remove the user's events; return their number, or JournalError."""
        session = self._link.session
        if session is None or (isinstance(user_id, str) and not self._tombstones.key):
            raise JournalError(away(self._health))
        self._puts.send(at_once=True)  # they come before
        name = self._tombstones.name_of(user_id)
        shard, keys = valkey.place_of(user_id)
        command = (
            "EVALSHA", FORGET, 8, *keys, valkey.FORGOTTEN, valkey.FORGOTTEN_AT,
            valkey.FORGOTTEN_LAST, valkey.FORGOTTEN_LEFT, shard, user_id, valkey.name_for(name),
        )  # fmt: skip
        try:
            replies = checked(await session.writes.ask([command, *self._puts.wait()]))
        except (Lost, Refused) as error:
            self._puts.failed(error, session)
            raise JournalError(unknown(error)) from None
        seq, at, n_events = replies[0]
        self._tombstones.take({name: Tombstone(int(seq), int(at))})
        self.remove(user_id)
        if problem := self._puts.too_few(replies[1:]):
            raise JournalError(problem)
        return int(n_events)

    async def _put_text(self, user_id: Id, item_id: str) -> None:
        """Store an event of a track whose number is not known here yet."""
        session = self._link.session
        if session is None:
            raise JournalError(away(self._health))
        try:
            number = await self._tracks.make_number(session.writes, item_id)
        except (Lost, Refused) as error:
            self._puts.failed(error, session)
            raise JournalError(unknown(error)) from None
        if session is not self._link.session:
            raise JournalError(away(self._health))  # in the next one the number may be another's
        await self._puts.put(user_id, number)

    def _recall(self, user_id: Id) -> Sequence[Id]:
        """A user who is not in memory has no events, if that was just read."""
        if self._link.session is None or self._link.session.reads.late:
            raise JournalError(away(self._health))
        return ()

    def _send_reads(self) -> None:
        """Read the lists of all users whom calls of this turn ask for."""
        asked, self._asked = self._asked, []
        session = self._link.session
        if session is None or session.reads.late:
            _answer(asked, False)
            return
        last = self._per_user - 1
        lists = [pack(("LRANGE", valkey.list_of(user), 0, last)) for user, _ in asked]
        take = partial(self._take_reads, session, asked)
        session.reads.send(2 + len(asked), LOOK + b"".join(lists), take)

    def _take_reads(
        self,
        session: Session,
        asked: "Asked",
        replies: Replies | None,
        reason: str,
    ) -> None:
        """Keep the lists that were read, and let the calls go on."""
        problem = next((str(r) for r in replies or () if isinstance(r, ReplyError)), None)
        if replies is None or problem is not None:
            if problem:
                session.end(problem)
            _answer(asked, False)
            return
        lists = [(user, found) for (user, _), found in zip(asked, replies[2:], strict=True)]
        unknown: set[int] = set()
        for user, found in lists:
            if not self._keep(user, found):
                unknown.update(map(int, found))
        if unknown or int(replies[0] or 0) > self._tombstones_until:
            self._run(self._read_on(session, asked, lists, unknown))
        else:
            _answer(asked, True)

    def _keep(self, user_id: Id, found: list[bytes]) -> bool:
        """Keep a list of tracks, newest first. False if it has numbers of unknown texts."""
        if not found:
            self._events.pop(user_id, None)
            return True
        if self._kinds is None or self._kinds.tracks == INTEGER:
            self._events[user_id] = array("q", map(int, reversed(found)))
        else:
            try:
                self._events[user_id] = self._tracks.texts(reversed(found))
            except KeyError:
                return False
        self._events.move_to_end(user_id)
        if len(self._events) > self._max_users:
            self._events.popitem(last=False)
            self.evictions += 1
        return True

    async def _read_on(
        self,
        session: Session,
        asked: "Asked",
        lists: list[tuple[Id, list[bytes]]],
        unknown: set[int],
    ) -> None:
        """Read new tombstones and texts of unknown numbers, then let the calls go on."""
        try:
            await self._read_tombstones(session.reads)
            await self._tracks.read(session.reads, unknown)
            for user, numbers in lists:  # once more: the tombstones may have removed them
                self._keep(user, numbers)
            _answer(asked, True)
        except Refused as error:
            session.end(str(error))
        except Lost:
            pass  # the session has ended
        finally:
            _answer(asked, False)  # those that have no answer yet

    async def _read_tombstones(self, connection: Connection) -> None:
        """Read the tombstones that came since the last look, and have them obeyed."""
        stored = await upkeep.tombstones_since(connection, self._tombstones_until)
        if not stored:
            return
        last = max(tombstone.seq for tombstone in stored.values())
        self._tombstones_until = max(self._tombstones_until, last)
        self._tombstones.take(stored)
        self._obey()
        self.drop(user for user in stored if isinstance(user, int))
        hashes = {user for user in stored if isinstance(user, bytes)}
        if hashes:
            self._run(self._drop_texts(hashes, dict(self._events)))

    async def _drop_texts(self, hashes: set[bytes], seen: dict[Id, Any]) -> None:
        """Remove from memory what was seen of forgotten users, but not what was read since then.

        The hashes of a million ids take a second, so they are made in a thread.
        """
        name_of = self._tombstones.name_of
        found = await asyncio.to_thread(lambda: [user for user in seen if name_of(user) in hashes])
        self.drop(user for user in found if self._events.get(user) is seen[user])

    def _note_lost(self) -> None:
        if not self._tombstones.was_read:
            self._tombstones.problem = self.status

    async def _begin(self, session: Session) -> None:
        """Agree on the kinds of ids, and read the tombstones. Lost or Refused if that fails."""
        found = await upkeep.first_look(session)
        if self._tombstones.until and found.key != self._tombstones.key:
            raise Refused(
                "its data were replaced while the service ran: restore them or, if this was "
                "intended, restart the service"
            )
        self._tombstones.key = found.key or b""
        kinds = self._adopted or found.kinds or Kinds()
        try:
            await upkeep.agree(session, kinds)
        except OtherKind as error:
            raise Refused(
                f"the kinds of ids differ: {error}, but those of the service {named_kinds(kinds)}"
            ) from None
        self._kinds = kinds
        # what was not stored for good before may be gone, and numbers may be given anew
        self._tracks = TrackNumbers()
        await self._read_tombstones(session.writes)
        if problem := self._tombstones.not_moved():
            raise Refused(problem)
        self._tombstones.was_read, self._tombstones.problem = True, None

    async def _keep_up(self) -> None:
        """Look each second at what other processes changed, and have the file written anew."""
        rounds = 0
        while True:
            session = self._link.session
            if session:
                try:
                    await self._make_round(session, rounds % ROUNDS_BETWEEN_COUNTS == 0)
                except Refused as error:
                    session.end(str(error))
                except Lost:
                    pass  # the session has ended, or the next round tries again
                rounds += 1
            await asyncio.sleep(UPKEEP_SECONDS)

    async def _make_round(self, session: Session, counts: bool) -> None:
        now = await upkeep.look(session)
        if now.last_tombstone > self._tombstones_until:
            await self._read_tombstones(session.reads)
        if now.found != (self._tombstones.key, self._kinds):
            raise Refused("its data were replaced while the service ran")
        if now.left:
            await upkeep.rewrite(session, now.left, self._health)
        if counts:
            self._not_exported = await upkeep.not_exported(session)

    def _run(self, work: Any) -> None:
        """Run a coroutine beside the calls."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _answer(asked: "Asked", fresh: bool) -> None:
    for _, found in asked:
        if not found.done():  # its request may have been cancelled
            found.set_result(fresh)
