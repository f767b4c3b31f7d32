"""The rules that turn neighbours and lists into one list: pure functions, no state, no I/O.

Tracks are positions, and `ties` says in which order those with equal scores come (see ids.Ties).
Live events come newest first; an event's age is the number of events since. What may not be
recommended is left out of every list before the list is cut to its length, so that a cut list is as
long as it can be.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, get_args

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Tracks = NDArray[np.integer]


Scores = NDArray[np.floating]


Rule = Literal["alternate", "weighted", "offline"]


Source = Literal["similar", "next_played", "fold_in"]  # what brings tracks online


SOURCES: tuple[Source, ...] = get_args(Source)
LISTED = SOURCES[:2]  # these have lists of neighbours; fold_in uses all that the user has played
OLD_SOURCES: dict[str, tuple[Source, ...]] = {"both": LISTED, "all": SOURCES}


Weight = Annotated[float, Meta(ge=0, le=1e12)]


HalfLife = Annotated[float, Meta(gt=0, le=1e6)] | None  # None: nothing fades


WEIGHED = 100  # tracks of the offline list that compete with neighbours; the rest comes after
FIRST_BLOCK = 64  # tracks of the top list that are looked at first
RECENT_EVENTS = 5  # kept out of answers where heard tracks are included


class Blending(Struct, frozen=True, forbid_unknown_fields=True):
    """How live events enter an answer; stands in a release's manifest, settings override it."""

    rule: Rule = "alternate"
    sources: Annotated[tuple[Source, ...], Meta(min_length=1)] = ("similar",)
    events: Annotated[int, Meta(ge=1, le=100)] = 10  # how many of the last events count
    neighbours: Annotated[int, Meta(ge=1, le=100)] = 20  # how many each of them brings
    half_life: HalfLife = None  # events after which an event counts half
    similar_weight: Weight = 1.0  # what a neighbour's score is multiplied by
    next_played_weight: Weight = 1.0
    fold_in_weight: Weight = 1.0  # what a track's fit to the user's taste is multiplied by
    score_exponent: Annotated[float, Meta(gt=0, le=10)] = (
        1.0  # to which a neighbour's score is raised before
    )
    # of the rule "weighted" only:
    offline_half_life: HalfLife = None  # events after which the offline list counts half
    offline_half_place: Annotated[float, Meta(gt=0, le=1e6)] = 20.0  # and how far down it does

    def weights(self) -> dict[str, float]:
        """Return the weight of each source that brings tracks, in the order of SOURCES."""
        weights = {name: float(getattr(self, f"{name}_weight")) for name in SOURCES}
        return {name: weights[name] for name in SOURCES if name in self.sources and weights[name]}

    @property
    def only_folds_in(self) -> bool:
        """Whether the fold-in is the only source, so that it has to search all tracks itself."""
        return self.sources == ("fold_in",)


def parse_sources(text: str) -> tuple[Source, ...]:
    """Return the sources that a text names: separated by commas, or in an old spelling.

    The old spellings are "both" (the two that have lists), "all" and names joined by "+".
    ValueError on any other text. The order of the names does not matter, as in:

    >>> parse_sources("fold_in,similar") == parse_sources("similar+fold_in")
    True
    """
    names = OLD_SOURCES.get(text) or text.replace("+", ",").split(",")
    if not set(names).issubset(SOURCES):
        raise ValueError(f"one or more of {', '.join(SOURCES)}, separated by commas")
    return tuple(name for name in SOURCES if name in names)


def upgraded(stored: object) -> object:
    """Return a stored blending in the present form; older files have "source" for "sources".

    >>> upgraded({"rule": "weighted", "source": "similar+fold_in"})
    {'rule': 'weighted', 'sources': ['similar', 'fold_in']}
    """
    if not isinstance(stored, dict) or "sources" in stored:
        return stored
    values: dict[str, Any] = dict(stored)
    old = values.pop("source", None)
    if not isinstance(old, str):
        return stored
    return values | {"sources": [*OLD_SOURCES.get(old, old.split("+"))]}


Allowed = Callable[[Tracks], NDArray[np.bool_]]  # whether each track may be recommended


