"""Many weighted blendings tried on the same plays: what competes is the same, only weights differ.

For each play every neighbour that an event brings and every weighed place of the offline list is an
entry; entries of one track are added up, as api.blending.weighted does it, and the play is a hit if
fewer than K tracks stand before its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from jobs.contract.blending import (
    LISTED,
    WEIGHED,
    Blending,
    fadings,
    first_of,
    fitting,
    places_worth,
    raised,
)
from jobs.contract.ids import MISSING, find
from jobs.contract.ragged import first_entries, offsets_of_sorted, place_in_row, row_of_each
from jobs.selection.replay_sessions import K, Sessions


@dataclass(frozen=True)
class RuleScorer:
    """The entries of the plays that can be hits, by play and track, for so many of each event."""

    plays: np.ndarray  # (p,): places in the sessions' plays
    kind: np.ndarray  # (entries,): what an entry's weight depends on, see worth_of_kinds
    score: np.ndarray  # (entries,) float32: of the neighbour; 1 for an offline place
    first: np.ndarray  # (tracks,): the first entry of each track of a play
    row: np.ndarray  # (tracks,): the play
    before: np.ndarray  # (tracks,) bool: whether it would stand before the play's own, if equal
    allowed: np.ndarray  # (tracks,) bool: whether it may be recommended
    own: np.ndarray  # (p,): the track that was played
    fit: np.ndarray  # (tracks,) float32: to the user's taste; 0 without a fold-in

    @classmethod
    def of(cls, sessions: Sessions, size: Blending) -> "RuleScorer":
        """Gather the entries for rules with the sources, events and neighbours of `size`.

        Of the sources one at least has lists; a weight of 0 leaves another out.
        """
        possible = sessions.near(size) | (sessions.offline_place < WEIGHED)
        plays = np.flatnonzero(possible & (sessions.at > 0))
        parts = [*_neighbours(sessions, plays, size), _offline(sessions, plays, size.events)]
        row, item, kind, score = (np.concatenate(column) for column in zip(*parts, strict=True))
        n = sessions.n_tracks
        key = row * n + item  # of a play and a track
        order = np.argsort(key, kind="stable")
        first = np.flatnonzero(np.diff(key[order], prepend=-1))
        track = key[order][first]
        row = track // n
        folds_in = "fold_in" in size.weights()
        fit = _fit(sessions, plays, row, track % n) if folds_in else np.zeros(len(row), np.float32)
        own = np.arange(len(plays)) * n + sessions.target[plays]
        out = [i * n + sessions.out(play).astype(np.int64) for i, play in enumerate(plays.tolist())]
        return cls(
            plays,
            kind[order],
            score[order],
            first,
            row,
            track < own[row],
            ~_among(track, np.concatenate([NONE, *out])),
            np.searchsorted(track, own),
            fit,
        )

    def hits(self, rule: Blending) -> np.ndarray:
        """(p,) bool: which plays a weighted rule of this size would have hit."""
        worth, score = worth_of_kinds(rule), raised(self.score, rule.score_exponent)
        sums = np.add.reduceat(worth[self.kind] * score, self.first)
        if "fold_in" in rule.weights():
            sums += fitting(self.fit, rule)
        own = sums[self.own]
        better = (sums > own[self.row]) | (self.before & (sums == own[self.row]))
        ahead = np.bincount(self.row[better & self.allowed], minlength=len(own))
        hits: np.ndarray = (ahead < K) & self.allowed[self.own] & (own > 0)
        return hits


NONE = np.empty(0, np.int64)


Entries = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # row, track, kind, score


def worth_of_kinds(rule: Blending) -> np.ndarray:
    """(kinds,) float64: by source and age, then by number of events and offline place."""
    weights, fading = rule.weights(), fadings(rule.half_life, rule.events)
    near = [fading * weights.get(source, 0.0) for source in LISTED]
    seen = np.arange(1, rule.events + 1)[:, None]
    places = places_worth(rule.offline_half_place) * 2.0 ** (
        -seen / (rule.offline_half_life or np.inf)
    )
    return np.concatenate([*near, places.ravel()])


def _neighbours(sessions: Sessions, plays: np.ndarray, size: Blending) -> Iterator[Entries]:
    """What the last events before each play bring, source by source."""
    events = size.events
    track = np.full((len(plays), events), -1, np.int64)
    for i, play in enumerate(plays.tolist()):
        found = sessions.events(play)[:events]
        track[i, : len(found)] = found
    row, age = np.nonzero(track >= 0)
    for number, source in enumerate(LISTED):
        if source in size.weights():
            lists = sessions.lists[source]
            places, counts = first_entries(lists.offsets, track[row, age], size.neighbours)
            kind = np.repeat((number * events + age).astype(np.int32), counts)
            score = np.maximum(lists.scores[places], 0)
            yield np.repeat(row, counts), lists.items[places], kind, score


def _offline(sessions: Sessions, plays: np.ndarray, events: int) -> Entries:
    """The offline list as it was before each play."""
    found = [
        first_of(sessions.offline(play), sessions.out(play), WEIGHED) for play in plays.tolist()
    ]
    counts = np.array([len(tracks) for tracks in found], np.int64)
    row, place = row_of_each(counts), place_in_row(counts)
    seen = np.minimum(sessions.at[plays], events)[row]
    kind = (len(LISTED) * events + (seen - 1) * WEIGHED + place).astype(np.int32)
    return row, np.concatenate([NONE, *found]), kind, np.ones(len(row), np.float32)


def _fit(sessions: Sessions, plays: np.ndarray, row: np.ndarray, track: np.ndarray) -> np.ndarray:
    """(tracks,) float32: how each track of a play, row by row, fits the user's taste."""
    offsets = offsets_of_sorted(row, len(plays))
    tracks = [track[slice(*bounds)] for bounds in pairwise(offsets)]
    pairs = zip(sessions.fold_in(plays), tracks, strict=True)
    found = [sessions.model.scores(taste, own) for taste, own in pairs]
    return np.concatenate([np.empty(0, np.float32), *found])


def _among(keys: np.ndarray, some: np.ndarray) -> np.ndarray:
    """(keys,) bool: which of the ascending keys are among some others."""
    result = np.zeros(len(keys), bool)
    at = find(keys, some)
    result[at[at != MISSING]] = True
    return result
