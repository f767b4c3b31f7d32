"""Divide users and tracks into segments, for which a list may be unequally good."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from jobs.data.holdout import COLD, Holdout
from jobs.data.listens import Listens
from jobs.evaluation.new_tracks import only

THIRDS = (1 / 3, 2 / 3)  # where the second and the last third begin


@dataclass(frozen=True)
class Segment:
    """Some users of the holdout, with those of their labels that count in this segment."""

    name: str
    what: str  # what the segment is, in words
    users: np.ndarray  # (n,): their places in the holdout
    labels: csr_matrix  # (n, items)


def segments(past: Listens, later: Holdout, heard: str) -> list[Segment]:
    """Return all users, segments of users by their plays, and of labels by the track's plays.

    If heard is "include", there is also one of the users who repeat tracks most. Segments without a
    user are left out.
    """
    everybody = _of_users("all", "every user and track", later, np.ones(len(later.row), bool))
    found = [everybody, *_by_plays(past, later), *_by_track(past, later)]
    if heard == "include":
        found.append(_repeaters(past, later))
    return [segment for segment in found if len(segment.users)]


def _by_plays(past: Listens, later: Holdout) -> Iterator[Segment]:
    """Yield the users without a past, and thirds of the others by their number of plays."""
    warm = later.row != COLD
    plays = np.zeros(len(later.row), np.int64)
    plays[warm] = np.diff(past.starts)[later.row[warm]]
    third = np.searchsorted(np.quantile(plays[warm], THIRDS), plays) if warm.any() else plays
    yield _of_users("cold", "no play before the cut", later, ~warm)
    for i, name in enumerate(("few plays", "medium plays", "many plays")):
        users = warm & (third == i)
        counts = plays[users]
        what = f"{counts.min():,} to {counts.max():,} plays before the cut" if len(counts) else ""
        yield _of_users(name, what, later, users)


def _repeaters(past: Listens, later: Holdout) -> Segment:
    """Return the third of the users with a past who have the largest share of repeated plays."""
    warm = np.flatnonzero(later.row != COLD)
    known = past.of_users(later.row[warm])
    counts = np.diff(known.starts)
    share = 1 - known.pairs().getnnz(axis=1) / np.maximum(counts, 1)
    least = np.quantile(share, THIRDS[1]) if len(share) else 0.0
    users = np.zeros(len(later.row), bool)
    users[warm] = (share >= least) & (share > 0)
    return _of_users(
        "heavy repeaters", f"{least:.0%} or more of the plays are repeats", later, users
    )


def _of_users(name: str, what: str, later: Holdout, users: np.ndarray) -> Segment:
    return Segment(name, what, np.flatnonzero(users), csr_matrix(later.labels[users]))


def _by_track(past: Listens, later: Holdout) -> Iterator[Segment]:
    """Yield labels by the plays of their track: a third of all plays, the next third, the rest.

    The labels of tracks without a play are a part of the rest, and also a segment of their own.
    """
    plays = np.bincount(past.item, minlength=past.shape[1])
    third = thirds_of_plays(plays, past.ties.places)
    shares = ["a third of all plays", "the next third", "the rest of the catalogue"]
    if unplayed := np.count_nonzero(plays == 0):
        shares[-1] += f", {unplayed:,} of them without a play before the cut"
    for i, name in enumerate(("head tracks", "mid tracks", "tail tracks")):
        labels = only(later.labels, third == i)
        users = np.flatnonzero(labels.getnnz(axis=1))
        what = f"{np.count_nonzero(third == i):,} tracks: {shares[i]}"
        yield Segment(name, what, users, csr_matrix(labels[users]))
    labels = only(later.labels, plays == 0)
    users = np.flatnonzero(labels.getnnz(axis=1))
    what = f"{unplayed:,} tracks without a play before the cut"
    yield Segment("new tracks", what, users, csr_matrix(labels[users]))


def thirds_of_plays(plays: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Return the third of all plays to which each track belongs, (items,): 0, 1 or 2.

    Tracks are taken from the most played one on, those with equal plays by their places in ties. A
    track belongs to the third in which the plays of
    all tracks before it end. Of 12 plays, the tracks before have 0, 5, 8 and 10:

    >>> thirds_of_plays(np.array([5, 3, 2, 2]), np.arange(4)).tolist()
    [0, 1, 2, 2]
    """
    order = np.lexsort((ties[: len(plays)], -plays))
    before = np.cumsum(plays[order]) - plays[order]
    result = np.empty(len(plays), np.int64)
    result[order] = np.searchsorted(np.array(THIRDS) * plays.sum(), before, side="right")
    return result
