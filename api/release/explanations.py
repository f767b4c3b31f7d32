"""Why tracks are in an answer: the online scores are computed again without each last event.

So "because you listened to X" is true by construction: without X, the track's online score is
lower, or the other events do not bring the track at all.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from api.release.catalog import Catalog
from api.schemas import Reason
from jobs.contract.blending import WEIGHED, Near, Tracks

Events = tuple[int, ...]  # item ids, newest first


# bring(events, source): the tracks that one source, or ALL of them, brings for some events
Bring = Callable[[Events, str], Near]


ALL = ""
ROUNDING = 1e-9  # relative difference up to which two scores count as equal


def reasons(
    catalog: Catalog, row: int, answer: Tracks, events: Events, bring: Bring
) -> list[Reason]:
    """Return a reason for each track of an answer.

    The answer is of the user in a row of the catalog, who has had these events.
    """
    final = {track: rank for rank, track in enumerate(catalog.final(row).tolist(), 1)}
    competing = max(len(answer), WEIGHED) + len(final)
    # the answer needed at most so many tracks of the top list
    reach = competing + len(catalog.history(row)) + len(events)
    top = {track: rank for rank, track in enumerate(catalog.top(reach).tolist(), 1)}
    online = catalog.blending.rule != "offline" and len(events) > 0
    sources = catalog.blending.weights() if online else {}
    brought = {source: set(bring(events, source).tracks.tolist()) for source in sources}
    counted = events[: catalog.blending.events]
    events_of_track = causes(events, counted, bring) if online else {}
    return [
        Reason(
            track_id=track_id,
            name=catalog.name(track),
            artists=catalog.details.artists(track),
            final_rank=final.get(track),
            top_rank=None if track in final else top.get(track),
            sources=[source for source, tracks in brought.items() if track in tracks],
            events=events_of_track.get(track, []),
        )
        for track, track_id in zip(answer.tolist(), catalog.ids(answer), strict=True)
    ]


def causes(events: Events, counted: Events, bring: Bring) -> dict[int, list[int]]:
    """Return for each track the counted events without which its score would be lower.

    The event whose absence costs most comes first. Without an event, an older one may start to
    count, or count more; if the track's score is then not lower, the event is no cause. Example:

        all of 10, 20     track 13: 1.1   track 12: 0.8
        without 10        track 13: 0.7                     13 loses 0.4, and 12 all of its 0.8
        without 20        track 13: 0.4   track 12: 0.8     13 loses 0.7
        result            {13: [20, 10], 12: [10]}
    """
    scores = sums(bring(events, ALL))
    losses = defaultdict(list)
    for event in dict.fromkeys(counted):
        others = sums(bring(tuple(e for e in events if e != event), ALL))
        for track, score in scores.items():
            rest = others.get(track)
            if rest is None or rest < score * (1 - ROUNDING):
                losses[track].append((score - (rest or 0), event))
    return {
        track: [event for _, event in sorted(lost, key=lambda loss: -loss[0])]
        for track, lost in losses.items()
    }


def sums(brought: Near) -> dict[int, float]:
    """Return each track's sum of gains; a gain below 0 counts as 0."""
    tracks, places = np.unique(brought.tracks, return_inverse=True)
    gains = np.bincount(places, np.maximum(brought.gains, 0), len(tracks))
    return dict(zip(tracks.tolist(), gains.tolist(), strict=True))