class Neighbours(NamedTuple):
    """Ranked lists: those of track t are items and scores from offsets[t] to offsets[t + 1]."""

    offsets: Tracks
    items: Tracks
    scores: Scores


Fit = Callable[[Tracks], Scores]  # what each track gains by fitting the user's taste


class Near(NamedTuple):
    """Tracks near some events, with what each of them gains; a track may stand there often."""

    tracks: Tracks
    gains: Scores


NO_TRACKS: Tracks = np.empty(0, np.int32)
NOTHING_NEAR = Near(NO_TRACKS, np.empty(0, np.float64))


def near(lists: Mapping[str, Neighbours], events: Tracks, rule: Blending, allowed: Allowed) -> Near:
    """Return the neighbours of the last events, by the rule's sources, weights and half-life.

    `events` are places in the lists, newest first; one below 0 is a track without neighbours. Each
    event brings the first `rule.neighbours` of its neighbours that are allowed.
    """
    newest = events[: rule.events]
    known = newest >= 0
    rows, fading = newest[known].tolist(), fadings(rule.half_life, rule.events)[: len(newest)]
    tracks, scores, worth = [], [], []
    for source, weight in rule.weights().items():
        if source in lists and rows:
            found = first_neighbours(lists[source], rows, rule.neighbours, allowed)
            tracks.append(found[0])
            scores.append(found[1])
            worth.append((weight * fading[known]).repeat(found[2]))
    if not tracks:
        return NOTHING_NEAR
    gains = raised(np.concatenate(scores), rule.score_exponent) * np.concatenate(worth)
    return Near(np.concatenate(tracks), gains)


def first_neighbours(
    lists: Neighbours, rows: Sequence[int], n: int, allowed: Allowed
) -> tuple[Tracks, Scores, NDArray[np.int64]]:
    """Return the first n allowed neighbours of each of some rows, at least one.

    Tracks and scores, row after row, and (rows,) how many each row has:

    >>> lists = Neighbours(np.array([0, 3, 5]), np.array([7, 8, 9, 8, 9]), np.arange(5.0))
    >>> first_neighbours(lists, [0, 1], 2, lambda tracks: tracks != 8)
    (array([7, 9, 9]), array([0., 2., 4.]), array([2, 1]))
    """
    at = np.array(rows)
    starts, ends = lists.offsets.take(at), lists.offsets.take(at + 1)
    lengths = (ends - starts).tolist()  # min and max of a short list take less time than NumPy's
    longest = max(lengths)
    if not longest:
        return NO_TRACKS, lists.scores[:0], np.zeros(len(rows), np.int64)
    width = min(2 * n, longest)  # enough unless more than half of a list's beginning is left out
    while True:
        places = starts[:, None] + np.arange(width)  # (rows, width)
        may = allowed(lists.items.take(places, mode="clip"))
        if min(lengths) < width:
            may &= places < ends[:, None]
        so_far = np.add.accumulate(may, axis=1, dtype=np.int64)
        if width == longest or min(so_far[:, -1].tolist()) >= n:
            break
        width = longest
    kept = places[may & (so_far <= n)]
    return lists.items.take(kept), lists.scores.take(kept), np.minimum(so_far[:, -1], n)


def fitting(scores: Scores, rule: Blending) -> Scores:
    """What tracks gain by their products with the user's vector."""
    gains: Scores = raised(scores, rule.score_exponent) * rule.fold_in_weight
    return np.maximum(gains, 0)


def fitted(tracks: Tracks, scores: Scores, rule: Blending) -> Near:
    """The tracks that fit the user's taste at all; scores are their products with the vector."""
    fits = (tracks >= 0) & (scores > 0)
    return Near(tracks[fits], fitting(scores[fits], rule))


def together(found: Sequence[Near]) -> Near:
    """All of them in one."""
    if len(found) == 1:
        return found[0]
    return Near(*map(np.concatenate, zip(*found, strict=True))) if found else NOTHING_NEAR


def raised(scores: Scores, exponent: float) -> Scores:
    """The scores to a power; then those below 0 count as 0."""
    if exponent == 1:
        return scores
    powers: Scores = np.maximum(scores, 0) ** scores.dtype.type(exponent)
    return powers


