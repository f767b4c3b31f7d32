"""Computes what the calls answer, from the served release and the live events; without HTTP."""

import asyncio
import gc
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from api.events.journal import Journal, JournalError
from api.events.journaled_store import JournaledStore
from api.events.memory_store import MemoryStore
from api.events.shared_tombstones import SharedTombstones
from api.events.store import EventStore
from api.events.tombstones import Tombstones, TombstoneWatcher
from api.prometheus import ReleaseState, ServiceState
from api.release.catalog import Catalog
from api.release.manager import ReleaseManager
from api.release.recommender import Recommender
from api.schemas import Freshness, Receipt
from api.settings import Settings
from jobs.contract.ids import INTEGER
from jobs.contract.journal import Events, Id, OtherKind
from jobs.contract.names import FORGOTTEN, JOURNAL, LIST_LENGTH
from jobs.contract.text_ids import Kinds

if TYPE_CHECKING:  # its client is an optional package
    from api.events.valkey_store import ValkeyStore

logger = logging.getLogger("api")


LISTS_AT_A_TIME = 8  # lists of a batch between two turns of other calls


@dataclass
class Counters:
    """How many lists were answered and how many events were stored since the start."""

    personal: int = 0  # lists of /recommendations for users with a final list
    default: int = 0  # lists of /recommendations for all other users
    events: int = 0  # events stored
    unknown_tracks: int = 0  # of these, events of a track that the release does not know


