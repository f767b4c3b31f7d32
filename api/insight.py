"""What people see who look at the service: search, tracks, a listener, releases and their reports.

Everything goes through the same catalog as the answers, so a forgotten user is found nowhere. What
is not in an array is read in a thread of its own, so that neither answers nor commits wait for it.
"""

import asyncio
import base64
import hashlib
import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from api import schemas
from api.events.journal import JournalError
from api.release import listings
from api.release.catalog import Catalog
from api.release.details import MADE_BEFORE
from api.release.search_index import FoundArtist
from api.schemas import NamedTrack, TrackDetails, UserDetails
from api.service import Service
from jobs.contract import storage
from jobs.contract.ids import INTEGER, TEXT, flaw_of
from jobs.contract.journal import Id
from jobs.contract.names import CURRENT, MAX_ID, PREVIOUS, RELEASES, REPORTS
from jobs.contract.results import read_manifest
from jobs.contract.storage import JobError

THREADS = 2
NICE = 5  # how much less processor time than others the threads get
LONGEST_HISTORY_PAGE = 500
KINDS = ("track", "artist", "user")
TITLES = {  # of the reports, which are named for the scripts that make them
    "evaluation": "How good the lists are",
    "replay": "What live events are worth",
    "data": "What is in the data",
    "release": "What changed since the release before",
}
STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)
T = TypeVar("T")


class NotFound(Exception):
    """There is no such report; the text says which there are."""


class ReportPage(NamedTuple):
    """A report and the policy under which a browser may show it."""

    html: bytes
    policy: str