@lru_cache
def fadings(half_life: float | None, n: int) -> Scores:
    """(n,) float64: what an event of age 0, 1, … counts."""
    ages = np.arange(n)
    return np.ones(n) if half_life is None else np.exp2(-ages / half_life)


@lru_cache
def places_worth(half_place: float) -> Scores:
    """(WEIGHED,) float64: what the places of the offline list count, the first 1."""
    return half_place / (half_place + np.arange(WEIGHED))


def offline_worth(rule: Blending, n: int, n_events: int) -> Scores:
    """Return (n,) float64: what the first n places of the offline list count after some events.

    Of the rule "weighted"; n is at most WEIGHED. With an offline_half_life of 2 events:

    >>> offline_worth(Blending(rule="weighted", offline_half_life=2, offline_half_place=1), 3, 2)
    array([0.5       , 0.25      , 0.16666667])
    """
    worth = places_worth(rule.offline_half_place)[:n]
    if rule.offline_half_life is None:
        return worth
    faded: Scores = worth * 2.0 ** (-min(n_events, rule.events) / rule.offline_half_life)
    return faded


def merge_neighbours(
    tracks: Tracks,
    scores: Scores,
    ties: Tracks,
    most: int | None = None,
    fit: Fit | None = None,
) -> Tracks:
    """Merge the neighbours of several events, best first: a track's score is its sum over them.

    The arrays hold all the events' neighbours, one after the other; those of a repeated event
    stand there twice. A score below 0 counts as 0, so that to be near one more event never lowers
    a track. Of two tracks with equal sums, the one with the lower place in `ties` comes first; ties
    has a place for each track. Only the first `most` are returned, if given.
    `fit`, if given, adds to the sums.
    """
    if not len(tracks):
        return tracks
    order = _by_track(tracks)
    tracks = tracks[order]
    first = np.empty(len(tracks), bool)
    first[0] = True
    np.not_equal(tracks[1:], tracks[:-1], out=first[1:])
    starts = first.nonzero()[0]
    sums = np.add.reduceat(np.maximum(scores, 0.0, dtype=np.float64)[order], starts)
    tracks = tracks[starts]
    if fit is not None:
        sums += fit(tracks)
    if most is not None and 2 * most < len(sums):  # sorting them all would take longer
        enough = sums >= np.partition(sums, -most)[-most]
        tracks, sums = tracks[enough], sums[enough]
    return tracks[np.lexsort((ties.take(tracks), -sums))][:most]


def _by_track(tracks: Tracks) -> Tracks:
    """Return the order of argsort(kind="stable").

    Up to 65,536 tracks of 32 bits fit with their places into one number each, and to sort these
    takes half the time: 5, 3, 5 are 5·65,536 + 0, 3·65,536 + 1 and 5·65,536 + 2, which are sorted
    to 3, 5, 5 with the places 1, 0, 2.
    """
    if tracks.dtype.itemsize > 4 or len(tracks) > 1 << 16:
        order: Tracks = tracks.argsort(kind="stable")
        return order
    keys = tracks.astype(np.int64) << 16
    keys |= np.arange(len(tracks))
    keys.sort()
    keys &= 0xFFFF
    return keys


def without(tracks: Tracks, others: Tracks) -> Tracks:
    """Return the tracks that are not among the others (ascending), in their order."""
    if not len(others):
        return tracks
    places = others.searchsorted(tracks)
    places[places == len(others)] = 0
    left: Tracks = tracks[others[places] != tracks]
    return left


class Exclusion:
    """Tracks that may not be recommended, as positions among n_tracks.

    It is a mask that is set for one answer and cleared after it. To look up 1,000 tracks takes
    5 µs, however many are excluded; a search in a sorted array takes 40. The mask has a byte for
    each track, and only one thread may use it. The tracks `never` are excluded from every answer.
    """

    def __init__(self, n_tracks: int, never: Tracks = NO_TRACKS) -> None:
        # (n_tracks + 1,): which tracks are allowed; the last place takes the positions of -1
        self.mask = np.ones(n_tracks + 1, bool)
        self.mask[never] = False
        self._out = NO_TRACKS

    def of(self, tracks: Tracks) -> "Exclusion":
        """Name the tracks to exclude inside the `with` block that follows.

        -1 stands for a track without a position. The blocks cannot be nested.
        """
        self._out = tracks
        return self

    def __enter__(self) -> Allowed:
        self.mask[self._out] = False
        return self.mask.take

    def __exit__(self, *_: object) -> None:
        self.mask[self._out] = True


