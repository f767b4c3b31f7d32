"""Many weighted blendings tried on the same plays: what competes is the same, only weights differ.

For each play every allowed neighbour that an event brings and every weighed place of the offline
list is an entry. Entries of one track are added up, as jobs.contract.blending.weighted does it, and
the play is a hit if fewer than K tracks stand before its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract.blending import (
    LISTED,
    WEIGHED,
    Blending,
    fadings,
    first_neighbours,
    fitting,
    places_worth,
    raised,
)
from jobs.contract.ragged import offsets_of_sorted, place_in_row, row_of_each
from jobs.selection.replay_sessions import FAR, K, Sessions


@dataclass(frozen=True)
class RuleScorer:
    """The entries of the plays that can be hits, by play and track, for so many of each event."""

    plays: np.ndarray  # (p,): places in the sessions' plays
    kind: np.ndarray  # (entries,): what an entry's weight depends on, see worth_of_kinds
    score: np.ndarray  # (entries,) float32: of the neighbour; 1 for an offline place
    offsets: np.ndarray  # (tracks + 1,): where the entries of each track of a play begin
    row: np.ndarray  # (tracks,): the play
    before: np.ndarray  # (tracks,) bool: whether it would stand before the play's own, if equal
    own: np.ndarray  # (p,): the track that was played
    fit: np.ndarray  # (tracks,) float32: to the user's taste; 0 without a fold-in
    _powers: dict[float, csr_matrix] = field(default_factory=dict)  # of the last exponent only

    @classmethod
    def of(cls, sessions: Sessions, size: Blending, some: np.ndarray | bool = True) -> "RuleScorer":
        """Gather the entries for rules with the sources, events and neighbours of `size`.

        Of the sources one at least has lists; a weight of 0 leaves another out. `some` (plays,)
        bool says which plays are looked at.
        """
        possible = (sessions.near(size) | (sessions.offline_place < WEIGHED)) & some
        plays = np.flatnonzero(possible & (sessions.at > 0))
        parts = [*_neighbours(sessions, plays, size), _offline(sessions, plays, size.events)]
        row, item, kind, score = (np.concatenate(column) for column in zip(*parts, strict=True))
        n = sessions.n_tracks
        key = row * n + item  # of a play and a track
        order = np.argsort(key, kind="stable")
        offsets = np.flatnonzero(np.diff(key[order], prepend=-1, append=-2))  # no key is below 0
        track = key[order][offsets[:-1]]
        row = track // n
        folds_in = "fold_in" in size.weights()
        fit = _fit(sessions, plays, row, track % n) if folds_in else np.zeros(len(row), np.float32)
        own = np.arange(len(plays)) * n + sessions.target[plays]
        return cls(
            plays,
            kind[order],
            score[order],
            offsets,
            row,
            sessions.ties[track % n] < sessions.ties[own % n][row],
            np.searchsorted(track, own),
            fit,
        )

    def places(self, rule: Blending) -> np.ndarray:
        """(p,): where each play's track stands by a weighted rule of this size, FAR if nowhere."""
        worth = worth_of_kinds(rule)
        sums = self.powers(rule.score_exponent, len(worth)) @ worth
        if "fold_in" in rule.weights():
            sums += fitting(self.fit, rule)
        own = sums[self.own]
        of_row = own[self.row]
        better = (sums > of_row) | (self.before & (sums == of_row))
        ahead = np.bincount(self.row[better], minlength=len(own))
        return np.where(own > 0, ahead, FAR)

    def powers(self, exponent: float, kinds: int) -> csr_matrix:
        """(tracks, kinds) float64: the score of each entry to a power, in the column of its kind.

        The matrix is kept until another exponent is asked for. Its product with what the kinds are
        worth takes half the time of adding up the entries by numpy.
        """
        if exponent not in self._powers:
            self._powers.clear()
            scores = raised(self.score, exponent).astype(np.float64)
            shape = len(self.row), kinds
            self._powers[exponent] = csr_matrix((scores, self.kind, self.offsets), shape)
        return self._powers[exponent]

    def hits(self, rule: Blending) -> np.ndarray:
        """(p,) bool: which plays a weighted rule of this size would have hit."""
        hits: np.ndarray = self.places(rule) < K
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
    """Yield what the last events before each play bring, play by play and source by source."""
    for row, play in enumerate(plays.tolist()):
        tracks = sessions.events(play)[: size.events]
        events, ages = tracks.tolist(), np.arange(len(tracks), dtype=np.int32)
        with sessions.exclusion.of(sessions.out(play)) as allowed:
            for number, source in enumerate(LISTED):
                if source in size.weights() and events:
                    items, scores, counts = first_neighbours(
                        sessions.lists[source], events, size.neighbours, allowed
                    )
                    kind = (np.int32(number * size.events) + ages).repeat(counts)
                    yield np.full(len(items), row), items, kind, np.maximum(scores, 0)


def _offline(sessions: Sessions, plays: np.ndarray, events: int) -> Entries:
    """The offline list as it was before each play."""
    found = [sessions.weighed(play) for play in plays.tolist()]
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
