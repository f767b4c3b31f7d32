"""Score tracks for a user by what others played next where they had played the same (sequence kNN).

A user's last plays are compared with all places in the histories of other users. A place is similar
to them if its track is among them. Its similarity adds up the weights of the plays at the place and
shortly before it whose tracks are among them, each times FADING for every step back. The weight of
a track is its rarity, times FADING for every play of the user after it. The user's last plays here
are A, B, C, all of them equally rare, with weights of 0.81, 0.9 and 1. A neighbour has played

    track        A      B                            X    C                           Y
    similarity   0.81   0.9 + 0.9 x 0.81 = 1.63      -    1 + 0.81 x 1.63 = 2.32      -

The plays that follow the most similar places are added up, so that Y gets 2.32 from the place of C
and 0.81 x 1.63 from that of B. The method is that of Garg et al., "Sequence and Time Aware
Neighborhood for Session-based Recommendations: STAN", 2019, with places in long histories instead
of sessions.

No user decides what another one gets: at most PLACES_OF_ONE places of one neighbour count.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from jobs.contract import compiling
from jobs.contract.ids import Ties, find, ties_of
from jobs.contract.ragged import entries_of, offsets_of, place_in_row
from jobs.contract.top_k import NOTHING
from jobs.data.bounds import TrackCounts
from jobs.data.listens import Listens
from jobs.models.next_played import following, step_weights, sums_of_rows
from jobs.models.ranked_lists import best_of_rows
from jobs.models.sparse import arrays
from jobs.models.user_neighbours import rarity_of, sample

LAST = 20  # last plays of a user that are compared, and plays before and after a place that count
FADING = 0.9  # what a play counts, if the play after it counts 1
PLACES = 300  # similar places that are taken for each user
PLACES_OF_ONE = 3  # of them, in the history of one neighbour


@dataclass(frozen=True)
class Histories:
    """The plays of a sample of the users, among which similar places are searched.

    A place is a position in the plays, which stand in order of user and time.
    """

    user_ids: np.ndarray  # (sample,) ascending
    item: np.ndarray  # (plays,) int32: the track at each place
    user: np.ndarray  # (plays + 1,) int32: the row in user_ids; NOTHING at the end, for NOTHING
    last: np.ndarray  # (plays,) int32: the place of the same user's last play
    starts: np.ndarray  # (items + 1,) int64: see `at`
    at: np.ndarray  # (plays,) int32: the places of track t, ascending, from starts[t] to [t + 1]
    rarity: np.ndarray  # (items,) float32: how much a play of a track counts
    ties: Ties  # the order in which equally similar places are taken

    @classmethod
    def of(cls, data: Listens, counted: np.ndarray, counts: TrackCounts) -> "Histories":
        """Draw the sample; counts are those of the users for whom counted (users,) is true.

        Comparing users with one of the sample takes as many steps as there are users who have
        played the track of a place lately, added up over the places (see user_neighbours.sample).
        """
        lately = np.zeros(data.shape[1])
        for block in data.blocks():
            lately += np.bincount(block.latest(LAST).item, minlength=len(lately))
        rows = sample(data, counted, lambda some: sums_of_rows(lately[some.item], some.starts))
        members = data.of_users(rows)
        places = np.arange(len(members.item), dtype=np.int32)
        by_track = csr_matrix((places, members.item, members.starts), members.shape).tocsc()
        return cls(
            members.user_ids,
            members.item,
            np.append(members.user, np.int32(NOTHING)),
            (members.starts[1:] - 1).astype(np.int32)[members.user],
            by_track.indptr.astype(np.int64),
            by_track.data,
            rarity_of(counted, counts),
            ties_of(places),
        )

    def scores(self, block: Listens) -> csr_matrix:
        """Return scores (users, items) float32 for a block of users."""
        places, weights = self.best_places(block)
        row, at = np.nonzero(places != NOTHING)
        place = places[row, at]
        starts = offsets_of(np.bincount(row, minlength=len(places)))
        plays = self.item, place, self.last[place], weights[row, at]
        return following(*plays, starts, step_weights(LAST, FADING), block.shape[1])

    def best_places(self, block: Listens) -> tuple[np.ndarray, np.ndarray]:
        """Return the most similar places (users, PLACES) and their similarities, the best first."""
        places, best = best_of_rows(self.similarities(block), 2 * PLACES, self.ties)
        left_out = _place_among_equals(self.user[places]) >= PLACES_OF_ONE
        places[left_out] = NOTHING
        order = np.argsort(left_out, axis=1, kind="stable")[:, :PLACES]  # the others keep theirs
        return np.take_along_axis(places, order, axis=1), np.take_along_axis(best, order, axis=1)

    def similarities(self, block: Listens) -> csr_matrix:
        """Return how similar each place is to the last plays of some users, (users, plays).

        No place of a user's own history is similar.
        """
        plays = block.latest(LAST).weights(0, np.log(0.5) / np.log(FADING))
        plays.data *= self.rarity[plays.indices]
        own = find(self.user_ids, block.user_ids)
        fading = step_weights(LAST, FADING)
        shape = len(own), len(self.item)
        if compiling.is_used():
            from jobs.models import kernels

            found = kernels.similar_places(
                arrays(plays), own, self.starts, self.at, self.user, fading
            )
            return csr_matrix((found[2], found[1], found[0]), shape)
        rows = []
        for row, start, end in zip(own, plays.indptr[:-1], plays.indptr[1:], strict=True):
            listed, counts = entries_of(self.starts, plays.indices[start:end])
            places, gains = self.at[listed], np.repeat(plays.data[start:end], counts)
            others = self.user[places] != row
            places, gains = places[others], gains[others]
            order = np.argsort(places)
            places = places[order]
            rows.append((places, similarities(places, gains[order], self.user[places], fading)))
        none = np.empty(0, np.int32), np.empty(0, np.float32)
        places, values = (np.concatenate(part) for part in zip(none, *rows, strict=True))
        return csr_matrix((values, places, offsets_of([len(part) for part, _ in rows])), shape)


def similarities(
    places: np.ndarray, gains: np.ndarray, users: np.ndarray, fading: np.ndarray
) -> np.ndarray:
    """Return how similar places (n,), ascending, are to a user's last plays, (n,) float32.

    The track of each place is among these, and counts gains (n,) there; users (n,) are those of the
    places. A place further back counts as much less as fading (LAST,) says.

    >>> places, gains, users = np.array([0, 1, 3]), np.array([0.81, 0.9, 1], "f4"), np.zeros(3)
    >>> similarities(places, gains, users, (0.9 ** np.arange(20)).astype("f4"))
    array([0.81   , 1.629  , 2.31949], dtype=float32)
    """
    result = gains.copy()
    for back in range(1, len(places)):
        gaps = places[back:] - places[:-back]
        near = (gaps < len(fading)) & (users[back:] == users[:-back])
        if not near.any():  # nor are there any further back, since places are ascending
            break
        at = np.flatnonzero(near)
        result[at + back] += fading[gaps[at]] * gains[at]
    return result


def _place_among_equals(values: np.ndarray) -> np.ndarray:
    """Return how often each value (rows, n) stands further left in its row, (rows, n).

    >>> _place_among_equals(np.array([[7, 5, 7, 7]])).tolist()
    [[0, 0, 1, 2]]
    """
    order = np.argsort(values, axis=1, kind="stable")
    sorted_ = np.take_along_axis(values, order, axis=1)
    new = np.ones(values.shape, bool)
    new[:, 1:] = sorted_[:, 1:] != sorted_[:, :-1]
    lengths = np.diff(np.flatnonzero(new), append=new.size)
    result = np.empty(values.shape, np.int64)
    np.put_along_axis(result, order, place_in_row(lengths).reshape(values.shape), axis=1)
    return result
