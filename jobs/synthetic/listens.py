"""Draw the synthetic listens of a block of users: tastes → sessions → listens.

A user has tastes (scenes of the catalogue), and the favourite taste changes during the year. A
session has a day, a theme (one of the tastes) and a leading artist. The track of a listen is drawn
from that artist, its scene, its genre or the whole catalogue, in proportion to popularity. Each of
these is a range of catalogue positions, so a search in the cumulative popularity draws a track.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.contract.ragged import offsets_of, place_in_row, row_of_each
from jobs.synthetic.catalog import DAYS, OLDEST, Catalog, changes

NEW_IN_YEAR, LEFT_IN_YEAR = 0.25, 0.08  # shares of users who join or leave during the year
PER_SESSION = 4  # mean listens of a session
TASTES, PER_TASTE, MAX_TASTES = 3, 40, 40  # a user has TASTES + listens // PER_TASTE, or MAX_TASTES
SAME_FAMILY = 0.6  # share of tastes in the family of genres of the user's first taste
TASTE_DRIFT = 0.7  # how far the favourite moves along the tastes in a year, as a share of them
CONTINUED = 0.35  # share of sessions with the theme and artist of the previous one
EXPLORING = 0.15  # share of sessions outside the user's tastes
BY_ARTIST, BY_SCENE, BY_GENRE = (
    0.4,
    0.3,
    0.15,
)  # shares of listens; the others are drawn from the whole catalogue


SHUFFLED = 0.3  # share of listens with a random place in the session
# A drawn track is kept with a probability that is 1 on its day of release and falls to STEADY; the
# half-life is in days.
STEADY, HALF_LIFE = 0.35, 60
ROUNDS = 8  # of draws by taste; after them missing listens are drawn from the whole catalogue
SURPLUS = 2.5  # draws for each missing listen, as many of them are repeats
BLOCK = 1 << 19  # listens in a block
ORDER_BITS = 12  # bits of the random order of artists in a session


@dataclass(frozen=True)
class Sessions:
    """The S sessions of a block of users, sorted by user and day."""

    first: np.ndarray  # (users,) position of the user's first session
    count: np.ndarray  # (users,) number of the user's sessions
    day: np.ndarray  # (S,) from 0 to DAYS - 1
    low: np.ndarray  # (4, S) ranges of cumulative popularity: by artist, scene, genre, anything
    high: np.ndarray


class TrackSampler:
    """Draws catalogue positions in proportion to popularity."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.cumulative = np.concatenate([[0.0], np.cumsum(catalog.popularity)])
        age = np.arange(-DAYS, DAYS - OLDEST + 1)
        fading = STEADY + (1 - STEADY) * 0.5 ** (np.maximum(age, 0) / HALF_LIFE)
        self.freshness = np.where(age < 0, 0.0, fading)  # by age in days + DAYS

    def range_of(self, run: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cumulative popularity at both ends of the run of each position.

        `run` is a level of the catalogue, as catalog.artist; `position` (n,) gives two (n,).
        """
        ends = self.cumulative[np.append(np.flatnonzero(changes(run)), len(run))]
        return ends[run[position]], ends[run[position] + 1]

    def draw(self, rng: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Draw one position from each range of cumulative popularity."""
        point = low + (high - low) * rng.random(len(low))
        position = np.searchsorted(self.cumulative, point, side="right") - 1
        last = len(self.cumulative) - 2
        result: np.ndarray = np.minimum(position, last)
        return result

    def anything(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Draw n positions from the whole catalogue."""
        return self.draw(rng, np.zeros(n), np.full(n, self.cumulative[-1]))

    def like(self, rng: np.random.Generator, run: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Draw for each position a position of the same run."""
        return self.draw(rng, *self.range_of(run, position))


def user_blocks(counts: np.ndarray) -> Iterator[slice]:
    """Yield slices of users with about BLOCK listens each."""
    starts = np.flatnonzero(changes((np.cumsum(counts) - 1) // BLOCK))
    for start, stop in zip(starts, np.append(starts[1:], len(counts)), strict=True):
        yield slice(start, stop)


def draw_listens(
    rng: np.random.Generator, sampler: TrackSampler, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw counts[i] listens for each user i: days and track positions, sorted by user and time."""
    sessions = draw_sessions(rng, sampler, counts)
    session, track = draw_tracks(rng, sampler, counts, sessions)
    order = in_order(
        rng, session, sampler.catalog.artist[track], track, len(sampler.catalog.artist)
    )
    return sessions.day[session[order]], track[order]


def draw_sessions(rng: np.random.Generator, sampler: TrackSampler, counts: np.ndarray) -> Sessions:
    """Draw the days and themes of the sessions of users with `counts` listens."""
    count = -(-counts // PER_SESSION)
    user = row_of_each(count)
    day = draw_days(rng, user, len(counts))
    theme = draw_themes(rng, sampler, counts, user, day)
    source = continued(rng, user)
    theme, lead = theme[source], sampler.like(rng, sampler.catalog.scene, theme)[source]
    ranges = [
        sampler.range_of(sampler.catalog.artist, lead),
        sampler.range_of(sampler.catalog.scene, theme),
        sampler.range_of(sampler.catalog.genre, theme),
        (np.zeros(len(user)), np.full(len(user), sampler.cumulative[-1])),
    ]
    low, high = (np.stack(ends) for ends in zip(*ranges, strict=True))
    return Sessions(offsets_of(count)[:-1], count, day, low, high)


def draw_days(rng: np.random.Generator, user: np.ndarray, n_users: int) -> np.ndarray:
    """Draw the day of each session, ascending per user; `user` (S,) is the user of each session."""
    joined = np.where(rng.random(n_users) < NEW_IN_YEAR, rng.integers(DAYS, size=n_users), 0)
    leaves = rng.random(n_users) < LEFT_IN_YEAR
    left = np.where(leaves, rng.integers(joined, DAYS), DAYS - 1)
    day = joined[user] + ((left + 1 - joined)[user] * rng.random(len(user))).astype(np.int64)
    return np.sort(user * DAYS + day) % DAYS


def draw_themes(
    rng: np.random.Generator,
    sampler: TrackSampler,
    counts: np.ndarray,
    user: np.ndarray,
    day: np.ndarray,
) -> np.ndarray:
    """Draw each session's theme (a taste or any scene) as the position of one of its tracks."""
    taste, first, number = draw_tastes(rng, sampler, counts)
    favourite = (rng.random(len(user)) ** 2 + TASTE_DRIFT * day / DAYS) % 1
    theme = taste[first[user] + (favourite * number[user]).astype(np.int64)]
    exploring = rng.random(len(user)) < EXPLORING
    return np.where(exploring, sampler.anything(rng, len(user)), theme)


def continued(rng: np.random.Generator, user: np.ndarray) -> np.ndarray:
    """Return for each session (S,) the session whose theme it has: itself or an earlier one."""
    own = changes(user) | (rng.random(len(user)) >= CONTINUED)
    return np.maximum.accumulate(np.where(own, np.arange(len(user)), 0))


def draw_tastes(
    rng: np.random.Generator, sampler: TrackSampler, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw tastes as track positions; return them, and each user's first taste and their number."""
    number = np.minimum(TASTES + counts // PER_TASTE, MAX_TASTES)
    first = offsets_of(number)[:-1]
    taste = sampler.anything(rng, int(number.sum()))
    related = sampler.like(rng, sampler.catalog.family, np.repeat(taste[first], number))
    keep = rng.random(len(taste)) >= SAME_FAMILY
    keep[first] = True
    return np.where(keep, taste, related), first, number


def draw_tracks(
    rng: np.random.Generator, sampler: TrackSampler, counts: np.ndarray, sessions: Sessions
) -> tuple[np.ndarray, np.ndarray]:
    """Draw exactly counts[i] listens of user i: sessions and track positions.

    A user hears each track once: a pair of user and track that is drawn twice keeps its earliest
    session. User, track and session are packed into one integer, the session in the lowest bits.
    Sorting these integers puts the earliest session of a pair first.
    """
    n_tracks, bits = len(sampler.catalog.artist), len(sessions.day).bit_length()
    packed, have, done = np.empty(0, dtype=np.int64), np.zeros_like(counts), 0
    while (short := np.maximum(counts - have, 0)).any():
        by_taste = done < ROUNDS
        factor = SURPLUS if by_taste else n_tracks / np.maximum(n_tracks - have, 1)
        user = np.repeat(np.arange(len(counts)), np.ceil(short * factor).astype(np.int64))
        session = sessions.first[user] + rng.integers(sessions.count[user])
        if by_taste:
            track, fresh = by_theme(rng, sampler, sessions, session)
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
    rng: np.random.Generator, sampler: TrackSampler, sessions: Sessions, session: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a track for each session, and whether to keep it, by its freshness on that day."""
    shares = np.cumsum([BY_ARTIST, BY_SCENE, BY_GENRE])
    level = np.searchsorted(shares, rng.random(len(session)), side="right")
    track = sampler.draw(rng, sessions.low[level, session], sessions.high[level, session])
    age = sessions.day[session] - sampler.catalog.release[track]
    return track, rng.random(len(session)) < sampler.freshness[age + DAYS]


def without_surplus(
    rng: np.random.Generator, packed: np.ndarray, have: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Keep counts[i] random ones of the have[i] pairs of each user i, sorted by user."""
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
    """Return the order of listens: by session, then by artist, then in album order.

    The artists of a session come in a random order. A share of SHUFFLED listens has a random place.
    """
    turn = (session * 1_000_003 + artist) * 0x9E3779B97F4A7C1 >> 20  # a hash of the pair
    chance = rng.integers(1 << ORDER_BITS, size=len(turn))
    turn = np.where(rng.random(len(turn)) < SHUFFLED, chance, turn & ((1 << ORDER_BITS) - 1))
    return np.argsort((session << ORDER_BITS | turn) * n_tracks + track, kind="stable")
