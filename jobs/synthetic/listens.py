"""Draws the synthetic listens of a block of users: tastes → sessions → listens.

A user has tastes (scenes of the catalogue), the favourite moves on during the year. A session has
a day, a theme (one of the tastes) and a leading artist of it. A listen is of that artist, its
scene, its genre or anything, always in proportion to popularity. As every level is a range of
positions of the catalogue, drawing a track is one look-up in the cumulative popularity.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.contract.ragged import offsets_of, place_in_row, row_of_each
from jobs.synthetic.catalog import DAYS, OLDEST, Catalog, changes

NEW_IN_YEAR, LEFT_IN_YEAR = 0.25, 0.08  # shares of users


PER_SESSION = 4  # mean listens of a session


TASTES, PER_TASTE, MAX_TASTES = 3, 40, 40  # tastes of a user: TASTES + listens // PER_TASTE


SAME_FAMILY = 0.6  # share of tastes within the family of genres of the user's first


TASTE_DRIFT = 0.7  # part of the tastes by which a year moves the favourite


CONTINUED = 0.35  # share of sessions that go on with the theme and artist of the one before


EXPLORING = 0.15  # share of sessions outside of the user's tastes


BY_ARTIST, BY_SCENE, BY_GENRE = 0.4, 0.3, 0.15  # what a listen follows, the others anything


SHUFFLED = 0.3  # share of listens whose place in the session is left to chance


STEADY, HALF_LIFE = 0.35, 60  # a release starts at 1 and falls to STEADY with a half-life in days


ROUNDS = 8  # of draws by taste; a user who is short after them gets anything


SURPLUS = 2.5  # draws for each listen that is missing


BLOCK = 1 << 19  # listens in a block


ORDER_BITS = 12


@dataclass(frozen=True)
class Sessions:
    """S sessions of a block's users, by user and day."""

    first: np.ndarray  # (users,) the user's first session
    count: np.ndarray  # (users,)
    day: np.ndarray  # (S,)
    low: np.ndarray  # (4, S) ranges of cumulative popularity: by artist, scene, genre, anything
    high: np.ndarray


