"""Why tracks are in an answer: the online scores are computed again without each last event.

So "because you listened to X" is true by construction: without X, the track's online score is
lower, or the other events do not bring the track at all. Only events that bring much are named, so
that the reason is worth reading.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from api.release.catalog import Catalog
from api.schemas import Reason
from jobs.contract.blending import WEIGHED, Near, Tracks
from jobs.contract.journal import Id

Events = tuple[Id, ...]  # track ids, newest first


# bring(events, source): the tracks that one source, or ALL of them, brings for some events
Bring = Callable[[Events, str], Near]


ALL = ""
ROUNDING = 1e-9  # relative difference up to which two scores count as equal
MOST_NAMED = 3  # events of a track
LEAST_SHARE = 0.1  # of what brings most to a track; an event that brings less is not named


def reasons(
    catalog: Catalog,
    row: int,
    answer: Tracks,
    events: Events,
    bring: Bring,
    worth: Mapping[int, float],
) -> list[Reason]:
    """Return a reason for each track of an answer.

    The answer is of the user in a row of the catalog, who has had these events. `worth` says what
    its place in the offline list brings to a track, where this competes with what events bring.
    """
    final = {track: rank for rank, track in enumerate(catalog.final(row).tolist(), 1)}
    competing = max(len(answer), WEIGHED) + len(final)
    # the answer needed at most so many tracks of the top list
    reach = competing + max(len(catalog.history(row)), len(catalog.kept_out(row))) + len(events)
    top = {track: rank for rank, track in enumerate(catalog.top(reach).tolist(), 1)}
    online = catalog.blending.rule != "offline" and len(events) > 0
    sources = catalog.blending.weights() if online else {}
    brought = {source: set(bring(events, source).tracks.tolist()) for source in sources}
    counted = events[: catalog.blending.events]
    lost = losses(events, counted, bring) if online else {}
    return [
        Reason(
            track_id=one.track_id,
            name=one.name,
            artists=one.artists,
            final_rank=final.get(track),
            top_rank=None if track in final else top.get(track),
            sources=[source for source, tracks in brought.items() if track in tracks],
            events=named(lost.get(track, []), worth.get(track, 0.0)),
        )
        for track, one in zip(answer.tolist(), catalog.named(answer), strict=True)
    ]


def losses(events: Events, counted: Events, bring: Bring) -> dict[int, list[tuple[float, Id]]]:
    """Return for each track the counted events without which its score is lower, and by how much.

    Without an event, an older one may start to count, or count more; if the track's score is then
    not lower, the event is no cause. Example:

        all of 10, 20     track 13: 1.1   track 12: 0.8
        without 10        track 13: 0.7                     13 loses 0.4, and 12 all of its 0.8
        without 20        track 13: 0.4   track 12: 0.8     13 loses 0.7
        result            {13: [(0.4, 10), (0.7, 20)], 12: [(0.8, 10)]}
    """
    scores = sums(bring(events, ALL))
    result = defaultdict(list)
    for event in dict.fromkeys(counted):
        others = sums(bring(tuple(e for e in events if e != event), ALL))
        for track, score in scores.items():
            rest = others.get(track)
            if rest is None or rest < score * (1 - ROUNDING):
                result[track].append((score - (rest or 0), event))
    return result


def named(lost: list[tuple[float, Id]], offline: float) -> list[Id]:
    """Return the events to name: at most MOST_NAMED, first the one whose absence costs most.

    An event is left out if it costs less than LEAST_SHARE of what brings most to the track: one of
    the events, or its place in the offline list, which brings `offline`. Of two events that cost
    the same, the newer one comes first.

    >>> named([(0.4, 10), (0.01, 11), (0.7, 20), (0.2, 30), (0.1, 40)], 0.0)
    [20, 10, 30]
    >>> named([(0.04, 10), (0.06, 20)], 0.5)
    [20]
    """
    least = LEAST_SHARE * max([offline, *(loss for loss, _ in lost)])
    much = [(loss, event) for loss, event in lost if loss >= least]
    return [event for _, event in sorted(much, key=lambda pair: -pair[0])][:MOST_NAMED]


def sums(brought: Near) -> dict[int, float]:
    """Return each track's sum of gains; a gain below 0 counts as 0."""
    tracks, places = np.unique(brought.tracks, return_inverse=True)
    gains = np.bincount(places, np.maximum(brought.gains, 0), len(tracks))
    return dict(zip(tracks.tolist(), gains.tolist(), strict=True))
