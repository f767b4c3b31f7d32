"""Why tracks are in an answer: what they are near is asked again without each of the last events.

So "because you listened to X" is true by construction: take X away, and the track's online score
is lower, or it is not among what the other events bring.
"""

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from api.release.catalog import Catalog
from api.schemas import Reason
from jobs.contract.blending import WEIGHED, Near, Tracks

Events = tuple[int, ...]  # item ids, newest first


Bring = Callable[[Events, str], Near]  # what events bring online, by one source of tracks or ALL


ALL = ""
ROUNDING = 1e-9  # of a score; a smaller difference is none


def reasons(
    catalog: Catalog, row: int, answer: Tracks, events: Events, bring: Bring
) -> list[Reason]:
    """A reason for each track of the answer to the user of a row who has had these events."""
    final = {track: rank for rank, track in enumerate(catalog.final(row).tolist(), 1)}
    competing = max(len(answer), WEIGHED) + len(final)
    reach = competing + len(catalog.history(row)) + len(events)  # as far as the top list was read
    top = {track: rank for rank, track in enumerate(catalog.top(reach).tolist(), 1)}
    online = catalog.blending.rule != "offline" and len(events) > 0
    sources = catalog.blending.weights() if online else {}
    brought = {source: set(bring(events, source).tracks.tolist()) for source in sources}
    because = causes(events, events[: catalog.blending.events], bring) if online else {}
    return [
        Reason(
            track_id=track_id,
            name=catalog.name(track),
            final_rank=final.get(track),
            top_rank=None if track in final else top.get(track),
            sources=[source for source, tracks in brought.items() if track in tracks],
            events=because.get(track, []),
        )
        for track, track_id in zip(answer.tolist(), catalog.ids(answer), strict=True)
    ]


def causes(events: Events, counted: Events, bring: Bring) -> dict[int, list[int]]:
    """By track, which of the counted events it would lose by their absence, the most by the first.

    Without an event an older one may come to count, or count more: then nothing is lost by it.
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
    """What each track gains, all in all; what is below 0 counts as 0."""
    tracks, places = np.unique(brought.tracks, return_inverse=True)
    gains = np.bincount(places, np.maximum(brought.gains, 0), len(tracks))
    return dict(zip(tracks.tolist(), gains.tolist(), strict=True))
