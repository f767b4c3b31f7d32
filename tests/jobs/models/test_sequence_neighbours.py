"""What others played next where they had played the same as the user's last plays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.data import bounds
from jobs.data.listens import Listens
from jobs.models import sequence_neighbours, user_neighbours
from jobs.models.sequence_neighbours import FADING, LAST, PLACES_OF_ONE, Histories
from tests.jobs.models.test_compiled_loops import both
from tests.jobs.models.test_user_neighbours import listens_of

TRACKS = 9
HISTORIES = st.lists(
    st.lists(st.integers(0, TRACKS - 1), min_size=1, max_size=40), min_size=2, max_size=12
)


def histories_of(data: Listens, counted: np.ndarray | None = None) -> Histories:
    counted = np.ones(data.shape[0], bool) if counted is None else counted
    return Histories.of(data, counted, bounds.track_counts(data, counted))


def scores(histories: list[list[int]], tracks: int, counted: np.ndarray | None = None):
    data = listens_of(histories, tracks)
    return histories_of(data, counted).scores(data).toarray()


def test_what_follows_the_same_plays_scores_the_more_the_more_of_them_there_were():
    found = scores([[0, 1], [0, 1, 2], [7, 1, 3], [7, 0], [8]], 9)
    assert found[0, 2] > found[0, 3] > 0
    assert found[0, [4, 5, 6, 8]].tolist() == [0, 0, 0, 0]
    assert found[4].tolist() == [0] * 9  # nobody else has played what this user has


def test_what_came_before_the_same_plays_does_not_score():
    found = scores([[0], [5, 0, 2], [6]], 7)
    assert found[0, 2] > 0 and found[0, 5] == 0


@given(HISTORIES)
def test_similarities_are_those_of_the_definition(histories):
    data = listens_of(histories, TRACKS)
    rarity = np.log((1 + len(histories)) / (1 + data.pairs().toarray().sum(axis=0)))
    expected = []
    for user, own in enumerate(histories):
        last = own[-LAST:][::-1]
        gains = {track: FADING ** last.index(track) * rarity[track] for track in last}
        for other, history in enumerate(histories):
            same = {i: gains[track] for i, track in enumerate(history) if track in gains}
            for i in range(len(history)):
                near = [FADING ** (i - j) * gain for j, gain in same.items() if 0 <= i - j < LAST]
                expected.append(sum(near) if other != user and i in same else 0)
    found = histories_of(data).similarities(data).toarray()
    assert found.ravel() == pytest.approx(expected, abs=1e-4)


@given(HISTORIES, st.integers(1, 12))
def test_scores_of_a_user_do_not_depend_on_who_else_is_in_the_block(histories, size):
    data = listens_of(histories, TRACKS)
    near, n = histories_of(data), data.shape[0]
    parts = [
        near.scores(data.of_users(np.arange(first, min(first + size, n)))).toarray()
        for first in range(0, n, size)
    ]
    assert np.array_equal(np.concatenate(parts), near.scores(data).toarray())


@given(HISTORIES)
def test_the_compiled_loop_gives_the_same_scores(histories):
    data = listens_of(histories, TRACKS)
    near = histories_of(data)
    plain, fast = both(lambda: near.scores(data).toarray())
    assert np.array_equal(plain, fast)


@given(HISTORIES)
def test_no_neighbour_has_more_than_its_share_of_the_places(histories):
    data = listens_of(histories, TRACKS)
    near = histories_of(data)
    places, similarities = near.best_places(data)
    for listed, values in zip(places, similarities, strict=True):
        owners = near.user[listed[listed >= 0]]
        assert np.bincount(owners, minlength=1).max() <= PLACES_OF_ONE
        assert (np.diff(values[listed >= 0]) <= 0).all()


def test_an_account_that_is_left_out_is_no_neighbour_but_has_neighbours():
    histories = [[0, 1], [0, 1, 2], [0, 1, 3], [5]]
    found = scores(histories, 6, np.array([True, True, False, True]))
    assert found[:, 3].tolist() == [0, 0, 0, 0]
    assert found[0, 2] > 0


def test_where_comparing_all_would_cost_too_much_places_come_from_fewer_users(monkeypatch):
    histories = [[user % 7, 7 + user % 5] for user in range(200)]
    data = listens_of(histories, 12)
    monkeypatch.setattr(user_neighbours, "FEWEST_USERS", 20)
    monkeypatch.setattr(user_neighbours, "MULTIPLICATIONS_A_USER", 1)
    sizes = []
    for most in (1 << 40, 6_000, 100):
        monkeypatch.setattr(user_neighbours, "MULTIPLICATIONS", most)
        near = histories_of(data)
        found = near.similarities(data)
        assert found.nnz <= most
        sizes.append(len(near.user_ids))
    assert sizes[0] == 200 > sizes[1] >= 20 and sizes[2] == 0
    assert near.scores(data).nnz == 0


def test_users_without_plays_get_nothing():
    assert scores([[], [0, 1], []], 3).sum() == 0


def test_the_key_of_a_compiled_loop_has_room_for_the_last_plays():
    from jobs.models import kernels

    assert sequence_neighbours.LAST <= kernels.LAST_PLAY + 1