class Service:
    """The state of one process: live events, tombstones, the served release and counters."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.counters = Counters()
        self.kinds = Kinds()  # of the ids in calls
        # what reads the events of users before each answer; None where no other host has them
        self.shared: ValkeyStore | None = None
        self.tombstones: Tombstones
        self.store: EventStore
        self._watcher: TombstoneWatcher | None = None
        if settings.events:
            self._use_valkey(settings)
        else:
            self.tombstones = Tombstones(settings.state_folder / FORGOTTEN)
            self.store = open_store(settings, self.tombstones)
        self.releases = ReleaseManager(settings, self.tombstones, self._adopt)
        if not settings.events:
            self._watcher = TombstoneWatcher(
                self.tombstones, self._obey_others, self.releases.load_if_none
            )

    def _use_valkey(self, settings: Settings) -> None:
        """Keep events and tombstones in Valkey. Its client is an optional package."""
        from api.events.valkey_session import target_of
        from api.events.valkey_store import ValkeyStore

        tombstones = SharedTombstones(settings.state_folder / FORGOTTEN)
        self.tombstones = tombstones
        self.store = self.shared = ValkeyStore(
            target_of(settings),
            tombstones,
            settings.events_per_user,
            settings.max_users,
            lambda: self.releases.obey_tombstones(),
            lambda: self.releases.load_if_none(),
        )

    async def start(self) -> None:
        """Read the tombstones, then open the journal and the current release.

        What cannot be opened is logged; calls that need it answer 503 with the reason.
        """
        if self._watcher:
            await self._watcher.start()
        await self.store.start()
        found = self.store.kinds or Kinds()  # until a release is served
        self.kinds = found._replace(users=self.tombstones.kind or found.users)
        await self.releases.start()
        # the objects that exist now stay to the end: without this, each full garbage collection
        # would go through all of them and delay a call by 30 ms
        gc.freeze()

    async def stop(self) -> None:
        """Store the events that wait, and end all background tasks."""
        gc.unfreeze()
        self.releases.stop()
        if self._watcher:
            self._watcher.stop()
        await self.store.stop()

    async def _adopt(self, kinds: Kinds) -> None:
        """Take calls with ids of these kinds from now on. OtherKind if the state has others."""
        if self.tombstones.kind not in (None, kinds.users):
            raise OtherKind(f"users with {self.tombstones.kind} ids were forgotten")
        await self.store.adopt(kinds)
        self.kinds = kinds

    async def put(self, user_id: Id, item_id: Id) -> None:
        """Store an event; raise JournalError if it cannot be stored."""
        await self.store.put(user_id, item_id)
        self.counters.events += 1
        recommender = self.releases.recommender
        if recommender and not recommender.catalog.knows(item_id):
            self.counters.unknown_tracks += 1

    async def forget(self, user_id: Id) -> Receipt:
        """Remove what is stored about a user, and treat them as new from now on.

        Raises JournalError if that cannot be stored.
        """
        n_final, n_heard = self._lengths(user_id)
        try:
            n_events = await self.store.forget(user_id)
        finally:  # the tombstone may be stored even if the events could not be removed
            self.releases.obey_tombstones()
        logger.info("Forgot a user: %d events, %d listens", n_events, n_heard)
        until = datetime.fromtimestamp(self.tombstones.asked_at(user_id) / 1e6, UTC)
        return Receipt(user_id, until.isoformat(), n_events, n_final, n_heard)

    def _lengths(self, user_id: Id) -> tuple[int, int]:
        """Return the lengths of the user's final list and history in the served release."""
        if self.releases.recommender is None:
            return 0, 0
        catalog = self.releases.recommender.catalog
        row = catalog.row(user_id)
        return len(catalog.final(row)), len(catalog.history(row))

    async def _obey_others(self, names: Iterable[int | bytes]) -> None:
        """Forget users whose tombstones other processes stored, by their names."""
        self.releases.obey_tombstones()
        wanted, in_memory = set(names), [*self.store.users_in_memory]

        def found() -> list[Id]:
            return [user for user in in_memory if self.tombstones.name_of(user) in wanted]

        # the hashes of a million text ids take a second
        self.store.drop(found() if self.kinds.users == INTEGER else await asyncio.to_thread(found))

    def events_of(self, user_id: Id) -> list[Id]:
        """Return the user's events, newest first; [] if the journal cannot be read.

        A list that ignores the last events is better than no list.
        """
        try:
            return self.store.of(user_id)
        except JournalError:
            return []

    def _packed(self, user_id: Id) -> Events:
        """Return the same in the form that answers are remembered by."""
        try:
            return self.store.packed(user_id)
        except JournalError:
            return ()

    @property
    def journal_status(self) -> str:
        """ "ok", "off", or why events cannot be stored or users cannot be forgotten."""
        return self.tombstones.problem or self.store.status

    def recommend(self, user_id: Id, k: int, recommender: Recommender | None = None) -> bytes:
        """Return the list of /recommendations as JSON: exactly k track ids if that many exist.

        Without a recommender, that of the served release is used. Raises ReleaseError if there is
        none.
        """
        recommender = recommender or self.releases.current()
        row = recommender.catalog.row(user_id)
        answer = recommender.answer(row, k, self._packed(user_id))
        self._count(recommender.catalog, answer.n_final)
        return answer.text

    def try_events(
        self,
        user_id: Id | None,
        k: int,
        events: Sequence[Id],
        recommender: Recommender | None = None,
    ) -> bytes:
        """Return the list that `recommend` would give if the user had just had these events.

        They are newest first. Without a user they are those of someone new. Nothing is stored,
        counted or remembered.
        """
        recommender = recommender or self.releases.current()
        row, played = self._as_if_played(user_id, events, recommender)
        return recommender.catalog.text(recommender.recommended(row, k, played))

    def _as_if_played(
        self, user_id: Id | None, events: Sequence[Id], recommender: Recommender
    ) -> tuple[int, tuple[Id, ...]]:
        """Return the user's row, and the events that would be stored after these, newest first."""
        stored = [] if user_id is None else self.events_of(user_id)
        row = -1 if user_id is None else recommender.catalog.row(user_id)
        return row, (*events, *stored)[: self.settings.events_per_user]

    def explain(
        self, user_id: Id | None, k: int, events: Sequence[Id] | None = None
    ) -> tuple[bytes, bytes]:
        """Return the list of /recommendations and a list of reasons, both as JSON.

        With events it is the list of `try_events`.
        """
        recommender = self.releases.current()
        row, played = self._as_if_played(user_id, events or (), recommender)
        text, reasons = recommender.explained(row, k, played)
        if events is None:
            self._count(recommender.catalog, len(recommender.catalog.final(row)))
        return text, msgspec.json.encode(reasons)

    async def recommend_many(
        self,
        user_ids: Sequence[Id],
        k: int,
        recommender: Recommender,
        events: Sequence[Id] | None = None,
    ) -> bytes:
        """Return the lists of several users as JSON; other calls are answered in between.

        With events they are those of `try_events`.
        """
        lists: list[bytes] = []
        for user_id in user_ids:
            if len(lists) % LISTS_AT_A_TIME == 0:
                await asyncio.sleep(0)
            if events is None:
                lists.append(self.recommend(user_id, k, recommender))
            else:
                lists.append(self.try_events(user_id, k, events, recommender))
        return b"[%b]" % b",".join(lists)

    def online(self, user_id: Id, k: int, n: int) -> bytes:
        """Return the list of /get_online_u2i: n neighbours of each of the last k events, merged."""
        recommender = self.releases.current()
        row = recommender.catalog.row(user_id)
        return recommender.online_text(row, k, n, self._packed(user_id))

    def _count(self, catalog: Catalog, n_final: int) -> None:
        """Count and log an answer; n_final is the length of the user's final list."""
        if n_final:
            self.counters.personal += 1
            logger.info("Found %d personal recommendations!", n_final)
        else:
            self.counters.default += 1
            logger.info("Found %d TOP-recommendations!", min(LIST_LENGTH, catalog.n_top))

    def freshness(self) -> Freshness:
        """Return how old the served release is; raise ReleaseError if none is served."""
        catalog = self.releases.current().catalog
        age = _age_seconds(catalog)
        return Freshness(
            release=catalog.id,
            data_until=catalog.data_until,
            created_at=catalog.created_at.isoformat(),
            age_hours=round(age / 3600, 3),
            max_age_hours=self.settings.max_age_hours,
            stale=age > 3600 * self.settings.max_age_hours,
        )

    def state(self) -> ServiceState:
        """Return the state that /metrics exports."""
        recommender = self.releases.recommender
        catalog = recommender.catalog if recommender else None
        return ServiceState(
            personal_answers=self.counters.personal,
            default_answers=self.counters.default,
            events=self.counters.events,
            unknown_tracks=self.counters.unknown_tracks,
            evicted_users=self.store.evictions,
            users_with_events=self.store.users,
            swaps=self.releases.swaps,
            refusals=self.releases.refusals,
            max_age_seconds=self.settings.max_age_hours * 3600,
            journal=self.store.journal,
            shared=self.shared.shared if self.shared else None,
            release=ReleaseState(catalog.id, _age_seconds(catalog)) if catalog else None,
        )


def open_store(settings: Settings, tombstones: Tombstones) -> EventStore:
    """Return the store that RECO_JOURNAL asks for."""
    bounds = settings.events_per_user, settings.max_users
    full = settings.journal == "full"  # each commit waits for the disk
    journal = Journal(settings.state_folder / JOURNAL, full)
    if settings.journal == "off":
        return MemoryStore(journal, tombstones, *bounds)
    return JournaledStore(journal, tombstones, *bounds, in_thread=full)


def _age_seconds(catalog: Catalog) -> float:
    return (datetime.now(UTC) - catalog.created_at).total_seconds()
