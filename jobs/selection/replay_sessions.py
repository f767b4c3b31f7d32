"""The sessions of a window's holdout, walked through play by play: what would have been a hit.

A session is what one user played after the cut, in order. A play is foreseen from what was known
just before it: the window's lists, which know nothing after the cut, and the session's earlier
plays, its events.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract import tables
from jobs.contract.blending import (
    NO_TRACKS,
    RECENT_EVENTS,
    WEIGHED,
    Allowed,
    Blending,
    Exclusion,
    Fit,
    Near,
    Neighbours,
    Tracks,
    blend,
    first_of,
    fitted,
    fitting,
    in_growing_blocks,
    merge_neighbours,
    near,
)
from jobs.contract.fold_in import FoldInModel
from jobs.contract.ids import hashes
from jobs.contract.names import LIST_LENGTH
from jobs.contract.ragged import offsets_of_sorted, place_in_row
from jobs.contract.top_k import NOTHING
from jobs.data import holdout, ids, listens, sampling
from jobs.data.holdout import COLD
from jobs.data.listens import Listens
from jobs.metrics import accuracy
from jobs.models import als_model, hyperparameters, popularity
from jobs.models.ranked_lists import read_lists
from jobs.runtime.parallel import in_blocks
from jobs.runtime.progress import progress_bar

K = 10
TABLES = {"similar": tables.SIMILAR, "next_played": tables.NEXT_PLAYED}
LONGEST = 30  # plays of a session that are foreseen
MOST_EVENTS = 10  # that bring neighbours, by any rule that is replayed
FAR = np.iinfo(np.int32).max
PLAYS_A_BLOCK = 1024
SEED = 20


@dataclass(frozen=True)
class Sessions:
    """Sessions, and which of their plays are foreseen; tracks are places in the sorted ids."""

    lists: dict[str, Neighbours]  # by source
    model: FoldInModel
    top: Tracks
    ties: np.ndarray  # (tracks,): the place of each track among those with equal scores
    user_ids: np.ndarray  # (sessions,)
    tracks: list[Tracks]  # of each session, in the order played
    final: list[Tracks]  # the user's final list, best first; none of a cold user
    history: list[Tracks]  # what the user has played before, oldest first
    heard: list[Tracks]  # what may not be recommended, as it was heard before or is disliked
    kept_out: int  # how many last events may not be recommended either
    session: np.ndarray  # (plays,) int64
    at: np.ndarray  # (plays,) int64: the number of events before the play
    events_of: np.ndarray  # (sessions,): the session whose events bring neighbours

    def __len__(self) -> int:
        return len(self.session)

    @property
    def n_tracks(self) -> int:
        """Tracks that there are."""
        return len(self.lists["similar"].offsets) - 1

    @cached_property
    def target(self) -> np.ndarray:
        """(plays,): the track that was played."""
        pairs = zip(self.session, self.at, strict=True)
        return np.array([self.tracks[session][at] for session, at in pairs], np.int64)

    def events(self, play: int) -> Tracks:
        """The events that bring neighbours, newest first."""
        events: Tracks = self.tracks[self.events_of[self.session[play]]][: self.at[play]]
        return events[::-1]

    def out(self, play: int) -> Tracks:
        """What may not be recommended, ascending."""
        session, at = self.session[play], self.at[play]
        played = self.tracks[session][max(at - self.kept_out, 0) : at]
        return np.sort(np.concatenate([self.heard[session], played]))

    def offline(self, play: int) -> Iterator[Tracks]:
        """The user's final list, then the top list."""
        yield self.final[self.session[play]]
        yield from in_growing_blocks(self.top)

    @cached_property
    def exclusion(self) -> Exclusion:
        """What may not be recommended at a play, for the time of one computation."""
        return Exclusion(self.n_tracks)

    def brought(self, play: int, rule: Blending, allowed: Allowed) -> tuple[Near, Fit | None]:
        """What the events bring, and what tracks gain by fitting the user's taste."""
        found = near(self.lists, self.events(play), rule, allowed)
        if "fold_in" not in rule.weights():
            return found, None
        if not rule.only_folds_in:
            taste = self.taste(play)
            return found, lambda tracks: fitting(self.model.scores(taste, tracks), rule)
        tracks, scores = (part[play][: rule.neighbours] for part in self.nearest)
        return fitted(tracks, scores, rule), None

    def online_list(self, play: int, rule: Blending) -> Tracks:
        """What the events bring, alone."""
        with self.exclusion.of(self.out(play)) as allowed:
            found, fit = self.brought(play, rule, allowed)
        return merge_neighbours(*found, self.ties, K, fit)

    def answer(self, play: int, rule: Blending) -> Tracks:
        """What the service would answer."""
        with self.exclusion.of(self.out(play)) as allowed:
            online, fit = self.brought(play, rule, allowed)
            n_events = len(self.events(play))
            return blend(online, self.offline(play), allowed, K, rule, n_events, self.ties, fit)

    def weighed(self, play: int) -> Tracks:
        """The offline list just before the play, as far as its tracks compete with neighbours."""
        with self.exclusion.of(self.out(play)) as allowed:
            return first_of(self.offline(play), allowed, WEIGHED)

    @cached_property
    def _tastes(self) -> tuple[np.ndarray, np.ndarray]:
        """(plays, d) vectors of the users, and (plays,) bool: which of them are computed."""
        shape = len(self), len(self.model.gram)
        return np.zeros(shape, np.float32), np.zeros(len(self), bool)

    def taste(self, play: int) -> np.ndarray:
        """(d,) vector of the user, folded in with what they had played until then.

        It is computed at the first call: nearly half of the plays can't be hits and need none.
        """
        vectors, computed = self._tastes
        if not computed[play]:
            plays = self.history[self.session[play]], self.events(play)[::-1]
            vectors[play] = self.model.taste(np.concatenate(plays))
            computed[play] = True
        vector: np.ndarray = vectors[play]
        return vector

    def fold_in(self, plays: np.ndarray) -> np.ndarray:
        """(n, d) vectors of the users before some plays, computed by several threads."""
        vectors, _ = self._tastes  # made before the threads start, so that they share it

        def block(first: int, last: int) -> None:
            for play in plays[first:last].tolist():
                self.taste(play)

        for _ in in_blocks(block, len(plays), PLAYS_A_BLOCK, "replay fold-in"):
            pass
        found: np.ndarray = vectors[plays]
        return found

    @cached_property
    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """(plays, 100) tracks that fit best what was played until then, and how well."""

        tastes = self.fold_in(np.arange(len(self)))

        def block(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
            out = [self.out(play) for play in range(first, last)]
            return self.model.nearest(tastes[first:last], LIST_LENGTH, out)

        blocks = [*in_blocks(block, len(self), PLAYS_A_BLOCK, "nearest")]
        tracks, scores = map(np.concatenate, zip(*blocks, strict=True))
        return tracks, scores

    @cached_property
    def offline_place(self) -> np.ndarray:
        """(plays,): where the track stands in the offline list just before; FAR if too far down."""
        result = np.full(len(self), FAR)
        for play in progress_bar(range(len(self)), "offline"):
            at = np.flatnonzero(self.weighed(play) == self.target[play])
            result[play] = at[0] if len(at) else FAR
        return result

    @cached_property
    def near_place(self) -> dict[str, np.ndarray]:
        """(plays, MOST_EVENTS) by source: where it stands among each event's neighbours, or FAR.

        Only neighbours that may be recommended count: a list is filtered before it is cut.
        """
        events = np.full((len(self), MOST_EVENTS), NOTHING, np.int64)
        for play in range(len(self)):
            found = self.events(play)[:MOST_EVENTS]
            events[play, : len(found)] = found
        row, age = np.nonzero(events != NOTHING)
        result = {}
        for source, lists in self.lists.items():
            place = _places(lists, events[row, age], self.target[row])
            found = np.flatnonzero(place < FAR)
            for play, places in groupby(found.tolist(), row.__getitem__):
                with self.exclusion.of(self.out(play)) as allowed:
                    for each in places:
                        start = lists.offsets[events[play, age[each]]]
                        may = allowed(lists.items[start : start + place[each] + 1])
                        place[each] = np.count_nonzero(may[:-1]) if may[-1] else FAR
            result[source] = np.full(events.shape, FAR)
            result[source][row, age] = place
        return result

    def near(self, rule: Blending) -> np.ndarray:
        """(plays,) bool: whether the track is among those that the events bring."""
        result = np.zeros(len(self), bool)
        for source in rule.weights():
            if source in self.lists:
                places = self.near_place[source][:, : rule.events]
                result |= (places < rule.neighbours).any(axis=1)
            elif rule.only_folds_in:
                nearest = self.nearest[0][:, : rule.neighbours]
                result |= (nearest == self.target[:, None]).any(axis=1)
        return result

    def hits(self, rule: Blending, alone: bool = False, name: str | None = None) -> np.ndarray:
        """(plays,) bool: whether the track is among the first K of the answer.

        Or of the online list alone. Without events the answer is the offline list.
        """
        possible = self.near(rule) | (self.offline_place < (0 if alone else WEIGHED))
        result: np.ndarray = (self.offline_place < K) & (self.at == 0) & (not alone)
        found = self.online_list if alone else self.answer
        plays = np.flatnonzero(possible & (self.at > 0))
        if "fold_in" in rule.weights() and not rule.only_folds_in:
            self.fold_in(plays)
        for play in progress_bar(plays, name, disable=not name):
            result[play] = self.target[play] in found(play, rule)
        return result

    def split(self) -> tuple["Sessions", "Sessions"]:
        """Return the plays of two thirds of the users, and the plays of the others."""
        others = (hashes(self.user_ids, SEED) % np.uint64(3) == 2)[self.session]
        return self.of(~others), self.of(others)

    def of(self, some: np.ndarray) -> "Sessions":
        """The same sessions, of whose plays only some are foreseen: (plays,) bool."""
        return replace(self, session=self.session[some], at=self.at[some])

    def exchanged(self) -> "Sessions":
        """The same with each session's events exchanged for those of one as long, or longer."""
        chance = np.random.default_rng(SEED).random(len(self.tracks))
        lengths = np.array([len(tracks) for tracks in self.tracks])
        order = np.lexsort((chance, lengths))
        others = np.empty(len(order), np.int64)
        others[order] = np.append(order[1:], order[-2:-1])
        return replace(self, events_of=others)


def read(window: Path, heard: str, most: int) -> Sessions:
    """The sessions of a window's holdout, or of users drawn at random with so many plays.

    Of users who have a final list there, or no past.

    A play of a track that the user has heard before can't be foreseen where heard is "exclude": it
    is an event only.
    """
    past = listens.load(window)
    lists = read_lists(tables.RECOMMENDATIONS, window, past.user_ids, past.track_ids)
    later = listens.load_holdout(window, past.track_ids)
    row = holdout.rows_in(past, later.user_ids)
    later = later.of_users(np.flatnonzero((row == COLD) | (lists[row, 0] != NOTHING)))
    plays = np.minimum(np.diff(later.starts), LONGEST)
    later = later.of_users(_drawn(later.user_ids, plays, most))
    row = holdout.rows_in(past, later.user_ids)
    final = lists[row]
    final[row == COLD] = NOTHING
    disliked = holdout.disliked_by(window, past, later.user_ids)
    out = holdout.kept_out(past, row, heard, disliked)
    at = place_in_row(np.diff(later.starts))
    foreseen = at < LONGEST
    if heard == "exclude":
        foreseen &= _first_plays(later) & ~accuracy.marked(out, later.user, later.item)
    out.sort_indices()
    return Sessions(
        lists={name: _neighbours(table, window, past.track_ids) for name, table in TABLES.items()},
        model=als_model.load_model(window, hyperparameters.load(window), past.ties),
        top=popularity.read_top(window, past.track_ids),
        ties=past.ties.places,
        user_ids=later.user_ids,
        tracks=np.split(later.item, later.starts[1:-1]),
        final=[found[found != NOTHING] for found in final],
        history=[
            NO_TRACKS if r == COLD else past.item[slice(*past.starts[r : r + 2])] for r in row
        ],
        heard=np.split(out.indices, out.indptr[1:-1]),
        kept_out=LONGEST if heard == "exclude" else RECENT_EVENTS,
        session=later.user[foreseen].astype(np.int64),
        at=at[foreseen],
        events_of=np.arange(len(row)),
    )


def _drawn(user_ids: np.ndarray, plays: np.ndarray, most: int) -> np.ndarray:
    """Users, ascending: all, or as many in the order of a hash as have `most` plays together."""
    order = sampling.order(user_ids, SEED)
    return np.sort(order[np.cumsum(plays[order]) - plays[order] < most])


def _first_plays(later: Listens) -> np.ndarray:
    """(listens,) bool: whether the user plays the track for the first time since the cut."""
    pairs = later.user.astype(np.int64) * later.shape[1] + later.item
    result = np.zeros(len(pairs), bool)
    result[np.unique(pairs, return_index=True)[1]] = True
    return result


def _neighbours(table: tables.Table, window: Path, track_ids: np.ndarray) -> Neighbours:
    """A file of track lists in the form that the service has them in."""
    key, item, _, score = table.schema.names
    rows = tables.read(table, window, [key, item, score])
    row, items = (
        ids.encode(rows[name].to_numpy(), track_ids, name, table, window) for name in (key, item)
    )
    offsets = offsets_of_sorted(row, len(track_ids))
    return Neighbours(offsets, items.astype(np.int32), rows[score].to_numpy())


def _places(lists: Neighbours, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n,): where each item stands in the list of the row beside it, or FAR."""
    n = len(lists.offsets) - 1
    place = place_in_row(np.diff(lists.offsets))
    table = csr_matrix((place + 1, lists.items, lists.offsets), (n, n))
    found = np.asarray(table[rows, items]).ravel() if len(rows) else np.zeros(0, np.int64)
    return np.where(found > 0, found - 1, FAR)