class Urn:
    """Draws positions of the catalogue in proportion to popularity."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.cumulative = np.concatenate([[0.0], np.cumsum(catalog.popularity)])
        age = np.arange(-DAYS, DAYS - OLDEST + 1)
        fading = STEADY + (1 - STEADY) * 0.5 ** (np.maximum(age, 0) / HALF_LIFE)
        self.freshness = np.where(age < 0, 0.0, fading)  # at age + DAYS

    def range_of(self, run: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cumulative popularity at the ends of the run (artist, scene …) of each position."""
        ends = self.cumulative[np.append(np.flatnonzero(changes(run)), len(run))]
        return ends[run[position]], ends[run[position] + 1]

    def draw(self, rng: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """One position from each range of cumulative popularity."""
        point = low + (high - low) * rng.random(len(low))
        position = np.searchsorted(self.cumulative, point, side="right") - 1
        last = len(self.cumulative) - 2
        result: np.ndarray = np.minimum(position, last)
        return result

    def anything(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n positions from the whole catalogue."""
        return self.draw(rng, np.zeros(n), np.full(n, self.cumulative[-1]))

    def like(self, rng: np.random.Generator, run: np.ndarray, position: np.ndarray) -> np.ndarray:
        """For each position one of the same run."""
        return self.draw(rng, *self.range_of(run, position))


def user_blocks(counts: np.ndarray) -> Iterator[slice]:
    """Slices of users with about BLOCK listens each."""
    starts = np.flatnonzero(changes((np.cumsum(counts) - 1) // BLOCK))
    for start, stop in zip(starts, np.append(starts[1:], len(counts)), strict=True):
        yield slice(start, stop)


def draw_listens(
    rng: np.random.Generator, urn: Urn, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Days and positions of the tracks of users with `counts` listens, by user and time."""
    sessions = draw_sessions(rng, urn, counts)
    session, track = draw_tracks(rng, urn, counts, sessions)
    order = in_order(rng, session, urn.catalog.artist[track], track, len(urn.catalog.artist))
    return sessions.day[session[order]], track[order]


def draw_sessions(rng: np.random.Generator, urn: Urn, counts: np.ndarray) -> Sessions:
    """The days and themes of the sessions of users with `counts` listens."""
    count = -(-counts // PER_SESSION)
    user = row_of_each(count)
    day = draw_days(rng, user, len(counts))
    theme = draw_themes(rng, urn, counts, user, day)
    source = continued(rng, user)
    theme, lead = theme[source], urn.like(rng, urn.catalog.scene, theme)[source]
    ranges = [
        urn.range_of(urn.catalog.artist, lead),
        urn.range_of(urn.catalog.scene, theme),
        urn.range_of(urn.catalog.genre, theme),
        (np.zeros(len(user)), np.full(len(user), urn.cumulative[-1])),
    ]
    low, high = (np.stack(ends) for ends in zip(*ranges, strict=True))
    return Sessions(offsets_of(count)[:-1], count, day, low, high)


def draw_days(rng: np.random.Generator, user: np.ndarray, n_users: int) -> np.ndarray:
    """The day of each session, ascending for a user; `user` (S,) says whose it is."""
    joined = np.where(rng.random(n_users) < NEW_IN_YEAR, rng.integers(DAYS, size=n_users), 0)
    leaves = rng.random(n_users) < LEFT_IN_YEAR
    left = np.where(leaves, rng.integers(joined, DAYS), DAYS - 1)
    day = joined[user] + ((left + 1 - joined)[user] * rng.random(len(user))).astype(np.int64)
    return np.sort(user * DAYS + day) % DAYS


def draw_themes(
    rng: np.random.Generator, urn: Urn, counts: np.ndarray, user: np.ndarray, day: np.ndarray
) -> np.ndarray:
    """The theme of each session, as the position of a track of the scene: a taste or anything."""
    taste, first, number = draw_tastes(rng, urn, counts)
    favourite = (rng.random(len(user)) ** 2 + TASTE_DRIFT * day / DAYS) % 1
    theme = taste[first[user] + (favourite * number[user]).astype(np.int64)]
    exploring = rng.random(len(user)) < EXPLORING
    return np.where(exploring, urn.anything(rng, len(user)), theme)


def continued(rng: np.random.Generator, user: np.ndarray) -> np.ndarray:
    """For each session the one whose theme it has: itself or one before it of the same user."""
    own = changes(user) | (rng.random(len(user)) >= CONTINUED)
    return np.maximum.accumulate(np.where(own, np.arange(len(user)), 0))


def draw_tastes(
    rng: np.random.Generator, urn: Urn, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tastes, as positions of tracks that stand for their scene; first and number of each user."""
    number = np.minimum(TASTES + counts // PER_TASTE, MAX_TASTES)
    first = offsets_of(number)[:-1]
    taste = urn.anything(rng, int(number.sum()))
    related = urn.like(rng, urn.catalog.family, np.repeat(taste[first], number))
    keep = rng.random(len(taste)) >= SAME_FAMILY
    keep[first] = True
    return np.where(keep, taste, related), first, number


def draw_tracks(
    rng: np.random.Generator, urn: Urn, counts: np.ndarray, sessions: Sessions
) -> tuple[np.ndarray, np.ndarray]:
    """Sessions and tracks of exactly `counts` listens a user, a track once a user.

    A pair drawn twice stays in its earliest session. Pairs are packed into one integer: user,
    track, session.
    """
    n_tracks, bits = len(urn.catalog.artist), len(sessions.day).bit_length()
    packed, have, done = np.empty(0, dtype=np.int64), np.zeros_like(counts), 0
    while (short := np.maximum(counts - have, 0)).any():
        by_taste = done < ROUNDS
        factor = SURPLUS if by_taste else n_tracks / np.maximum(n_tracks - have, 1)
        user = np.repeat(np.arange(len(counts)), np.ceil(short * factor).astype(np.int64))
        session = sessions.first[user] + rng.integers(sessions.count[user])
        if by_taste:
            track, fresh = by_theme(rng, urn, sessions, session)
            user, session, track = user[fresh], session[fresh], track[fresh]
        else:
            track = rng.integers(n_tracks, size=len(user))
        packed = np.concatenate([packed, (user * n_tracks + track) << bits | session])
        packed.sort()
        packed = packed[changes(packed >> bits)]
        have = np.bincount((packed >> bits) // n_tracks, minlength=len(counts))
        done += 1
    packed = without_surplus(rng, packed, have, counts)
    return packed & ((1 << bits) - 1), (packed >> bits) % n_tracks


def by_theme(
    rng: np.random.Generator, urn: Urn, sessions: Sessions, session: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One track for each session given, and whether it is out and not yet faded on that day."""
    shares = np.cumsum([BY_ARTIST, BY_SCENE, BY_GENRE])
    level = np.searchsorted(shares, rng.random(len(session)), side="right")
    track = urn.draw(rng, sessions.low[level, session], sessions.high[level, session])
    age = sessions.day[session] - urn.catalog.release[track]
    return track, rng.random(len(session)) < urn.freshness[age + DAYS]


def without_surplus(
    rng: np.random.Generator, packed: np.ndarray, have: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Keep counts[i] of the have[i] pairs of each user i, chosen by chance; sorted by user."""
    user = row_of_each(have)
    order = np.argsort(user + rng.random(len(user)), kind="stable")
    place = place_in_row(have)
    kept: np.ndarray = packed[order[place < np.repeat(counts, have)]]
    return kept


def in_order(
    rng: np.random.Generator,
    session: np.ndarray,
    artist: np.ndarray,
    track: np.ndarray,
    n_tracks: int,
) -> np.ndarray:
    """The order of listens: by session, its artists one after another, their albums in order."""
    turn = (session * 1_000_003 + artist) * 0x9E3779B97F4A7C1 >> 20  # a number per pair, mixed
    chance = rng.integers(1 << ORDER_BITS, size=len(turn))
    turn = np.where(rng.random(len(turn)) < SHUFFLED, chance, turn & ((1 << ORDER_BITS) - 1))
    return np.argsort((session << ORDER_BITS | turn) * n_tracks + track, kind="stable")