def in_growing_blocks(tracks: Tracks) -> Iterator[Tracks]:
    """A long list in blocks for first_of: most often the first will do."""
    start, end = 0, FIRST_BLOCK
    while start < len(tracks):
        yield tracks[start:end]
        start, end = end, 2 * end


def first_of(blocks: Iterable[Tracks], allowed: Allowed, n: int) -> Tracks:
    """Return the first n allowed tracks of the blocks, one after the other, none of them twice.

    A block has no track twice. Only as many blocks are read as are needed.
    """
    found = NO_TRACKS
    for block in blocks:
        fresh = block[allowed(block)]
        if len(found):
            fresh = np.concatenate([found, without(fresh, np.sort(found))])
        found = fresh
        if len(found) >= n:
            break
    return found[:n]


def alternate(online: Iterable[int], offline: Iterable[int], k: int) -> list[int]:
    """In turn one of each, online first, to k tracks; when one is used up, the rest of the other.

    A list's turn is its next track that is not in the answer yet.
    """
    answer: dict[int, None] = {}
    turns = iter(offline)
    for track in online:
        if track not in answer:
            answer[track] = None
            for other in turns:
                if other not in answer:
                    answer[other] = None
                    break
            if len(answer) >= k:
                return list(answer)[:k]
    answer.update(dict.fromkeys(turns))
    return list(answer)[:k]


def weighted(
    online: Near,
    offline: Tracks,
    n_events: int,
    rule: Blending,
    most: int,
    ties: Tracks,
    fit: Fit | None = None,
) -> Tracks:
    """Both lists in one order: what a track gains online and by its place in the offline list.

    Place p of the offline list, from 0, counts `offline_half_place` / (`offline_half_place` + p).
    All places count half as much after every `offline_half_life` of the events that count. Only
    the first `most` tracks are returned.
    """
    worth = offline_worth(rule, len(offline), n_events)
    tracks = np.concatenate([online.tracks, offline])
    return merge_neighbours(tracks, np.concatenate([online.gains, worth]), ties, most, fit)


def blend(
    online: Near,
    offline: Iterable[Tracks],
    allowed: Allowed,
    k: int,
    rule: Blending,
    n_events: int,
    ties: Tracks,
    fit: Fit | None = None,
) -> Tracks:
    """Return the first k tracks of both lists by the rule: none twice, all of them allowed.

    `online` is what n_events events bring, allowed tracks only. `offline` comes in blocks that are
    read only as far as needed, so it may go on to the whole top list. By "weighted" its first
    WEIGHED tracks compete with the neighbours, and the others follow. `ties` has the
    place of each track among those with equal scores. `fit` is what competing tracks gain besides.
    """
    own = first_of(offline, allowed, max(k, WEIGHED) if rule.rule == "weighted" else k)
    if rule.rule == "offline" or not (len(online.tracks) or fit):
        return own[:k]
    if rule.rule == "alternate":
        return completed(merge_neighbours(*online, ties, k, fit), own, k, rule)
    best = weighted(online, own[:WEIGHED], n_events, rule, k, ties, fit)
    return completed(best, own, k, rule)


def completed(best: Tracks, own: Tracks, k: int, rule: Blending) -> Tracks:
    """Return the first k tracks of the best ones and of the offline list `own`, none twice.

    By "alternate" the best ones are neighbours, and the offline tracks come in turn with them. By
    "weighted" the first WEIGHED offline tracks have competed already, and the others follow.
    """
    if rule.rule == "alternate":
        return np.array(alternate(best.tolist(), own.tolist(), k), best.dtype)
    rest = own[WEIGHED:]
    return np.concatenate([best, without(rest, np.sort(best))])[:k] if len(rest) else best
