"""Decides which release is served: loads one, swaps it in, and follows the link `current`.

A request reads `recommender` once and uses it to the end. So a swap is one assignment: requests
that are running finish with the old release, which is freed when the last of them has finished.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from api.events.tombstones import Tombstones
from api.release import loader
from api.release.catalog import Catalog
from api.release.loader import ReleaseError
from api.release.recommender import Recommender
from api.schemas import Loaded
from api.settings import Settings
from jobs.contract import storage
from jobs.contract.journal import OtherKind, named_kinds
from jobs.contract.names import RELEASES
from jobs.contract.text_ids import Kinds

logger = logging.getLogger("api")


class UnknownRelease(Exception):
    """There is no release of this id in WORK/releases; the text lists the existing ones."""


class ReleaseManager:
    """Serves one release of WORK at a time.

    `adopt(kinds)` is awaited before a release is served, with the kinds of its ids; it raises
    OtherKind if the state has ids of other kinds.
    """

    def __init__(
        self,
        settings: Settings,
        tombstones: Tombstones,
        adopt: Callable[[Kinds], Awaitable[None]],
    ) -> None:
        # of the served release; None while none is served
        self.recommender: Recommender | None = None
        self.swaps = 0  # releases that were loaded
        self.refusals = 0  # releases that were refused
        self._settings = settings
        self._tombstones = tombstones
        self._adopt = adopt
        self._reason = "no release has been loaded yet"  # why none is served
        self._loading = asyncio.Lock()
        self._followed: str | None = None  # what `current` pointed to when it was last loaded
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the release that `current` points to; follow the link if RECO_FOLLOW_SECONDS is set.

        A release that is refused does not stop the start: calls that need one answer 503 and why.
        """
        with suppress(ReleaseError):
            await self.load()
        if self._settings.follow_seconds:
            self._following = asyncio.create_task(self._follow(self._settings.follow_seconds))

    def stop(self) -> None:
        """Stop following `current`."""
        if self._following:
            self._following.cancel()

    def current(self) -> Recommender:
        """Return the recommender of the served release; raise ReleaseError if none is served."""
        if self.recommender is None:
            raise ReleaseError(self._reason)
        return self.recommender

    async def load(self, release_id: str | None = None) -> Loaded:
        """Serve a release from now on: the named one, or the one that `current` points to.

        It is opened and checked in a thread, one load at a time. After an error (ReleaseError,
        UnknownRelease) the old release is still served.
        """
        async with self._loading:
            start = time.monotonic()
            try:
                recommender = await asyncio.to_thread(self._open, release_id)
                await self._take_ids(recommender.catalog)
            except (ReleaseError, OSError) as error:
                self._reason = str(error)
                self.refusals += 1
                logger.error("Refused a release: %s", error)
                raise ReleaseError(self._reason) from error
            # both lines run on the event loop, so no user can be forgotten between them
            recommender.forget(self._tombstones.until, self._tombstones.name_of)
            previous, self.recommender = self.recommender, recommender
        self.swaps += 1
        catalog = recommender.catalog
        logger.info("Serving release %s", catalog.id)
        return Loaded(
            release=catalog.id,
            previous=previous.catalog.id if previous else None,
            users=catalog.n_users,
            tracks=catalog.n_tracks,
            seconds=round(time.monotonic() - start, 3),
        )

    async def _take_ids(self, catalog: Catalog) -> None:
        """Raise ReleaseError if the state has ids of other kinds than a release."""
        try:
            await self._adopt(catalog.kinds)
        except OtherKind as error:
            raise ReleaseError(
                f"{catalog.id}: its ids are {named_kinds(catalog.kinds)}, but {error}: make a "
                "release with the same kinds by the options --user-ids and --track-ids of "
                "jobs.prepare, or name another folder in RECO_STATE"
            ) from None

    async def load_if_none(self) -> None:
        """Load the release of `current` if none is served; a refusal is logged, not raised."""
        if self.recommender is None:
            with suppress(ReleaseError):
                await self.load()

    def obey_tombstones(self) -> None:
        """Make the served release treat forgotten users as unknown."""
        if self.recommender:
            self.recommender.forget(self._tombstones.until, self._tombstones.name_of)

    async def _follow(self, seconds: int) -> None:
        """Load the release of `current` whenever the link changes; a refused one is tried once."""
        while True:
            await asyncio.sleep(seconds)
            with suppress(ReleaseError, OSError):  # `load` has logged why
                current = await asyncio.to_thread(loader.current, self._settings.work)
                if current != self._followed:
                    await self.load()

    def _open(self, release_id: str | None) -> Recommender:
        """Open and check a release; runs in a thread."""
        settings, tombstones = self._settings, self._tombstones
        if tombstones.problem and not tombstones.was_read:
            # an answer could use the history of a user who asked to be forgotten
            raise ReleaseError(
                f"no release is served until the tombstones can be read: {tombstones.problem}"
            )
        if release_id is None:
            release_id = self._followed = loader.current(settings.work)
        elif release_id not in (listed := storage.listed(settings.work)):
            # for safety, only a listed name becomes part of a path
            raise UnknownRelease(f"expected one of {listed}, found {release_id[:40]!r}")
        folder = settings.work / RELEASES / release_id
        catalog = Catalog(folder, settings.blending_overrides(), settings.check == "hashes")
        return Recommender(catalog, settings.recent_events)
