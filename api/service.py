"""What the service knows and answers, apart from HTTP: a release, live events, counters."""

import asyncio
import logging
import time

import numpy as np

from api import release
from api.answers import Loaded
from api.blending import Blending, Tracks, blend, merge_neighbours, near, without
from api.catalog import Catalog
from api.counters import Counters
from api.events import Events
from api.release import ReleaseError
from api.settings import Settings
from jobs import contract

logger = logging.getLogger("api")


class UnknownRelease(Exception):
    """An id that is none of WORK/releases: says which there are."""


class Service:
    """All the state of a process. A request reads `catalog` once and keeps what it read."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.events = Events(settings.events_per_user, settings.max_users)
        self.counters = Counters()
        self.catalog: Catalog | None = None
        self.reason = "no release has been loaded yet"  # why there is no catalog
        self._loading = asyncio.Lock()

    def current(self) -> Catalog:
        """The release that is served; ReleaseError where there is none."""
        if self.catalog is None:
            raise ReleaseError(self.reason)
        return self.catalog

    def recommend(self, user_id: int, k: int) -> list[int]:
        """The answer of /recommendations: exactly k track ids where that many can be given."""
        catalog = self.current()
        events = catalog.positions(self.events.of(user_id))
        final, heard = catalog.of_user(user_id)
        self._count(catalog, len(final))
        rule = catalog.blending
        answer = blend(
            near(catalog.neighbours, events, rule),
            catalog.offline(final),
            self._kept_out(catalog, heard, events),
            k,
            rule,
            len(events),
        )
        return catalog.ids(answer)

    def online(self, user_id: int, k: int, n: int) -> list[int]:
        """The answer of /get_online_u2i: neighbours of the last k events, n of each, merged."""
        catalog = self.current()
        events = catalog.positions(self.events.of(user_id))
        kept_out = self._kept_out(catalog, catalog.of_user(user_id)[1], events)
        rule = Blending(source="similar", events=k, neighbours=n)
        return catalog.ids(
            without(merge_neighbours(*near(catalog.neighbours, events, rule)), kept_out)
        )

    def _kept_out(self, catalog: Catalog, heard: Tracks, events: Tracks) -> Tracks:
        """Positions of what was heard, in the history or just now, ascending."""
        if not len(events):
            return heard
        played = events if catalog.excludes_heard else events[: self.settings.recent_events]
        return np.sort(np.concatenate([heard, played]))

    def _count(self, catalog: Catalog, personal: int) -> None:
        """Count an answer and log it; personal: the length of the user's final list."""
        self.counters.count(personal > 0)
        if personal:
            logger.info("Found %d personal recommendations!", personal)
        else:
            logger.info("Found %d TOP-recommendations!", min(contract.LIST_LENGTH, catalog.n_top))

    async def load(self, release_id: str | None = None) -> Loaded:
        """Serve a release from now on: the named one, or the one that `current` points to.

        It is opened and checked in a thread, one load at a time; any error leaves the old one.
        """
        async with self._loading:
            start = time.monotonic()
            try:
                catalog = await asyncio.to_thread(self._open, release_id)
            except (ReleaseError, OSError) as error:
                self.reason = str(error)
                logger.error("Refused a release: %s", error)
                raise ReleaseError(self.reason) from error
            previous, self.catalog = self.catalog, catalog
        logger.info("Serving release %s", catalog.id)
        return Loaded(
            release=catalog.id,
            previous=previous.id if previous else None,
            users=catalog.n_users,
            tracks=catalog.n_tracks,
            seconds=round(time.monotonic() - start, 3),
        )

    def _open(self, release_id: str | None) -> Catalog:
        work = self.settings.work
        if release_id is None:
            release_id = release.current(work)
        elif release_id not in (known := release.listed(work)):
            # only a name that was listed becomes part of a path
            raise UnknownRelease(f"expected one of {known}, found {release_id[:40]!r}")
        return Catalog(work / contract.RELEASES / release_id, self.settings.blending_overrides())