class Insight:
    """Answers the calls of the console from the state of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._threads = ThreadPoolExecutor(THREADS, "insight", _yield_to_others)

    def stop(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[..., T], *values: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *values)

    async def search(
        self, catalog: Catalog, text: str, kind: str, limit: int, people: bool
    ) -> schemas.Found:
        """Find tracks, artists and, if `people`, listeners; at most `limit` of each kind.

        Without a text these are the most played ones, and listeners drawn at random.
        """
        users = None
        if people and kind in ("any", "user"):
            users = await self._listeners(catalog, text, limit)
        if kind == "user":
            return schemas.Found([], [], users, {})
        return await self._in_thread(_search, catalog, text, kind, limit, users)

    async def search_json(self, catalog: Catalog, text: str, limit: int, people: bool) -> bytes:
        """Return what `search` finds of any kind, as JSON that is made in the thread too."""
        users = await self._listeners(catalog, text, limit) if people else None
        return await self._in_thread(_search_json, catalog, text, limit, users)

    async def _listeners(self, catalog: Catalog, text: str, limit: int) -> list[schemas.FoundUser]:
        if catalog.kinds.users == INTEGER:
            return await self._users(catalog, text.strip(), limit)
        return await self._users_of_text(catalog, text, limit)

    async def _users(self, catalog: Catalog, text: str, limit: int) -> list[schemas.FoundUser]:
        """Return listeners whose id is the text or begins with it; drawn at random without one."""
        if not text:
            found = catalog.random_users(limit)
        elif not (text.isascii() and text.isdigit()) or len(text) > 16:
            return []
        else:
            low, found = int(text), []
            if low <= MAX_ID and catalog.row(low) < 0 and await self._has_events(low):
                found.append(low)  # the release does not know them, but they have events
            size = 1
            while low * size <= MAX_ID and size <= MAX_ID and len(found) < limit:
                ends = low * size, min((low + 1) * size, MAX_ID + 1)
                found += catalog.users_between(*ends, limit - len(found))
                size *= 10 if low else MAX_ID + 1  # no id begins with a 0 but 0 itself
        return [schemas.FoundUser(user, len(catalog.history(catalog.row(user)))) for user in found]

    async def _users_of_text(
        self, catalog: Catalog, text: str, limit: int
    ) -> list[schemas.FoundUser]:
        """The same where user ids are text, which is compared as it stands."""
        if not text:
            found: list[Id] = catalog.random_users(limit)
        else:
            found = [*await self._in_thread(catalog.users_beginning_with, text, limit)]
            unknown = catalog.row(text) < 0 and flaw_of(text) is None
            if unknown and await self._has_events(text):
                found = [text, *found][:limit]
        return [schemas.FoundUser(user, len(catalog.history(catalog.row(user)))) for user in found]

    async def _has_events(self, user_id: Id) -> bool:
        await self._service.store.refresh([user_id])
        return bool(self._service.events_of(user_id))

    async def tracks(self, catalog: Catalog, ids: list[Id], near: int) -> schemas.Tracks:
        """Return what the release knows of tracks, with the first `near` of what is near each."""
        return await self._in_thread(_tracks, catalog, ids, near)

    async def user(
        self, catalog: Catalog, user_id: Id, offset: int, limit: int, lists: bool
    ) -> UserDetails:
        """Return what is known of a listener: a page of the history, events and, if asked, lists.

        If they are forgotten while it is read, nothing of it is told.
        """
        events, problem = self._events(user_id)
        known = catalog.row(user_id)
        found = await self._in_thread(_user, catalog, user_id, known, offset, limit, lists)
        if catalog.row(user_id) != known:
            events = []
            found = await self._in_thread(_user, catalog, user_id, -1, offset, limit, lists)
        found.events = _named_ids(catalog, events)
        found.lacks |= problem
        return found

    def _events(self, user_id: Id) -> tuple[list[Id], dict[str, str]]:
        """Return a listener's events, newest first, or none and why they can't be read."""
        try:
            return self._service.store.of(user_id), {}
        except JournalError as error:
            return [], {"events": str(error)}

    async def releases(self, path_of: Callable[[str, str], str]) -> schemas.Releases:
        """Return all releases in WORK, newest first; path_of(release, report) is an address."""
        served = self._service.releases.recommender
        work = self._service.settings.work
        name = served.catalog.id if served else None
        return await self._in_thread(_releases, work, name, path_of)

    async def report(self, name: str, release: str | None) -> ReportPage:
        """Return a report of a release, by default of the served one.

        Raises NotFound, or ReleaseError if no release is served.
        """
        if release is None:
            release = self._service.releases.current().catalog.id
        return await self._in_thread(_report, self._service.settings.work, name, release)


def _yield_to_others() -> None:
    """Let the other threads of the process go first, where the processor is busy (on Linux)."""
    with suppress(OSError, AttributeError):
        thread = threading.get_native_id()
        of_service = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, of_service + NICE)


def _lacks_search(catalog: Catalog) -> dict[str, str]:
    return {"search": catalog.index} if isinstance(catalog.index, str) else {}


def _search_json(
    catalog: Catalog, text: str, limit: int, users: list[schemas.FoundUser] | None
) -> bytes:
    return msgspec.json.encode(_search(catalog, text, "any", limit, users))


def _search(
    catalog: Catalog, text: str, kind: str, limit: int, users: list[schemas.FoundUser] | None
) -> schemas.Found:
    """Find tracks and artists. All names are read in one go, which takes half as long as two."""
    tracks: list[int] = []
    artists: list[FoundArtist] = []
    if kind in ("any", "track"):
        tracks = _tracks_named(catalog, text, limit)
    if kind in ("any", "artist") and not isinstance(catalog.index, str):
        artists = catalog.index.artists(text, limit)
    best = catalog.places_of_numbers([number for artist in artists for number in artist.best])
    different = list({place for place in tracks + best if place >= 0})
    named = dict(zip(different, catalog.named(different), strict=True))
    rest = iter(best)
    return schemas.Found(
        [_found(catalog, named[track], track) for track in tracks],
        [
            schemas.FoundArtist(
                artist.artist_id,
                artist.name,
                artist.plays,
                artist.n_tracks,
                [named[place] for place in islice(rest, len(artist.best)) if place in named],
            )
            for artist in artists
        ],
        users,
        _lacks_search(catalog),
    )


def _tracks_named(catalog: Catalog, text: str, limit: int) -> list[int]:
    """Return positions of tracks: the one whose id the text is, then those that it finds."""
    found: list[int] = []
    digits = text.strip()
    if catalog.kinds.tracks == TEXT:
        found += catalog.exact([text]) if flaw_of(text) is None else []
    elif digits.isascii() and digits.isdigit() and len(digits) <= 16 and int(digits) <= MAX_ID:
        found += catalog.exact([int(digits)])
    if not isinstance(catalog.index, str):
        places = catalog.index.tracks(text, limit)
        found += catalog.all_tracks[[at for at in places if at < len(catalog.all_tracks)]].tolist()
    elif not digits:
        found += catalog.all_tracks[:limit].tolist()
    return list(dict.fromkeys(found))[:limit]


def _found(catalog: Catalog, named: NamedTrack, track: int) -> schemas.FoundTrack:
    listeners = catalog.details.listeners(track)
    return schemas.FoundTrack(named.track_id, named.name, named.artists, listeners)


def _named_ids(catalog: Catalog, ids: Sequence[Id]) -> list[NamedTrack]:
    """Return tracks by id with their names; the release need not know them."""
    places = catalog.exact(ids, unknown=True)
    known = iter(catalog.named([place for place in places if place >= 0]))
    return [
        next(known) if place >= 0 else NamedTrack(track_id, None, None)
        for track_id, place in zip(ids, places, strict=True)
    ]


def _tracks(catalog: Catalog, ids: list[Id], near: int) -> schemas.Tracks:
    places = catalog.exact(ids, unknown=True)
    details = catalog.details
    lacks = {}
    if not details.has_names:
        lacks["artists"] = lacks["genres"] = MADE_BEFORE
    if not details.has_counts:
        lacks["counts"] = MADE_BEFORE
    return schemas.Tracks(
        [_details(catalog, place, near) for place in places if place >= 0],
        [track_id for track_id, place in zip(ids, places, strict=True) if place < 0],
        catalog.data_from,
        catalog.data_until,
        lacks,
    )


def _details(catalog: Catalog, track: int, near: int) -> TrackDetails:
    details = catalog.details
    shown = catalog.positions([catalog.track_id(track)]).tolist()[0]
    named, shown_as = catalog.named([track, shown])
    similar, after = (
        catalog.named(catalog.near(source, shown, near)) for source in ("similar", "next_played")
    )
    genres = details.genres([track])
    return TrackDetails(
        named.track_id,
        named.name,
        named.artists,
        genres[0] if genres else None,
        details.listeners(track),
        details.plays(track),
        catalog.top_rank(track),
        details.trend(track),
        None if shown == track else shown_as.track_id,
        similar,
        after,
    )


def _user(
    catalog: Catalog, user_id: Id, row: int, offset: int, limit: int, lists: bool
) -> UserDetails:
    """Read what the release knows of the user in a row of the catalog; of nobody if it is -1."""
    first, end = catalog.history_rows(row)
    stop = max(end - offset, first)
    start = max(stop - limit, first)
    history = catalog.history(row)[start - first : stop - first].tolist()
    times: Sequence[str | None] | None = listings.times(catalog.folder, start, stop)
    lacks = {} if times is not None else {"history": "listens.parquet can't be read"}
    found = listings.listings(catalog, user_id, row) if lists else listings.Listings({}, {}, [])
    named = catalog.named(history)
    genres: list[Any] = catalog.details.genres(history) or [None] * len(history)
    return UserDetails(
        user_id,
        row >= 0,
        end - first,
        [],
        [
            schemas.Listen(one.track_id, one.name, one.artists, genres_of_it, at)
            for one, genres_of_it, at in zip(
                reversed(named),
                reversed(genres),
                reversed(times or [None] * len(history)),
                strict=True,
            )
        ],
        offset + limit if start > first else None,
        catalog.named(catalog.final(row)) if lists else [],
        {name: catalog.named(tracks) for name, tracks in found.lists.items()},
        lacks | found.lacks,
        found.left_out,
    )


def _releases(
    work: Path, served: str | None, path_of: Callable[[str, str], str]
) -> schemas.Releases:
    links = {
        link: (work / link).readlink().name
        for link in (CURRENT, PREVIOUS)
        if (work / link).is_symlink()
    }
    found = []
    for release in reversed(storage.listed(work)):
        details = schemas.ReleaseDetails(
            release=release,
            served=release == served,
            current=links.get(CURRENT) == release,
            previous=links.get(PREVIOUS) == release,
            created_at=None,
            data_until=None,
            size=None,
            rows={},
            metrics={},
            intervals={},
            reports=[],
            command=f"python -m jobs.publish --work {work} --activate {release}",
            problem=None,
        )
        try:
            _describe(details, work / RELEASES / release, path_of)
        except JobError as error:
            details.problem = str(error)
        found.append(details)
    return schemas.Releases(found)


def _describe(
    details: schemas.ReleaseDetails, folder: Path, path_of: Callable[[str, str], str]
) -> None:
    """Add what the manifest of a release says. Raises JobError if it can't be read."""
    manifest = read_manifest(folder)
    details.created_at = manifest.created_at.isoformat()
    details.data_until = manifest.data.last if manifest.data else None
    details.size = sum(entry.bytes for entry in manifest.files.values())
    details.rows = {
        name: entry.rows for name, entry in manifest.files.items() if entry.rows is not None
    }
    lists = dict(manifest.metrics.lists)
    if "als" in manifest.metrics.generators:
        # as in the reports: with the top list for new users, as the other lists have it
        lists["personal ALS"] = manifest.metrics.generators["als"]
    details.metrics = {
        name: scores["all"]["@10"]
        for name, scores in lists.items()
        if "@10" in scores.get("all", {})
    }
    details.intervals = {name: [*ends] for name, ends in manifest.metrics.intervals.items()}
    details.reports = [
        schemas.Report(name, title, path_of(folder.name, name))
        for name, title in TITLES.items()
        if f"{REPORTS}/{name}.html" in manifest.files
    ]


def _report(work: Path, name: str, release: str) -> ReportPage:
    """Read a report; only names that are listed become part of a path."""
    if name not in TITLES:
        raise NotFound(f"report: expected one of {', '.join(TITLES)}, found {name[:40]!r}")
    if release not in (listed := storage.listed(work)):
        raise NotFound(f"release: expected one of {listed}, found {release[:40]!r}")
    try:
        html = (work / RELEASES / release / REPORTS / f"{name}.html").read_bytes()
    except OSError:
        raise NotFound(f"report: release {release} has no {name}") from None
    styles = {hashlib.sha256(style.encode()).digest() for style in STYLE.findall(html.decode())}
    hashes = " ".join(sorted(f"'sha256-{base64.b64encode(one).decode()}'" for one in styles))
    return ReportPage(
        html,
        f"default-src 'none'; style-src-elem {hashes or chr(39) + 'none' + chr(39)}; "
        "style-src-attr 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'; sandbox",
    )
