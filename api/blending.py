"""The rules that turn neighbours and lists into one list: pure functions, no state, no I/O.

Tracks are integers, ids or positions alike: a rule only compares them.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Tracks = NDArray[np.integer]
Scores = NDArray[np.floating]
Rule = Literal["alternate", "offline"]
Source = Literal["similar", "next_played"]  # whose neighbours


class Blending(Struct, frozen=True, forbid_unknown_fields=True):
    """How live events enter an answer; stands in a release's manifest, settings override it."""

    rule: Rule = "alternate"
    source: Source = "similar"
    events: Annotated[int, Meta(ge=1, le=100)] = 10  # how many of the last events count
    neighbours: Annotated[int, Meta(ge=1, le=100)] = 20  # how many each of them brings


def merge_neighbours(tracks: Tracks, scores: Scores) -> Tracks:
    """Merge the neighbours of several events, best first: a track's score is its sum over them.

    The arrays hold all the events' neighbours, one after the other; those of a repeated event
    stand there twice. A score below 0 counts as 0, so that to be near one more event never lowers
    a track. Equal sums go by track, ascending.
    """
    if not len(tracks):
        return tracks
    order = tracks.argsort(kind="stable")
    tracks = tracks[order]
    first = np.empty(len(tracks), bool)
    first[0] = True
    np.not_equal(tracks[1:], tracks[:-1], out=first[1:])
    starts = first.nonzero()[0]
    sums = np.add.reduceat(np.maximum(scores, 0.0, dtype=np.float64)[order], starts)
    merged: Tracks = tracks[starts][(-sums).argsort(kind="stable")]
    return merged


def without(tracks: Tracks, heard: Tracks) -> Tracks:
    """The tracks that are not in `heard` (ascending), in their order."""
    if not len(heard):
        return tracks
    places = heard.searchsorted(tracks)
    places[places == len(heard)] = 0
    unheard: Tracks = tracks[heard[places] != tracks]
    return unheard


def alternate(online: Iterator[int], offline: Iterator[int]) -> Iterator[int]:
    """In turn one of each, online first; when one is used up, the rest of the other."""
    for track in online:
        yield track
        yield from islice(offline, 1)
    yield from offline


def offline_only(online: Iterator[int], offline: Iterator[int]) -> Iterator[int]:
    """The offline list as it is: live events only keep their own tracks out."""
    return offline


RULES = {"alternate": alternate, "offline": offline_only}


def blend(
    online: Iterable[int], offline: Iterable[int], kept_out: Collection[int], k: int, rule: Rule
) -> list[int]:
    """The first k tracks of both lists by the rule: none twice, none of `kept_out`.

    A list's turn is its next track that is not in the answer yet. `offline` is read only as far
    as needed, so it may go on lazily to the whole top list.
    """
    given = set(kept_out)
    online = [track for track in online if track not in given]
    fresh = _fresh(offline, given)
    if online:
        fresh = RULES[rule](_fresh(online, given), fresh)
    return list(islice(fresh, k))


def _fresh(tracks: Iterable[int], given: set[int]) -> Iterator[int]:
    for track in tracks:
        if track not in given:
            given.add(track)
            yield track
