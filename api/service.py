"""What the service knows and answers, apart from HTTP: a release, live events, counters."""

import asyncio
import gc
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from api.events.journal import Journal, JournalError
from api.events.recent import RecentEvents
from api.events.store import JournaledStore
from api.events.tombstones import Tombstones
from api.prometheus import Counters, Metrics
from api.release import loader
from api.release.catalog import Catalog
from api.release.loader import ReleaseError
from api.release.recommender import Recommender
from api.schemas import Freshness, Loaded, Receipt
from api.settings import Settings
from jobs.contract import storage
from jobs.contract.names import FORGOTTEN, JOURNAL, LIST_LENGTH, RELEASES

logger = logging.getLogger("api")


TOMBSTONE_POLL_SECONDS = 1.0  # seconds between two looks at whom other processes were to forget


AT_A_TIME = 8  # lists of a batch that are made before other calls have their turn


class UnknownRelease(Exception):
    """An id that is none of WORK/releases: says which there are."""


class Service:
    """All the state of a process. A request reads `recommender` once and keeps what it read."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        bounds = settings.events_per_user, settings.max_users
        self.recorder: JournaledStore | None = None
        self.forgotten = Tombstones(settings.state_folder / FORGOTTEN)
        if settings.journal != "off":
            full = settings.journal == "full"
            journal = Journal(settings.state_folder / JOURNAL, full)
            self.recorder = JournaledStore(journal, *bounds, full, self.forgotten.add)
        self.events = self.recorder.events if self.recorder else RecentEvents(*bounds)
        self.counters = Counters()
        self.metrics = Metrics(self)
        self.recommender: Recommender | None = None
        self.reason = "no release has been loaded yet"  # why there is no recommender
        self._loading = asyncio.Lock()
        self._unread: str | None = None  # why it is not known who is to be forgotten
        self._followed: str | None = None  # what current pointed to when it was last followed
        self._following: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the journal and the current release; what can't be opened is logged."""
        await self._look_for_forgotten()
        self._looking = asyncio.create_task(self._keep_looking())
        if self.recorder:
            await self.recorder.start(self.forgotten.at)
        with suppress(ReleaseError):  # calls that need a release say why there is none
            await self.load()
        gc.freeze()  # to look through all that stays would delay a call by 30 ms now and then
        if self.settings.follow_seconds:
            self._following = asyncio.create_task(self._follow(self.settings.follow_seconds))

    async def stop(self) -> None:
        """Close the journal."""
        gc.unfreeze()
        if self._following:
            self._following.cancel()
        if self._looking:
            self._looking.cancel()
        if self.recorder:
            await self.recorder.stop()

    async def put(self, user_id: int, item_id: int) -> None:
        """Store an event; JournalError where it can't be."""
        if self.recorder:
            await self.recorder.put(user_id, item_id)
        else:
            self.events.put(user_id, item_id)
        self.counters.events += 1
        if self.recommender and not self.recommender.catalog.knows(item_id):
            self.counters.unknown_tracks += 1

    async def forget(self, user_id: int) -> Receipt:
        """Remove what is stored of the user, and answer as for a new one from now on.

        JournalError where that can't be stored.
        """
        n_final = n_heard = 0
        if self.recommender:
            catalog = self.recommender.catalog
            row = catalog.row(user_id)
            n_final, n_heard = len(catalog.final(row)), len(catalog.history(row))
        try:
            if self.recorder:
                n_events = await self.recorder.forget(user_id)
            else:
                await asyncio.to_thread(self.forgotten.add, user_id)
                n_events = len(self.events.of(user_id))
                self.events.forget(user_id)
        finally:
            if self.recommender:
                self.recommender.forget(self.forgotten.at)
        logger.info("Forgot a user: %d events, %d listens", n_events, n_heard)
        until = datetime.fromtimestamp(self.forgotten.at[user_id] / 1e6, UTC)
        return Receipt(user_id, until.isoformat(), n_events, n_final, n_heard)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(TOMBSTONE_POLL_SECONDS)
            await self._look_for_forgotten()

    async def _look_for_forgotten(self) -> None:
        """Forget whom other processes were told to forget."""
        try:
            for user_id in (new := await asyncio.to_thread(self.forgotten.news)):
                self.events.forget(user_id)
        except JournalError as error:
            if self._unread != str(error):
                self._unread = str(error)
                logger.error("Users to be forgotten may not be: %s", error)
            return
        recovered, self._unread = self._unread is not None, None
        if recovered and not self.recommender:
            with suppress(ReleaseError):
                await self.load()
        if new and self.recommender:
            self.recommender.forget(self.forgotten.at)

    def events_of(self, user_id: int) -> list[int]:
        """The user's events, newest first; while the journal can't be read, those in memory."""
        try:
            return self.events.of(user_id)
        except JournalError:
            return []

    @property
    def journal_state(self) -> str:
        """What becomes of events: "ok", "off", or why they can't be stored, or users forgotten."""
        if self._unread:
            return self._unread
        return (self.recorder.problem or "ok") if self.recorder else "off"

    @property
    def serves(self) -> bool:
        """Whether there is a release to answer from."""
        return self.recommender is not None

    def current(self) -> Recommender:
        """What answers from the release that is served; ReleaseError where there is none."""
        if self.recommender is None:
            raise ReleaseError(self.reason)
        return self.recommender

    def recommend(self, user_id: int, k: int, recommender: Recommender | None = None) -> bytes:
        """The list of /recommendations: exactly k track ids where that many can be given."""
        recommender = recommender or self.current()
        row = recommender.catalog.row(user_id)
        answer = recommender.answer(row, k, tuple(self.events_of(user_id)))
        self._count(recommender.catalog, answer.n_final)
        return answer.text

    def explain(self, user_id: int, k: int) -> tuple[bytes, bytes]:
        """The list of /recommendations, and beside it a list of reasons as JSON."""
        recommender = self.current()
        row = recommender.catalog.row(user_id)
        text, reasons = recommender.explained(row, k, tuple(self.events_of(user_id)))
        self._count(recommender.catalog, len(recommender.catalog.final(row)))
        return text, msgspec.json.encode(reasons)

    async def recommend_many(self, user_ids: list[int], k: int, recommender: Recommender) -> bytes:
        """The lists of several users; other calls are answered in between."""
        lists: list[bytes] = []
        for user_id in user_ids:
            if len(lists) % AT_A_TIME == 0:
                await asyncio.sleep(0)
            lists.append(self.recommend(user_id, k, recommender))
        return b"[%b]" % b",".join(lists)

    def online(self, user_id: int, k: int, n: int) -> bytes:
        """The list of /get_online_u2i: neighbours of the last k events, n of each, merged."""
        recommender = self.current()
        row = recommender.catalog.row(user_id)
        return recommender.online_text(row, k, n, tuple(self.events_of(user_id)))

    def _count(self, catalog: Catalog, n_final: int) -> None:
        """Count an answer and log it; n_final is the length of the user's final list."""
        self.counters.count(n_final > 0)
        if n_final:
            logger.info("Found %d personal recommendations!", n_final)
        else:
            logger.info("Found %d TOP-recommendations!", min(LIST_LENGTH, catalog.n_top))

    async def load(self, release_id: str | None = None) -> Loaded:
        """Serve a release from now on: the named one, or the one that `current` points to.

        It is opened and checked in a thread, one load at a time; any error leaves the old one.
        """
        async with self._loading:
            start = time.monotonic()
            try:
                recommender = await asyncio.to_thread(self._open, release_id)
            except (ReleaseError, OSError) as error:
                self.reason = str(error)
                self.counters.refusals += 1
                logger.error("Refused a release: %s", error)
                raise ReleaseError(self.reason) from error
            recommender.forget(self.forgotten.at)
            previous, self.recommender = self.recommender, recommender
        self.counters.swaps += 1
        catalog = recommender.catalog
        logger.info("Serving release %s", catalog.id)
        return Loaded(
            release=catalog.id,
            previous=previous.catalog.id if previous else None,
            users=catalog.n_users,
            tracks=catalog.n_tracks,
            seconds=round(time.monotonic() - start, 3),
        )

    async def _follow(self, seconds: int) -> None:
        """Load what `current` points to whenever that is another; a refused one is tried once."""
        while True:
            await asyncio.sleep(seconds)
            with suppress(ReleaseError, OSError):  # what was refused stands in the log
                if await asyncio.to_thread(loader.current, self.settings.work) != self._followed:
                    await self.load()

    def freshness(self) -> Freshness:
        """How old the release is that is served; ReleaseError where there is none."""
        catalog = self.current().catalog
        age = (datetime.now(UTC) - catalog.created_at).total_seconds()
        return Freshness(
            release=catalog.id,
            data_until=catalog.data_until,
            created_at=catalog.created_at.isoformat(),
            age_hours=round(age / 3600, 3),
            max_age_hours=self.settings.max_age_hours,
            stale=age > 3600 * self.settings.max_age_hours,
        )

    def _open(self, release_id: str | None) -> Recommender:
        if self._unread and not self.forgotten.known:
            raise ReleaseError(f"it is not known who is to be forgotten: {self._unread}")
        work = self.settings.work
        if release_id is None:
            release_id = self._followed = loader.current(work)
        elif release_id not in (known := storage.listed(work)):
            # only a name that was listed becomes part of a path
            raise UnknownRelease(f"expected one of {known}, found {release_id[:40]!r}")
        folder = work / RELEASES / release_id
        hashes = self.settings.check == "hashes"
        catalog = Catalog(folder, self.settings.blending_overrides(), hashes)
        return Recommender(catalog, self.settings.recent_events)
